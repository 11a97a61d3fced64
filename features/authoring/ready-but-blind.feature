@authoring
Feature: A policy controller that reports ready may be blind
  Its health says that it has started, not that it sees the orchestrator's policies. Whoever trusts readiness believes that a
  new server is confined by its list. What confines it then is the firewall's default action, and a request of its pod shows
  it.

  @AUT-16
  Scenario Outline: Ready is not enforced: the policy controller starts while <what>
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the policy controller starts again while <what>
    Given the orchestrator is given the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"
    When the server "ehr-sync" is launched
    And the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the request is blocked by the default action
    And the policy controller reports ready, and has made nothing of the policy of "ehr-sync"

    Examples:
      | what                                       |
      | the orchestrator's storage is out of reach |
      | its key is refused                         |
      | the API server is out of reach             |
