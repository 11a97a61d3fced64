@egress
Feature: Three tiers, in order
  An administrator's permits come first (Tier 1), then each server's own policy, then the default action. What
  stands in front wins: a permit of Tier 1 opens what a server's policy denies, and the default action only
  decides what nobody else did.

  @EGR-02 @EGR-04 @EGR-18 @EGR-22
  Scenario: The orchestrator's permits do not leak to MCP servers
    Given the firewall denies and logs what no policy permits
    And Tier 1 of the firewall holds the permits "orchestrator"
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When the orchestrator's pod tries each of
      | protocol | destination               | port |
      | tls      | api.anthropic.com         | 443  |
      | tls      | github.com                | 443  |
      | tls      | raw.githubusercontent.com | 443  |
      | tls      | charts.obot.ai            | 443  |
    Then each of them passes by the rule "allow-orchestrator-egress"
    When the pod of "weather" tries each of
      | protocol | destination               | port |
      | tls      | api.anthropic.com         | 443  |
      | tls      | github.com                | 443  |
      | tls      | raw.githubusercontent.com | 443  |
      | tls      | charts.obot.ai            | 443  |
    Then each of them is blocked by the rule "deny-all-external" of "weather"
