@egress
Feature: IPv6 is governed as IPv4 is
  Nothing that the orchestrator or its policy provider writes speaks of IPv6: the chart's NetworkPolicy lists IPv4 blocks
  alone, and the provider's destination group is 0.0.0.0/0. So a second address family has to be stopped elsewhere,
  and a report has to say where: by the NetworkPolicy on the node, or by the firewall's default action, never by
  the server's own rules. The gateway here stands in for the vendor's, whose treatment of IPv6 is not published.

  Background:
    Given the cluster is dual-stack
    And the firewall denies and logs what no policy permits

  @EGR-42
  Scenario: With the chart's NetworkPolicy, IPv6 of a server ends on the node
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the attacker's collector "collect.pkg-telemetry.test" is up over IPv6 and records what reaches it
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" tries over IPv6 each of
      | protocol | destination                | port |
      | tls      | collect.pkg-telemetry.test | 443  |
      | udp      | collect.pkg-telemetry.test | 443  |
      | tls      | api.weather-service.test   | 443  |
    Then each of them is stopped on the node by the NetworkPolicy "obot-mcp/mcp-egress-restrictions", before the firewall sees it

  # The list names a host that has an IPv6 address too: over IPv6 the list's rule does not apply, and the default decides.
  @EGR-02 @EGR-04 @EGR-42
  Scenario: Without it, IPv6 that no address rule permits falls to the default action
    Given the orchestrator's chart installs no NetworkPolicy
    And Tier 1 of the firewall holds the permits "one-ipv6-address"
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the attacker's collector "collect.pkg-telemetry.test" is up over IPv6 and records what reaches it
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" tries over IPv6 each of
      | protocol | destination                | port |
      | tls      | collect.pkg-telemetry.test | 443  |
      | udp      | collect.pkg-telemetry.test | 443  |
      | tls      | api.weather-service.test   | 443  |
      | tls      | echo.reflector.test        | 443  |
    Then each of them is blocked by the default action
    When the pod of "weather" tries over IPv6 each of
      | protocol | destination         | port |
      | http     | echo.reflector.test | 80   |
    Then each of them passes by the permits "one-ipv6-address" of Tier 1
