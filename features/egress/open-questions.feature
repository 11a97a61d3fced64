@egress
Feature: Open questions
  Where the documents say nothing, contradict each other or leave it to the product, the suite asks the system
  and records its answer with the evidence. An answer is never a failure.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-09
  Scenario: Does a leading wildcard match across several labels?
    Given the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    When as a control, the pod of "portal" requests "https://www.stolaf-hospital.test/"
    Then the control passes
    When the pod of "portal" requests "https://eu.api.stolaf-hospital.test/"
    Then it is recorded of each whether it passes: "does *.stolaf-hospital.test match two labels?"
    # A neighbour of that question: the vendor compares the Host header where there is no ClientHello.
    When the pod of "portal" tries each of
      | protocol | destination                 | port |
      | http     | legacy.stolaf-hospital.test | 443  |
    Then it is noted of each whether it passes: "does plain HTTP on 443 with a listed Host header pass?"

  @EGR-15 @EGR-16
  Scenario: Allow mode reaches every domain on 443; does it reach anything else?
    Given the orchestrator runs the server "notes", which says nothing about egress
    When the pod of "notes" tries each of
      | protocol | destination                | port |
      | tls      | api.weather-service.test   | 443  |
      | tls      | api.unlisted-service.test  | 443  |
      | tls      | collect.pkg-telemetry.test | 443  |
    Then each of them completes and the gateway logged the permit
    When as a control, the pod of "notes" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "notes" tries each of
      | protocol           | destination                | port |
      | tls without a name | api.weather-service.test   | 443  |
      | http               | api.weather-service.test   | 80   |
      | tls                | api.weather-service.test   | 8443 |
      | tcp                | api.weather-service.test   | 22   |
      | udp                | api.weather-service.test   | 443  |
      | udp                | drop.attacker-direct.test  | 123  |
      | icmp               | api.weather-service.test   | -    |
    Then it is recorded of each whether it passes: "in allow mode, does this pass too?"

  @EGR-27
  Scenario: Is a connection cut that was open before its domain was removed?
    Given the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" keeps a connection to "api.weather-service.test" open and goes on asking
    And the list of "portal" becomes "*.stolaf-hospital.test"
    Then "https://api.weather-service.test/" stops being reachable from "portal" within the stated bound
    And it is recorded whether the open connection was cut, and how soon

  @EGR-27
  Scenario: The same where the gateway decides live sessions anew
    Given the gateway decides live sessions anew after a change of policy
    And the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" keeps a connection to "api.weather-service.test" open and goes on asking
    And the list of "portal" becomes "*.stolaf-hospital.test"
    Then "https://api.weather-service.test/" stops being reachable from "portal" within the stated bound
    And it is recorded whether the open connection was cut, and how soon
