@egress
Feature: One server's load leaves the egress of the others alone
  The gateway holds a connection until its ClientHello names a destination, and remembers what it denied. Both take
  room, and the room that one server fills must not be that of the others.

  Background:
    Given the firewall denies and logs what no policy permits

  # As many connections as hold more than the gateway's whole room for ClientHellos that are not complete.
  @EGR-50
  Scenario: A server that floods the gateway takes no egress from another
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "portal" holds 4300 connections to "collect.pkg-telemetry.test" that never finish a ClientHello, and sends 400 datagrams
    And the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    And what is refused of the load of "portal" is recorded
