@egress
Feature: A server's list is enforced on its running pod
  The list of a server changes while its pod runs. What is added becomes reachable, what is removed
  stops being reachable for new connections, and the pod is never restarted for it.

  @EGR-01 @EGR-02 @EGR-04 @EGR-25 @EGR-26
  Scenario: Permit passes, unlisted blocked, live policy update
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" requests "https://api.unlisted-service.test/"
    Then the request is blocked by the server's own policy

    When the list of "weather" becomes "api.weather-service.test, api.unlisted-service.test"
    Then "https://api.unlisted-service.test/" becomes reachable from "weather" within the stated bound
    When the list of "weather" becomes "api.weather-service.test"
    Then "https://api.unlisted-service.test/" stops being reachable from "weather" within the stated bound
    And the pod of "weather" was not restarted

  @EGR-02 @EGR-04 @EGR-20
  Scenario: TLS that names no server matches no list
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" opens TLS to "collect.pkg-telemetry.test" without a server name
    Then the request is blocked by the server's own policy
