@platform
Feature: What stands on the firewall's controller before the first server runs
  The architecture's design table: SmartGroups with their scope, WebGroups with the appendix's domains of the cloud, the
  permits of Tier 1 in their order, the default action, the log's way to CoPilot. Applied and read back over the vendor's
  HTTP API.

  @PLT-05 @PLT-06 @PLT-07
  Scenario Outline: Groups, permits, default action, log and CoPilot are as designed on <cloud>
    Given the platform is set up as its design has it on "<cloud>"
    Then the controller has the groups, the permits and the default action of the design
    And the controller forwards its log to CoPilot, and knows both addresses of CoPilot
    Given a pod "stray" runs in the servers' namespace without any policy
    When the pod "stray" requests "https://api.unlisted-service.test/"
    Then the record of that reaches CoPilot

    Examples:
      | cloud |
      | eks   |
      | aks   |
