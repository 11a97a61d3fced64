@egress
Feature: Pods behind their node's address
  A node that puts its own address in the place of its Pods' makes every label-based rule match nothing. Then a
  permit that fails is no failure of the policy, and a denial is no proof of it: the suite has to see the condition
  and to name it.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-01 @PLT-01
  Scenario: Pod addresses reach the gateway as they are
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    And the gateway sees the pods' own addresses

  @EGR-41
  Scenario: Masquerade is named instead of blaming the policy
    Given the cluster masquerades its pods
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then masquerade is named, and no policy is blamed
