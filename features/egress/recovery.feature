@egress
Feature: Enforcement outlives the parts that ordered it
  The policy controller stops, the orchestrator stops, the gateway restarts. What was enforced stays enforced,
  what was changed meanwhile is caught up with, and there is no instant at which a denied packet leaves.

  Background:
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"

  @EGR-04 @EGR-36
  Scenario: The policy controller stops, and catches up when it starts again
    Given the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    And the policy of "weather" is enforced
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the policy controller stops
    And the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    When the list of "weather" becomes "api.weather-service.test, api.unlisted-service.test"
    And the orchestrator deletes the server "portal"
    And the pod of "weather" requests "https://api.unlisted-service.test/"
    Then the request is blocked by the server's own policy

    When the policy controller starts again
    Then "https://api.unlisted-service.test/" becomes reachable from "weather" within the stated bound
    And nothing of "portal" is left in the orchestrator, the cluster or the firewall

  # The orchestrator's Tier 1 permits name its Pods by address. A new Pod has a new address: its permits break, and
  # nothing else does.
  @EGR-02 @EGR-04 @EGR-31 @EGR-37
  Scenario: The orchestrator stops, and comes back with a new address and everything it knew
    Given Tier 1 of the firewall holds the permits "orchestrator-addresses"
    And the policy of "weather" is enforced
    When the orchestrator's pod tries each of
      | protocol | destination       | port |
      | tls      | api.anthropic.com | 443  |
    Then each of them completes and the gateway logged the permit
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the orchestrator stops
    And the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "weather" requests "https://api.unlisted-service.test/"
    Then the request is blocked by the server's own policy

    When the orchestrator starts again
    Then the orchestrator still knows the server "weather"
    When the orchestrator's pod tries each of
      | protocol | destination       | port |
      | tls      | api.anthropic.com | 443  |
    Then the request is blocked by the default action
    When the pod of "weather" tries each of
      | protocol | destination               | port |
      | tls      | api.anthropic.com         | 443  |
      | tls      | api.unlisted-service.test | 443  |
    Then each of them is blocked by the server's own policy
    When the list of "weather" becomes "api.weather-service.test, api.unlisted-service.test"
    Then "https://api.unlisted-service.test/" becomes reachable from "weather" within the stated bound
    And the policy of "weather" is still the one that was enforced before

  # A gateway without a policy may have no rule to name in its log, so that this is judged by packets alone.
  @EGR-01 @EGR-38
  Scenario: The gateway restarts under load and stays closed
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the gateway restarts while the pod of "weather" keeps trying each of
      | protocol | destination                | port |
      | tls      | collect.pkg-telemetry.test | 443  |
      | http     | collect.pkg-telemetry.test | 80   |
      | udp      | collect.pkg-telemetry.test | 443  |
      | tls      | api.unlisted-service.test  | 443  |
    Then nothing denied left the gateway at any instant, and "https://api.weather-service.test/" passes again from "weather"
