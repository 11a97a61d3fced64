@egress
Feature: Three tiers, in order
  An administrator's permits come first (Tier 1), then each server's own policy, then the default action. What
  stands in front wins: a permit of Tier 1 opens what a server's policy denies, and the default action only
  decides on what no rule before it matched.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-02 @EGR-04 @EGR-18 @EGR-20
  Scenario: Tier 1 comes before a server's policy, and that before the default action
    Given Tier 1 of the firewall holds the permits "partner"
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "vault", which denies all egress
    And a pod "stray" runs in the servers' namespace without any policy
    When the pod of "vault" tries each of
      | protocol           | destination                 | port |
      | tls                | partner.clearing-house.test | 443  |
      | tls                | 198.51.100.31               | 443  |
    Then each of them passes by the permits "partner" of Tier 1
    When the pod "stray" requests "https://partner.clearing-house.test/"
    Then the request passes by the permits "partner" of Tier 1
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request passes by the server's own policy
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "vault" tries each of
      | protocol | destination              | port |
      | tls      | api.weather-service.test | 443  |
      | tls      | 198.51.100.20            | 443  |
    Then each of them is blocked by the server's own policy
    When the pod "stray" requests "https://api.weather-service.test/"
    Then the request is blocked by the default action

  @EGR-04 @EGR-19
  Scenario: The default action denies and logs, and is in no policy list
    Given Tier 1 of the firewall holds the permits "orchestrator"
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And a pod "stray" runs in the servers' namespace without any policy
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    And the default action is a rule of its own: it denies, it logs, and it is in no policy list
    When the pod "stray" tries each of
      | protocol | destination              | port |
      | tls      | api.weather-service.test | 443  |
      | http     | api.weather-service.test | 80   |
      | udp      | 8.8.8.8                  | 53   |
    Then each of them is blocked by the default action

  @EGR-21
  Scenario: The API server is reached through its ClusterIP by a permit of Tier 1 alone
    Given the API server lies beyond the gateway
    And Tier 1 of the firewall holds the permits "api-server"
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When the pod of "weather" calls the Kubernetes API through its ClusterIP
    Then the API server answers, by the permits "api-server" of Tier 1 and without a server name
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the permits "api-server" are taken off Tier 1 of the firewall
    And the pod of "weather" calls the Kubernetes API through its ClusterIP
    Then the request is blocked by the server's own policy
    When Tier 1 of the firewall holds the permits "api-server" again
    And the pod of "weather" calls the Kubernetes API through its ClusterIP
    Then the API server answers, by the permits "api-server" of Tier 1 and without a server name

  @EGR-02 @EGR-04 @EGR-22
  Scenario: The orchestrator's permits do not leak to MCP servers
    Given Tier 1 of the firewall holds the permits "orchestrator"
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When the orchestrator's pod tries each of
      | protocol | destination               | port |
      | tls      | api.anthropic.com         | 443  |
      | tls      | github.com                | 443  |
      | tls      | raw.githubusercontent.com | 443  |
      | tls      | charts.obot.ai            | 443  |
    Then each of them passes by the permits "orchestrator" of Tier 1
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" tries each of
      | protocol | destination               | port |
      | tls      | api.anthropic.com         | 443  |
      | tls      | github.com                | 443  |
      | tls      | raw.githubusercontent.com | 443  |
      | tls      | charts.obot.ai            | 443  |
    Then each of them is blocked by the server's own policy

  @EGR-23 @EGR-24
  Scenario Outline: Cluster infrastructure on <cloud> is reachable, and so is a bucket that the attacker owns there
    Given Tier 1 of the firewall holds the permits "infrastructure-<cloud>"
    And the orchestrator runs the server "vault", which denies all egress
    When the node requests every domain of "infrastructure-<cloud>" over TLS
    Then each request of the node passes by the permits "infrastructure-<cloud>" of Tier 1
    When the pod of "vault" requests every domain of "infrastructure-<cloud>" over TLS
    Then each of them passes by the permits "infrastructure-<cloud>" of Tier 1
    When as a control, the pod of "vault" requests "https://charts.obot.ai/"
    Then the control passes
    When the pod of "vault" requests "https://<bucket>/"
    Then it is blocked by the server's own policy, or a finding that "<control>" compensates for

    Examples:
      | cloud | bucket                                  | control                                                                                       |
      | eks   | attacker-drop.s3.amazonaws.com          | a VPC endpoint for S3 with a bucket policy, or the cluster's own buckets in place of the wildcard |
      | aks   | attackerdrop.blob.core.windows.net      | private endpoints for storage, or the cluster's own accounts in place of the wildcard         |
