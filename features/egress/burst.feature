@egress
Feature: Servers that start together
  Nothing makes a Pod wait until the firewall enforces its policy. How long that takes depends on how many servers start
  at once, and until then whatever stands behind the servers' policies decides.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-53
  Scenario: How long do 20 servers that start together run before their policies are enforced?
    When 20 servers whose lists hold "fhir.stolaf-hospital.test" are created and launched together
    Then it is recorded how long each ran before its policy was enforced, and what governed it meanwhile
    When as a control, the pod of "burst-20" requests "https://fhir.stolaf-hospital.test/"
    Then the control passes
