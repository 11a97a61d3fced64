@platform
Feature: The gateway stands in the path, and sees who sends
  Whatever a policy says, it says it to a gateway. What goes around it, or comes to it under another's address, is decided
  by nobody.

  @PLT-01 @PLT-08
  Scenario: What leaves a pod passes the gateway, under the pod's own address
    Given the platform is set up as its design has it on "eks"
    And a canary policy lets the pod "canary" reach "echo.reflector.test" alone
    And a pod "stray" runs in the servers' namespace without any policy
    When the pod "canary" requests "https://echo.reflector.test/"
    Then the request passes by the canary's own rule
    And the far end saw the gateway's address
    And the gateway sees the pods' own addresses
    When the pod "canary" requests "https://api.unlisted-service.test/"
    Then the request is blocked by the canary's own rule
    When the pod "stray" requests "https://api.unlisted-service.test/"
    Then the request is blocked by the default action

  @PLT-09
  Scenario: A feature that is off is named instead of blaming the policy
    Given the platform is set up as its design has it on "eks"
    And a canary policy lets the pod "canary" reach "echo.reflector.test" alone
    When the pod "canary" requests "https://echo.reflector.test/"
    Then the request passes by the canary's own rule
    When somebody switches the feature "k8s_dcf_policies" off
    And the pod "canary" requests "https://echo.reflector.test/"
    Then that the feature "k8s_dcf_policies" is off is named, and no policy is blamed
