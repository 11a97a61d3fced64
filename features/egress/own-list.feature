@egress
Feature: A server cannot use the orchestrator against its own list
  The lists are kept by the orchestrator, and every server can reach the orchestrator's API: the network lets them call
  it. What keeps a compromised server from writing itself a longer list, or from calling another server that may reach
  more, is the orchestrator's authentication. It is off as published.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-45
  Scenario: A server that asks the orchestrator for a longer list is refused
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "vault", which denies all egress
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes

    When the pod of "vault" asks the orchestrator to add "collect.pkg-telemetry.test" to the lists of "vault" and "weather"
    Then the orchestrator refuses it, and nothing about "vault" and "weather" has changed
    When the pod of "weather" asks the orchestrator to add "collect.pkg-telemetry.test" to the lists of "weather" and "vault"
    Then the orchestrator refuses it, and nothing about "weather" and "vault" has changed

    When the pod of "vault" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the server's own policy
    When the pod of "weather" requests "https://collect.pkg-telemetry.test/"
    Then the request is blocked by the server's own policy

  # The published default. What it shows is a finding about EGR-45, which the scenario above shows.
  Scenario: Without authentication a server writes its own list
    Given the orchestrator's authentication is off
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "vault", which denies all egress
    When the pod of "vault" asks the orchestrator to add "collect.pkg-telemetry.test" to the lists of "vault" and "weather"
    Then it is a finding that the pod of "vault" reaches "collect.pkg-telemetry.test" by a list of its own making

  @EGR-47
  Scenario: A server cannot use another server as a relay
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    When as a control, an agent has "portal" fetch from "www.stolaf-hospital.test"
    When the pod of "weather" has "portal" fetch from "www.stolaf-hospital.test" through the orchestrator
    Then the orchestrator refuses it, and nothing of it leaves through "portal"
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" calls the server "portal" directly
    Then each of them is stopped on the node by the NetworkPolicy "obot-mcp/mcp-egress-restrictions", before the firewall sees it

  # As above, about EGR-47.
  Scenario: Without authentication a server uses another one as a relay
    Given the orchestrator's authentication is off
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    When the pod of "weather" has "portal" fetch from "www.stolaf-hospital.test" through the orchestrator
    Then it is a finding that the pod of "weather" reaches "www.stolaf-hospital.test" through "portal"
