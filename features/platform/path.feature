@platform
Feature: The gateway stands in the path, and sees who sends
  A policy is enforced by the gateway alone. It decides on nothing that goes around it, and not by a pod's policy where
  the pod's address is hidden.

  @PLT-01 @PLT-08
  Scenario: What leaves a pod passes the gateway, under the pod's own address
    Given the platform is set up as its design has it on "eks"
    And a canary policy lets the pod "canary" reach "echo.reflector.test" alone
    And a pod "stray" runs in the servers' namespace without any policy
    When the pod "canary" requests "https://echo.reflector.test/"
    Then the request passes by the canary's own rule
    And the far end saw the gateway's address
    And the gateway sees the pods' own addresses
    When as a control, the pod "canary" requests "https://echo.reflector.test/"
    Then the control passes
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
    When an administrator switches the feature "k8s_dcf_policies" off
    And the pod "canary" requests "https://echo.reflector.test/"
    Then the feature "k8s_dcf_policies" is named as off, and no policy is blamed
