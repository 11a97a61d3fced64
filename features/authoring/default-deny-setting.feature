@authoring
Feature: The platform's default, and a server that says otherwise
  An administrator may deny all egress of servers that list nothing. A server that says in so many words that
  it does not deny keeps its way out; one that says nothing does not.

  @AUT-08
  Scenario: An explicit no to denying all egress outranks the default-deny setting
    Given the firewall denies and logs what no policy permits
    And the orchestrator's default-deny setting is on
    And the orchestrator runs the server "browser", which says that it does not deny all egress
    And the orchestrator runs the server "notes", which says nothing about egress
    When the pod of "browser" requests "https://api.unlisted-service.test/"
    Then the request completes and the gateway logged the permit
    When as a control, the pod of "browser" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "notes" requests "https://api.unlisted-service.test/"
    Then the request is blocked by the server's own policy

  @AUT-14
  Scenario: What flipping the default-deny setting does to servers that exist
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "notes", which says nothing about egress
    When the orchestrator restarts with its default-deny setting on, while "notes" runs and requests "https://api.unlisted-service.test/"
    Then it is recorded what became of the policy of "notes", and of its requests to "https://api.unlisted-service.test/"
