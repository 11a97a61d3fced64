@egress
Feature: Only TCP 443, and only listed names
  A list names domains and nothing else: no apex that merely resembles a wildcard, no look-alike that ends
  in the same letters, no other port of a listed domain, no UDP.

  Background:
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"

  @EGR-01 @EGR-07
  Scenario: A leading wildcard matches its subdomains
    When the pod of "portal" tries each of
      | protocol | destination                | port |
      | tls      | www.stolaf-hospital.test    | 443  |
      | tls      | portal.stolaf-hospital.test | 443  |
      | tls      | fhir.stolaf-hospital.test   | 443  |
    Then each of them completes and the gateway logged the permit

  @EGR-02 @EGR-04 @EGR-08
  Scenario: A leading wildcard matches neither the apex nor a look-alike
    When the pod of "portal" requests "https://www.stolaf-hospital.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "portal" tries each of
      | protocol | destination                                 | port |
      | tls      | stolaf-hospital.test                        | 443  |
      | tls      | evil-stolaf-hospital.test                   | 443  |
      | tls      | fhir.stolaf-hospital.test.attacker-zone.test | 443  |
    Then each of them is blocked by the rule "deny-all-external" of "portal"

  @EGR-02 @EGR-04 @EGR-10
  Scenario: A listed domain is not reachable on any other port
    When the pod of "portal" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "portal" tries each of
      | protocol | destination              | port |
      | http     | api.weather-service.test | 80   |
      | http     | api.weather-service.test | 8080 |
      | tls      | api.weather-service.test | 8443 |
      | tcp      | api.weather-service.test | 22   |
      | tcp      | api.weather-service.test | 53   |
      | tcp      | api.weather-service.test | 853  |
    Then each of them is blocked by the rule "deny-all-external" of "portal"

  @EGR-02 @EGR-04 @EGR-11
  Scenario: UDP is not egress, also for a listed domain
    When the pod of "portal" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "portal" tries each of
      | protocol | destination              | port |
      | udp      | api.weather-service.test | 443  |
      | udp      | api.weather-service.test | 53   |
      | udp      | 8.8.8.8                  | 53   |
    Then each of them is blocked by the rule "deny-all-external" of "portal"
