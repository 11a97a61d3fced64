@egress
Feature: A policy is replaced in one instant
  Each change of a list gives the gateway a new policy as a whole. Between the old policy and the new one there must be
  no instant without a policy, and none with a policy that is half of each: connection after connection is tried while
  lists change.

  Background:
    Given the firewall denies and logs what no policy permits

  # The requests for the listed name are the controls of those for the unlisted one.
  @EGR-49
  Scenario: Replacing policies lets nothing denied pass and nothing permitted be denied
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "portal", whose list holds "*.stolaf-hospital.test, api.weather-service.test"
    When the lists of "weather" and "portal" are replaced 20 times, while the pod of the first goes on requesting "api.weather-service.test" and "api.unlisted-service.test"
    Then each request for the listed name passed and none for the unlisted one did, at any instant
