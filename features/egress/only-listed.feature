@egress
Feature: Only TCP 443, and only listed names
  A list names domains and nothing else: no apex that merely resembles a wildcard, no look-alike that ends
  in the same letters, no other port of a listed domain, no UDP, no ICMP, no address without a name.

  Background:
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"

  @EGR-01 @EGR-06 @EGR-07
  Scenario: A leading wildcard matches its subdomains
    When the pod of "portal" tries each of
      | protocol | destination                 | port |
      | tls      | www.stolaf-hospital.test    | 443  |
      | tls      | portal.stolaf-hospital.test | 443  |
      | tls      | fhir.stolaf-hospital.test   | 443  |
    Then each of them completes and the gateway logged the permit

  @EGR-01 @EGR-07
  Scenario: Names are compared without regard to case
    Given the orchestrator runs the server "mixed-case", whose list holds "API.Weather-Service.test"
    When the pod of "mixed-case" tries each of
      | protocol | destination              | port |
      | tls      | api.weather-service.test | 443  |
      | tls      | API.WEATHER-SERVICE.TEST | 443  |
    Then each of them completes and the gateway logged the permit
    When the pod of "portal" tries each of
      | protocol | destination              | port |
      | tls      | Api.Weather-Service.Test | 443  |
      | tls      | WWW.StOlaf-Hospital.test | 443  |
    Then each of them completes and the gateway logged the permit

  @EGR-02 @EGR-04 @EGR-08
  Scenario: A leading wildcard matches neither the apex nor a look-alike
    When as a control, the pod of "portal" requests "https://www.stolaf-hospital.test/"
    Then the control passes
    When the pod of "portal" tries each of
      | protocol | destination                                    | port |
      | tls      | stolaf-hospital.test                           | 443  |
      | tls      | evil-stolaf-hospital.test                      | 443  |
      | tls      | evilstolaf-hospital.test                       | 443  |
      | tls      | fhir.stolaf-hospital.test.attacker-zone.test   | 443  |
      | tls      | FHIR.stolaf-hospital.test.Attacker-Zone.test   | 443  |
    Then each of them is blocked by the server's own policy

  @EGR-02 @EGR-04
  Scenario: A name that is listed in full matches nothing below it, above it or beside it
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" tries each of
      | protocol | destination                                 | port |
      | tls      | old.api.weather-service.test                | 443  |
      | tls      | weather-service.test                        | 443  |
      | tls      | xapi.weather-service.test                   | 443  |
      | tls      | api.weather-service.test.attacker-zone.test | 443  |
      | tls      | drop.attacker-direct.test                   | 443  |
    Then each of them is blocked by the server's own policy

  @EGR-04 @EGR-10
  Scenario: A listed domain is not reachable on any other port
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" tries each of
      | protocol | destination              | port |
      | http     | api.weather-service.test | 80   |
      | http     | api.weather-service.test | 8080 |
      | tls      | api.weather-service.test | 8443 |
      | tcp      | api.weather-service.test | 22   |
      | tcp      | api.weather-service.test | 53   |
      | tcp      | api.weather-service.test | 853  |
    Then each of them is blocked by the server's own policy

  @EGR-04 @EGR-11
  Scenario: UDP is not egress, also for a listed domain
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" tries each of
      | protocol | destination              | port |
      | udp      | api.weather-service.test | 443  |
      | udp      | api.weather-service.test | 53   |
      | udp      | 8.8.8.8                  | 53   |
    Then each of them is blocked by the server's own policy

  # A process in a Pod sends ICMP echo over a ping socket. Every other IP protocol takes a raw socket, and that takes
  # CAP_NET_RAW, which no server has: those packets are put on the Pod's wire from outside.
  @EGR-04 @EGR-12
  Scenario: ICMP and other IP protocols leave no pod that has a policy
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" tries each of
      | protocol | destination                | port |
      | icmp     | api.weather-service.test   | -    |
      | icmp     | collect.pkg-telemetry.test | -    |
      | icmp     | 8.8.8.8                    | -    |
    Then each of them is blocked by the server's own policy
    When a packet of IP protocol 47 leaves the pod of "portal" for "drop.attacker-direct.test"
    Then the request is blocked by the server's own policy
    When a packet of IP protocol 132 leaves the pod of "portal" for "evil-stolaf-hospital.test"
    Then the request is blocked by the server's own policy

  # A filter that reads ports from whole packets alone can be passed by what hides them.
  @EGR-02 @EGR-04
  Scenario: Fragments, source routes and data in a SYN leave no pod that has a policy
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the server's own policy
    When a fragmented datagram leaves the pod of "portal" for "drop.attacker-direct.test"
    Then the request is blocked by the server's own policy
    When a datagram with a source route leaves the pod of "portal" for "drop.attacker-direct.test"
    Then the request is blocked by the server's own policy
    When a SYN with data leaves the pod of "portal" for "drop.attacker-direct.test"
    Then the request is blocked by the server's own policy

  @EGR-02 @EGR-04 @EGR-20
  Scenario: An address without a listed name is no destination
    When as a control, the pod of "portal" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" tries each of
      | protocol           | destination                              | port |
      | tls                | 198.51.100.20                            | 443  |
      | tls without a name | api.weather-service.test                 | 443  |
      | tls                | 192.0.2.66                               | 443  |
      | tls                | 192.0.2.68 as drop.attacker-direct.test  | 443  |
      | tls                | 198.51.100.20 as drop.attacker-direct.test | 443  |
      | http               | api.unlisted-service.test                | 443  |
      | tcp                | collect.pkg-telemetry.test               | 443  |
    Then each of them is blocked by the server's own policy
