@egress
Feature: What nothing permits is denied, and logged
  Three ways to have no permission: a server that says so, a server that says nothing on a platform
  whose default is to deny, and a pod that no policy knows. In each scenario another server reaches the
  same destination on the same path, so that silence is not mistaken for a block.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-02 @EGR-04 @EGR-05 @EGR-13
  Scenario: A deny-all server has no egress at all
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "vault", which denies all egress
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "vault" tries each of
      | protocol | destination                | port |
      | tls      | api.weather-service.test   | 443  |
      | http     | api.weather-service.test   | 80   |
      | tls      | collect.pkg-telemetry.test | 8443 |
      | udp      | collect.pkg-telemetry.test | 443  |
      | udp      | 8.8.8.8                    | 53   |
    Then each of them is blocked by the server's own policy
    And each denial is logged and traces to the server "vault"

  @EGR-02 @EGR-04 @EGR-14
  Scenario: With the default-deny setting on, a server that lists nothing has no egress
    Given the orchestrator's default-deny setting is on
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "notes", which says nothing about egress
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "notes" requests "https://api.weather-service.test/"
    Then the request is blocked by the server's own policy
    And each denial is logged and traces to the server "notes"

  @EGR-02 @EGR-04 @EGR-17
  Scenario: A pod that no policy selects falls to the default action
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And a pod "stray" runs in the servers' namespace without any policy
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod "stray" requests "https://api.weather-service.test/"
    Then the request is blocked by the default action
