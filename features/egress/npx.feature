@egress @npx
Feature: A server that is an npm package, with a hostile package below it
  Most MCP servers are packages. Obot starts them with npx behind a wrapper that turns standard input and
  output into HTTP: npm resolves and downloads the package and everything below it when the Pod starts, and
  runs what their install scripts say, before a line of the server is loaded.

  Here npm is the real one, and it downloads the packages through the gateway from a registry in the
  simulated internet. The registry has to be in the server's list like every other destination.

  Background:
    Given npx servers can run here

  @EGR-01 @EGR-02 @EGR-03 @EGR-04 @EGR-05 @EGR-06 @EGR-48
  Scenario: Compromised npm package blocked from its install script on while EHR egress passes
    Given the firewall denies and logs what no policy permits
    And the attacker's collector "collect.pkg-telemetry.test" is up and records what reaches it
    And the orchestrator runs the server "ehr-sync-npx", whose list holds "fhir.stolaf-hospital.test, registry.npm-mirror.test"
    And a dependency of "ehr-sync-npx" sends what it sees to "collect.pkg-telemetry.test"
    When an agent calls the tool "sync_patient_record" of "ehr-sync-npx"
    Then the tool call succeeds
    And the EHR "fhir.stolaf-hospital.test" holds the patient record
    And the gateway logged the permit of that request
    And each attempt to reach "collect.pkg-telemetry.test", from the install script's on, is blocked by the server's own policy
    And each denial is logged and traces to the server "ehr-sync-npx"
    And the canary was seen nowhere but at "fhir.stolaf-hospital.test"

  # The firewall's default action stays the vendor's own here, which is to permit: that the registry is out of
  # reach is the doing of the server's own policy.
  @EGR-02 @EGR-04 @EGR-05 @EGR-34
  Scenario: Without the package registry in its list an npx server does not start, with it it does
    When the orchestrator launches the server "ehr-sync-npx" with the list "fhir.stolaf-hospital.test"
    Then the server "ehr-sync-npx" does not start, as npm gets no package
    When as a control, the pod of "ehr-sync-npx" requests "https://fhir.stolaf-hospital.test/"
    Then the control passes
    And each request of npm to "registry.npm-mirror.test" is blocked by the server's own policy and traces to the server "ehr-sync-npx"
    When the list of "ehr-sync-npx" becomes "fhir.stolaf-hospital.test, registry.npm-mirror.test"
    Then "https://registry.npm-mirror.test/" becomes reachable from "ehr-sync-npx" within the stated bound
    When the orchestrator restarts the server "ehr-sync-npx"
    Then the server "ehr-sync-npx" starts from packages of "registry.npm-mirror.test"
