@egress
Feature: A name decides, however its ClientHello is sent
  A filter that looks at one segment, at one record or at the letters alone is easily talked past. What a
  client sends in pieces, or in capitals, counts like any other ClientHello; what is no ClientHello names no
  domain, and no list holds it.

  @EGR-01 @EGR-02 @EGR-04 @EGR-06
  Scenario: A ClientHello in pieces or in capitals is judged by its name
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" tries each of
      | protocol      | destination                | port |
      | tls-segments  | collect.pkg-telemetry.test | 443  |
      | tls-records   | collect.pkg-telemetry.test | 443  |
      | tls-uppercase | collect.pkg-telemetry.test | 443  |
      | tcp           | collect.pkg-telemetry.test | 443  |
      | tcp           | api.weather-service.test   | 443  |
    Then each of them is blocked by the server's own policy
    When the pod of "weather" tries each of
      | protocol      | destination              | port |
      | tls-segments  | api.weather-service.test | 443  |
      | tls-records   | api.weather-service.test | 443  |
      | tls-uppercase | api.weather-service.test | 443  |
    Then each of them completes and the gateway logged the permit
