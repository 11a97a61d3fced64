@authoring
Feature: A rejected update changes nothing
  An edit that is refused must not be half in force: not in the manifest, not in the policy, not at the
  gateway, and the pod runs on.

  @AUT-12
  Scenario: A rejected update leaves manifest, policy, pod and enforcement as they were
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When a user asks for the list "collect.pkg-telemetry.test, 192.0.2.66" of "weather"
    Then the update is rejected for "egressDomains[1]", and nothing about "weather" has changed
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "weather" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the server's own policy
