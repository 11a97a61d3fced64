@platform
Feature: The orchestrator's API is no open door
  Pods of the servers' namespace reach the orchestrator's API, because their servers have to. It must ask them for a login
  all the same: who may call it may write egress lists.

  @PLT-10
  Scenario: The orchestrator's API demands authentication from pods of the servers' namespace
    Given the firewall denies and logs what no policy permits
    And a pod "stray" runs in the servers' namespace without any policy
    When the pod "stray" calls the orchestrator's API without a login
      | method | path                                   |
      | GET    | /api/version                           |
      | GET    | /api/me                                |
      | GET    | /api/mcp-servers                       |
      | POST   | /api/mcp-servers                       |
      | PUT    | /api/mcp-servers/ms1aaaaa              |
      | DELETE | /api/mcp-servers/ms1aaaaa              |
      | POST   | /api/mcp-servers/ms1aaaaa/launch       |
      | POST   | /api/mcp-servers/ms1aaaaa/reveal       |
      | GET    | /api/mcp-servers/ms1aaaaa/logs         |
      | GET    | /api/k8s-settings                      |
      | GET    | /api/mcp-catalogs/default/servers      |
      | POST   | /api/mcp-catalogs/default/entries      |
      | POST   | /api/api-keys                          |
      | POST   | /mcp-connect/ms1aaaaa                  |
    Then each call is refused for want of a login
