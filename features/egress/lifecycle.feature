@egress
Feature: A policy lives as long as its server, and as the orchestrator wrote it
  A server that is deleted takes its policy with it. A policy object that somebody edits or deletes by hand is
  put back. What the firewall enforces is what the orchestrator says, no more and no longer.

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
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit

    When somebody edits the policy of "weather" so that it permits "collect.pkg-telemetry.test"
    Then the policy of "weather" is put back as it was, and enforced
    When the pod of "weather" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the rule "deny-all-external" of "weather"

    When somebody deletes the policy of "weather"
    Then the policy of "weather" is put back as it was, and enforced
    When the pod of "weather" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the rule "deny-all-external" of "weather"

    Then a field "watch" that is added to the rule "deny-all-external" of "weather" by hand is taken away or not

  @EGR-01 @EGR-43
  Scenario: Two policies that select one Pod
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    Then a second policy for the pods of "weather" that permits "api.unlisted-service.test" has the same effect in either order of creation
