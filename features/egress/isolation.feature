@egress
Feature: One server's list is nobody else's
  The gateway knows a server by the address of its Pod. Addresses change and come back: a Pod is replaced,
  another server's Pod gets the address it left. Whatever happens to addresses, a Pod has the permissions of
  its own server, from its first packet on.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-02 @EGR-04 @EGR-05 @EGR-28
  Scenario: Two servers on one node keep to their own lists
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    And the orchestrator runs the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"

    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "weather" requests "https://fhir.stolaf-hospital.test/"
    Then the request is blocked by the rule "deny-all-external" of "weather"
    And each denial is logged and traces to the server "weather"

    When the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "ehr-sync" requests "https://api.weather-service.test/"
    Then the request is blocked by the rule "deny-all-external" of "ehr-sync"
    And each denial is logged and traces to the server "ehr-sync"

  # The orchestrator orders policy object and workload: the policy exists before the Deployment does, and a Pod
  # that sends before the gateway enforces its policy contradicts EGR-33. Nothing orders the Pod's address and its
  # first packet: packets that come before the firewall has learned the address are decided by the default action,
  # which is a finding with its figure. In either case no packet to an unlisted destination may leave.
  @EGR-02 @EGR-04 @EGR-29 @EGR-30 @EGR-33
  Scenario: A Pod is governed from its first packet, whatever address it gets
    Given a new pod takes the lowest address that is free
    And the orchestrator runs the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"
    And a dependency of "ehr-sync" sends what it sees to "collect.pkg-telemetry.test"
    Then the policy of "ehr-sync" was in force before its pod sent its first packet

    When the pod of "ehr-sync" is deleted, and its Deployment starts another
    Then the new pod of "ehr-sync" has another address
    And the policy of "ehr-sync" was in force before its pod sent its first packet
    When the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the request completes and the gateway logged the permit
    And each attempt of the new pod of "ehr-sync" to reach "collect.pkg-telemetry.test" at start-up is blocked

    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    Then the pod of "weather" holds an address that a pod of "ehr-sync" held
    When the pod of "weather" requests "https://api.weather-service.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "weather" requests "https://fhir.stolaf-hospital.test/"
    Then the request is blocked by the rule "deny-all-external" of "weather"

  @EGR-02 @EGR-04 @EGR-30
  Scenario: A Pod without a policy inherits none with its address
    Given a new pod takes the lowest address that is free
    And the orchestrator runs the server "ehr-sync", whose list holds "fhir.stolaf-hospital.test"
    When the pod of "ehr-sync" requests "https://fhir.stolaf-hospital.test/"
    Then the request completes and the gateway logged the permit
    When the pod of "ehr-sync" is deleted, and its Deployment starts another
    Given a pod "stray" runs in the servers' namespace without any policy
    Then the pod "stray" holds an address that a pod of "ehr-sync" held
    When the pod "stray" requests "https://fhir.stolaf-hospital.test/"
    Then the request is blocked by the default action
