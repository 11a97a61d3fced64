@egress
Feature: One server's list holds for that server alone
  The gateway knows a server by the address of its Pod. Addresses change and come back: a Pod is replaced,
  another server's Pod gets the address it left. Whatever happens to addresses, a Pod has the permissions of
  its own server, from its first packet on.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-02 @EGR-04 @EGR-05 @EGR-28
  Scenario: Two servers on one node keep to their own lists
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"

    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" requests "https://fhir.stolaf-hospital.test/"
    Then the request is blocked by the server's own policy
    And each denial is logged and traces to the server "weather"

    When as a control, the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the control passes
    When the pod of "ehr-sync" requests "https://api.weather-service.test/"
    Then the request is blocked by the server's own policy
    And each denial is logged and traces to the server "ehr-sync"

  # The orchestrator makes a server's policy before its Deployment, and that must hold. Nothing makes the Pod wait for
  # the firewall: where its first packet comes before the gateway enforces the policy for its address, the default
  # action decides, and the time until then is reported as a finding. In either case no packet to an unlisted
  # destination may leave.
  @EGR-02 @EGR-04 @EGR-29 @EGR-30 @EGR-33
  Scenario: A Pod is governed from its first packet, whatever address it gets
    Given a new pod takes the lowest free address that was not its own server's
    And the orchestrator is given the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"
    Then the orchestrator has a policy for "ehr-sync" before anything of it runs
    When the server "ehr-sync" is launched
    And as a control, the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the control passes
    And the policy of "ehr-sync" was in force before its pod sent its first packet
    And each attempt of the pod of "ehr-sync" to reach "collect.pkg-telemetry.test" at start-up is blocked

    When the pod of "ehr-sync" is deleted, and its Deployment starts another
    And as a control, the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the control passes
    And the new pod of "ehr-sync" has another address
    And the policy of "ehr-sync" was in force before its pod sent its first packet
    And each attempt of the pod of "ehr-sync" to reach "collect.pkg-telemetry.test" at start-up is blocked

    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    Then the pod of "weather" holds an address that a pod of "ehr-sync" held
    When as a control, the pod of "weather" requests "https://api.weather-service.test/"
    Then the control passes
    When the pod of "weather" requests "https://fhir.stolaf-hospital.test/"
    Then the request is blocked by the server's own policy

  @EGR-02 @EGR-04 @EGR-30
  Scenario: A Pod without a policy inherits none with its address
    Given a new pod takes the lowest free address that was not its own server's
    And the orchestrator runs the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"
    When as a control, the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the control passes
    When the pod of "ehr-sync" is deleted, and its Deployment starts another
    Given a pod "stray" runs in the servers' namespace without any policy
    Then the pod "stray" holds an address that a pod of "ehr-sync" held
    When the pod "stray" requests "https://fhir.stolaf-hospital.test/"
    Then the request is blocked by the default action
