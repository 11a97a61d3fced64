@authoring
Feature: A list becomes a policy, and the policy becomes a firewall policy
  What a user writes in a manifest is what the firewall is told: one policy per server, one firewall policy
  per policy, each leading back to where it came from.

  @AUT-01 @AUT-09 @AUT-10
  Scenario: Every server with a pod has one policy, and one firewall policy that says the same
    When a user creates servers
      | runtime       | domains                                          | denyAllEgress |
      | npx           | fhir.stolaf-hospital.test, *.weather-service.test |               |
      | uvx           | registry.npm.test, api.weather-service.test      |               |
      | containerized | www.stolaf-hospital.test                         | false         |
      | containerized |                                                  |               |
      | npx           |                                                  | true          |
    Then each of them has exactly one policy, with its name, selector, domains and deny flag
    And each policy became the firewall policy that it calls for, in the servers' namespace

  @AUT-11
  Scenario: The policy provider is installed as a release
    Then the policy provider is an installed release, and its pod is ready

  @AUT-15
  Scenario: A policy that selects nothing is refused, and the reason is given
    When a policy without a selector is written into the orchestrator's storage, and then one with a selector
    Then only the second becomes a firewall policy, and the provider says why the first does not
