@authoring
Feature: Domains that are written carelessly
  Spaces, capitals and repetitions are no error. Whether they are cleaned up on the way, and whether the
  gateway matches them if not, is an open question; the answer is recorded.

  @AUT-13
  Scenario: Whether domains are normalised, and whether un-normalised ones match
    Given the firewall denies and logs what no policy permits
    And the orchestrator runs the server "weather" with a list that is written as
      | written                     | how           |
      | "api.weather-service.test"  | plainly       |
      | "WWW.Stolaf-Hospital.TEST"  | with capitals |
      | "api.unlisted-service.test" | twice         |
      | "api.unlisted-service.test" | twice         |
    Then it is recorded how the policy of "weather" writes them, and which of them the gateway matches
    Given the orchestrator runs the server "portal" with a list that is written as
      | written                         | how         |
      | "api.weather-service.test"      | plainly     |
      | " portal.stolaf-hospital.test " | with spaces |
    Then it is recorded how the policy of "portal" writes them, and which of them the gateway matches
