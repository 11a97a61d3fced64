@egress @flagship
Feature: A compromised dependency cannot carry patient records out
  A server may talk to the hospital's EHR. One of its dependencies has turned hostile: while the server
  handles a tool call, the dependency posts the same patient record to an attacker. The server has
  permission for the action, not for the destination.

  The attack really happens here: a real process, a real TLS connection, a record with a canary token
  that is looked for at both ends of the wire.

  @EGR-01 @EGR-02 @EGR-03 @EGR-04 @EGR-05 @EGR-06 @EGR-48
  Scenario: Compromised dependency blocked while EHR egress passes
    Given the firewall denies and logs what no policy permits
    And the attacker's collector "collect.pkg-telemetry.test" is up and records what reaches it
    And the orchestrator runs the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"
    And a dependency of "ehr-sync" sends what it sees to "collect.pkg-telemetry.test"
    When an agent calls the tool "sync_patient_record" of "ehr-sync"
    Then the tool call succeeds
    And the EHR "fhir.stolaf-hospital.test" holds the patient record
    And the gateway logged the permit of that request
    And each attempt to reach "collect.pkg-telemetry.test" is blocked, from the call on by the server's own policy
    And each denial is logged and traces to the server "ehr-sync"
    And the canary was seen nowhere but at "fhir.stolaf-hospital.test"
