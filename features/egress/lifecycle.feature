@egress
Feature: A policy lives as long as its server, and as the orchestrator wrote it
  The policy of a server is deleted with the server. A policy object that is edited or deleted by hand is put back. The
  firewall enforces what the orchestrator wrote, no more and no longer.

  Background:
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"

  @EGR-01 @EGR-32 @EGR-35
  Scenario: A deleted server leaves nothing behind, and a remote server never had anything
    Given the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    And the orchestrator knows the remote server "directory"
    Then there is no policy and no pod of the remote server "directory"
    When the orchestrator deletes the server "portal"
    Then nothing of "portal" is left in the orchestrator, the cluster or the firewall
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit

  @EGR-02 @EGR-04 @EGR-39 @EGR-40
  Scenario: A policy that is edited or deleted by hand is put back
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes

    When an administrator edits the policy of "weather" so that it permits "collect.pkg-telemetry.test"
    Then the policy of "weather" is put back as it was, and enforced
    When the pod of "weather" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the server's own policy

    When an administrator deletes the policy of "weather"
    Then the policy of "weather" is put back as it was, and enforced
    When the pod of "weather" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the server's own policy

    When an administrator adds the field "watch" to the denying rule of "weather"
    Then it is recorded whether the field "watch" is taken away

  @EGR-43
  Scenario: Two policies that select one Pod
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When an administrator adds a second policy for the pods of "weather" that permits "api.unlisted-service.test", once as the younger and once as the older of the two
    Then the same policy decides in either order of creation, and the second permits nothing that the first denies
