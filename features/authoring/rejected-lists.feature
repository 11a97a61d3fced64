@authoring
Feature: A list that is no list of domains is rejected
  A list names domains, whole or with one leading wildcard. Anything else is refused before it can become a
  policy, with status 400 and a message that names the field, for every runtime alike. Each list begins with
  a domain that is fine, so that the message must find the one that is not.

  @AUT-02 @AUT-03 @AUT-04 @AUT-05 @AUT-06 @AUT-07
  Scenario: What is no domain is rejected, with the field named
    Given a user creates servers that list "api.weather-service.test, *.stolaf-hospital.test", of every runtime
    Then a server that lists one of these is rejected: a URL
      | domain                           | what it is           |
      | https://api.weather-service.test | with a protocol      |
      | api.weather-service.test/v1      | with a path          |
      | api.weather-service.test:443     | with a port          |
      | *.weather-service.test:8443      | wildcard with a port |
    And a server that lists one of these is rejected: an address
      | domain           | what it is                    |
      | 192.0.2.66       | IPv4                          |
      | 10.0.0.1         | private IPv4                  |
      | 2001:db8::66     | IPv6                          |
      | ::ffff:192.0.2.1 | IPv4 in IPv6                  |
    And a server that lists one of these is rejected: a reserved name
      | domain                                  | what it is                    |
      | localhost                               | this host                     |
      | api.localhost                           | below this host               |
      | cluster.local                           | the cluster's domain          |
      | obot-obot.obot-system.svc.cluster.local | a Service                     |
      | obot-obot.obot-system.svc               | a Service, short              |
      | *.obot-mcp.svc                          | every Service of a namespace  |
      | metadata.google.internal                | the cloud's metadata server   |
      | 66.2.0.192.in-addr.arpa                 | a reverse name, IPv4          |
      | 8.b.d.0.1.0.0.2.ip6.arpa                | a reverse name, IPv6          |
    And a server that lists one of these is rejected: a bare wildcard
      | domain | what it is |
      | *      | a bare *   |
    And a server that lists one of these is rejected: a malformed name
      | domain                       | what it is               |
      | api.*.weather-service.test   | a wildcard inside        |
      | api.weather-service.*        | a wildcard at the end    |
      | *api.weather-service.test    | half a label             |
      | *.*.weather-service.test     | two wildcards            |
      | api_v1.weather-service.test  | an underscore            |
      | api.weather-service.test.    | a trailing dot           |
      | wetterdienst-köln.test       | not ASCII                |
      | weather-service              | a single label           |
      | *.test                       | a wildcard and one label |
    And a server that denies all egress and lists domains is rejected
