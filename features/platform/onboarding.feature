@platform
Feature: The firewall's controller works with the cluster
  A controller that does not see the cluster enforces nothing of its policies, and says so nowhere. A canary does: a
  policy object whose status the controller has to fill.

  @PLT-02 @PLT-04
  Scenario: A canary policy is reconciled, mirrored on the controller, and gone with its object
    Given the platform is set up as its design has it on "eks"
    Then the cluster is registered, and has the types of the firewall
    And a canary policy "canary" is reconciled, and the controller lists what it made of it
    And nothing of the canary policy "canary" is listed once it is deleted

  @PLT-04 @PLT-09
  Scenario: After a restart of its controller the firewall still works with the cluster
    Given the platform is set up as its design has it on "aks"
    Then the features that Kubernetes policies need are on
    When the firewall's controller restarts
    Then the features that Kubernetes policies need are on
    And a canary policy "canary" is reconciled, and the controller lists what it made of it
