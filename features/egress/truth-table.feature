@egress
Feature: Drawn flows come to what the documents say

  Policies and flows are drawn from a seed: lists with wildcards and capitals, deny-all, no list; look-alikes, other
  hosts' names, no name, other ports and protocols. A model that was written from the documents alone says what each
  flow ought to come to. "containment fuzz-policy" does the same for any seed, and shrinks what differs.

  @EGR-01 @EGR-02 @EGR-04 @EGR-06 @EGR-11 @EGR-12 @EGR-17 @EGR-20 @EGR-48
  Scenario: Drawn flows under drawn policies come to what the documents say
    When 84 flows under policies of 3 servers are drawn from seed 2 and sent
    Then each of them comes to what the documents say
