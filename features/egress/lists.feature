@egress
Feature: A list is enforced as it is written, however long it is and however often it changes
  The policy provider turns a list into a firewall policy. A long list must not become a wider one, and an update must
  leave nothing behind of the list before it.

  Background:
    Given the firewall denies and logs what no policy permits

  @EGR-01 @EGR-02 @EGR-04 @EGR-51
  Scenario: Lists of 1, 20 and 200 domains are enforced as written
    Given the orchestrator runs the server "one-name", whose list holds 1 generated name
    And the orchestrator runs the server "twenty-names", whose list holds 20 generated names
    And the orchestrator runs the server "two-hundred-names", whose list holds 200 generated names
    When each of these servers requests the first, the middle and the last name of its list
    Then each of them completes and the gateway logged the permit
    When as a control, the pod of "one-name" requests "https://host-001.generated-list.test/"
    Then the control passes
    When each of these servers requests names that only resemble those of its list
    Then each of them is blocked by its own server's policy

  @EGR-01 @EGR-02 @EGR-04 @EGR-52
  Scenario: After every update the FirewallPolicy equals the list
    Given the orchestrator runs the server "weather", whose list holds "api.weather-service.test"
    Then the FirewallPolicy of "weather" permits the names of its list, no name more and no name less

    # A name is added.
    When the list of "weather" becomes "api.weather-service.test, api.unlisted-service.test"
    Then the FirewallPolicy of "weather" permits the names of its list, no name more and no name less
    And of "api.weather-service.test, api.unlisted-service.test, www.stolaf-hospital.test" the pod of "weather" reaches those that its list holds, and no other

    # One name takes another's place.
    When the list of "weather" becomes "www.stolaf-hospital.test, api.unlisted-service.test"
    Then the FirewallPolicy of "weather" permits the names of its list, no name more and no name less
    And of "api.weather-service.test, api.unlisted-service.test, www.stolaf-hospital.test" the pod of "weather" reaches those that its list holds, and no other

    # The same names in another order.
    When the list of "weather" becomes "api.unlisted-service.test, www.stolaf-hospital.test"
    Then the FirewallPolicy of "weather" permits the names of its list, no name more and no name less

    # A name in capitals.
    When the list of "weather" becomes "API.Weather-Service.test, www.stolaf-hospital.test"
    Then the FirewallPolicy of "weather" permits the names of its list, no name more and no name less
    And of "api.weather-service.test, api.unlisted-service.test, www.stolaf-hospital.test" the pod of "weather" reaches those that its list holds, and no other

    # All names but one are removed.
    When the list of "weather" becomes "api.weather-service.test"
    Then the FirewallPolicy of "weather" permits the names of its list, no name more and no name less
    And of "api.weather-service.test, api.unlisted-service.test, www.stolaf-hospital.test" the pod of "weather" reaches those that its list holds, and no other
