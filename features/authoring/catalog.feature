@authoring
Feature: Catalog entries and multi-user servers carry egress lists, too
  Users make servers from entries of a catalog, and several users share a multi-user server. Both have a list, and it is
  confined as any other. A change of an entry is offered to the servers that were made from it; until their users take it,
  their lists stay.

  @AUT-17
  Scenario: A list comes from the catalog, and follows the catalog only when the user says so
    When an administrator adds a catalog entry and a multi-user server that list "api.weather-service.test, *.stolaf-hospital.test", and a user makes a server from the entry
    Then each of them has exactly one policy, with its name, selector, domains and deny flag
    And each policy became the firewall policy that it calls for, in the servers' namespace
    When an administrator changes the list of the entry to "portal.stolaf-hospital.test"
    Then the server of the entry is reported to be outdated, and the multi-user server is not
    And each of them has exactly one policy, with its name, selector, domains and deny flag
    When the user updates the server from the entry, whose list is "portal.stolaf-hospital.test"
    Then the server of the entry is up to date
    And each of them has exactly one policy, with its name, selector, domains and deny flag
