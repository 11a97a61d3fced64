//! Remote syslog, CoPilot, accounts, the spoke gateway.

use super::*;
use crate::store::syslog::Transport;

const SYSLOG: [(&str, &str); 8] = [
    ("action", "enable_remote_syslog_logging"),
    ("template", ""),
    ("index", "9"),
    ("name", "Remote_9"),
    ("exclude_gateway_list", ""),
    ("server", "10.0.0.9"),
    ("protocol", "UDP"),
    ("port", "5000"),
];

fn syslog(changed: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut fields = SYSLOG.to_vec();
    for (name, value) in changed {
        fields.retain(|(field, _)| field != name);
        fields.push((name, value));
    }
    fields
}

#[test]
fn remote_syslog_is_enabled_read_and_disabled() {
    let client = Client::new();
    let status = || results(client.get("action=get_remote_syslog_logging_status&index=9"));
    assert_eq!(status(), json!({"status": "disabled"}));
    results(client.multipart(&syslog(&[])));
    let expected = json!({"server": "10.0.0.9", "port": "5000", "protocol": "UDP", "index": "9",
        "name": "Remote_9", "template": "", "excluded_gateway": [], "status": "enabled", "notls": true});
    assert_eq!(status(), expected);
    let refused = reason(client.multipart(&syslog(&[("port", "5001")])));
    assert!(refused.contains("already enabled"), "{refused}");
    assert_eq!(status(), expected);
    for _ in 0..2 {
        results(client.form("action=disable_remote_syslog_logging&index=9"));
        assert_eq!(status(), json!({"status": "disabled"}));
    }
}

#[test]
fn excluded_gateways_are_a_list() {
    let client = Client::new();
    results(client.multipart(&syslog(&[("exclude_gateway_list", "a,b"), ("index", "0")])));
    let status = results(client.get("action=get_remote_syslog_logging_status&index=0"));
    assert_eq!(status["excluded_gateway"], json!(["a", "b"]));
}

#[rstest]
#[case::udp("UDP", &[], Transport::Udp)]
#[case::tcp("TCP", &[], Transport::Tcp)]
#[case::tls("TLS", &["ca_certificate"], Transport::Tls)]
#[case::tcp_with_ca("TCP", &["ca_certificate"], Transport::Tls)]
#[case::tls_with_all("TLS", &["ca_certificate", "public_certificate", "private_key"], Transport::Tls)]
fn certificates_make_it_tls(
    #[case] protocol: &'static str,
    #[case] certificates: &[&'static str],
    #[case] expected: Transport,
) {
    let client = Client::new();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let mut fields = syslog(&[("protocol", protocol)]);
    fields.extend(certificates.iter().map(|name| {
        let is_key = *name == "private_key";
        (
            *name,
            if is_key {
                key.as_str()
            } else {
                certificate.as_str()
            },
        )
    }));
    results(client.multipart(&fields));
    let status = results(client.get("action=get_remote_syslog_logging_status&index=9"));
    assert_eq!(status["protocol"], protocol);
    assert_eq!(status["notls"], expected != Transport::Tls);
    client.api.controller.read(|store| {
        let server = &store.remote_syslog()[&9];
        assert_eq!(server.transport, expected);
        let kept = [
            &server.ca_certificate,
            &server.public_certificate,
            &server.private_key,
        ];
        assert_eq!(kept.into_iter().flatten().count(), certificates.len());
    });
}

#[rstest]
#[case::index(&[("index", "10")], "`index` is `10`")]
#[case::no_index(&[("index", "")], "`index` is missing")]
#[case::port(&[("port", "0")], "`port` is `0`")]
#[case::big_port(&[("port", "65536")], "`port` is `65536`")]
#[case::protocol(&[("protocol", "SCTP")], "`protocol` is `SCTP`")]
#[case::no_server(&[("server", "")], "`server` is missing")]
#[case::no_pem(&[("protocol", "TCP"), ("ca_certificate", "nonsense")], "ca_certificate holds no PEM")]
#[case::tls_without_authority(&[("protocol", "TLS")], "no CA certificate")]
#[case::key_alone(&[("private_key", "x")], "give no certificates")]
#[case::no_ca(&[("private_key", "x"), ("public_certificate", "x")], "give no certificates")]
fn unfit_syslog_servers_are_refused(
    #[case] changed: &[(&'static str, &'static str)],
    #[case] expected: &str,
) {
    let client = Client::new();
    let refused = reason(client.multipart(&syslog(changed)));
    assert!(refused.contains(expected), "{refused}");
    assert!(
        client
            .api
            .controller
            .read(|store| store.remote_syslog().is_empty())
    );
}

#[rstest]
#[case::old("copilot_ip=1.2.3.4", json!({"status": true, "ip": "1.2.3.4", "public_ip": "1.2.3.4", "fqdn": "1.2.3.4"}))]
#[case::public("copilot_ip=10.0.0.4&public_ip=1.2.3.4",
    json!({"status": true, "ip": "10.0.0.4", "public_ip": "1.2.3.4", "fqdn": "1.2.3.4"}))]
#[case::name("copilot_ip=10.0.0.4&public_ip=1.2.3.4&copilot_fqdn=copilot.test",
    json!({"status": true, "ip": "10.0.0.4", "public_ip": "1.2.3.4", "fqdn": "copilot.test"}))]
fn copilot_is_associated(#[case] form: &str, #[case] expected: Value) {
    let client = Client::new();
    let status = || results(client.get("action=get_copilot_association_status"));
    assert_eq!(status()["status"], false);
    results(client.form("action=enable_copilot_association&copilot_ip=9.9.9.9"));
    results(client.form(&format!("action=enable_copilot_association&{form}")));
    assert_eq!(status(), expected);
    results(client.form("action=disable_copilot_association"));
    assert_eq!(status()["status"], false);
}

#[test]
fn copilot_needs_an_address() {
    let refused = reason(Client::new().form("action=enable_copilot_association"));
    assert!(refused.contains("`copilot_ip` is missing"), "{refused}");
}

const ACCOUNT: &str = "action=setup_account_profile&account_name=a&cloud_type=1&aws_account_number=123456789012\
    &aws_iam=true&aws_role_arn=arn:app&aws_role_ec2=arn:ec2&gcloud_project_name=&awsgov_iam=";

fn account_list(client: &Client) -> Value {
    results(client.get("action=list_accounts"))["account_list"].take()
}

#[test]
fn an_account_is_set_up_edited_and_deleted() {
    let client = Client::new();
    results(client.form(ACCOUNT));
    let expected = json!({"account_name": "a", "cloud_type": 1, "account_number": "123456789012",
        "aws_role_arn": "arn:app", "aws_role_ec2": "arn:ec2"});
    assert_eq!(account_list(&client), json!([expected]));
    let audit = results(client.get("action=get_account_audit_records"));
    assert_eq!(
        audit,
        json!([{"account_name": "a", "status": "Pass", "comment": ""}])
    );

    assert!(reason(client.form(ACCOUNT)).contains("already exists"));
    assert_eq!(account_list(&client), json!([expected]));

    let by_key = "action=edit_account_profile&account_name=a&cloud_type=1&aws_iam=false&aws_access_key=AK&aws_secret_key=SK";
    results(client.form(by_key));
    let listed = account_list(&client);
    assert_eq!(listed[0]["aws_role_ec2"], "");
    assert_eq!(listed[0]["account_number"], "123456789012");
    assert!(!listed.to_string().contains("SK"));

    results(client.form("action=delete_account_profile&account_name=a"));
    assert_eq!(account_list(&client), json!([]));
}

#[rstest]
#[case::azure(
    "action=setup_account_profile&account_name=a&cloud_type=8",
    "`cloud_type` is `8`"
)]
#[case::no_cloud(
    "action=setup_account_profile&account_name=a",
    "`cloud_type` is missing"
)]
#[case::no_name(
    "action=setup_account_profile&cloud_type=1",
    "`account_name` is missing"
)]
#[case::no_number(
    "action=setup_account_profile&cloud_type=1&account_name=a",
    "`aws_account_number` is missing"
)]
#[case::edit(
    "action=edit_account_profile&account_name=b",
    "Account b does not exist"
)]
#[case::delete(
    "action=delete_account_profile&account_name=b",
    "Account b does not exist"
)]
fn unfit_accounts_are_refused(#[case] form: &str, #[case] expected: &str) {
    let refused = reason(Client::new().form(form));
    assert!(refused.contains(expected), "{refused}");
}

const GATEWAY: &str = "action=create_multicloud_primary_gateway&account_name=a&cloud_type=1&gw_name=spoke1\
    &gw_size=t3.medium&vpc_id=vpc-0abc~~name&vpc_region=us-east-1&gw_subnet=10.1.0.0/26&enable_nat=yes\
    &single_az_ha=disabled&insane_mode=no&enc_volume=no&reuse_eip=off&ph2_encryption_policy=default\
    &ph2_pfs_policy=disable&async=true";

/// All calls of section 6.4, in their order.
#[test]
fn a_spoke_gateway_lives_as_terraform_makes_it() {
    let client = Client::new();
    let done = |id: Value| {
        let id = id.as_str().unwrap().to_owned();
        results(client.form(&format!("action=check_task_status&request_id={id}")))
    };
    let summary = || results(client.get("action=list_vpcs_summary&gateway_name=spoke1"));
    results(client.form(ACCOUNT));
    assert!(reason(client.get("action=get_private_mode_info")).contains("private mode"));
    done(results(client.form(GATEWAY)));
    results(client.form("action=disable_single_az_ha&gw_name=spoke1"));
    let bgp =
        results(client.get("action=show_bgp_communities_gateway_overrides&gateway_name=spoke1"));
    assert_eq!(
        bgp,
        json!({"accept_communities": "False", "send_communities": "False"})
    );
    let med = "action=show_bgp_med_to_sdn_metric_gateway_override&gateway_name=spoke1";
    assert_eq!(
        results(client.get(med)),
        json!({"set_bgp_med_to_sdn_metric": "False"})
    );
    let gro = results(client.get("action=get_gro_gso_status&gateway_name=spoke1"));
    assert_eq!(gro, "GRO/GSO is enabled");

    let mut gateway = summary();
    assert!(
        gateway[0]["public_ip"]
            .take()
            .as_str()
            .unwrap()
            .starts_with("203.0.113.")
    );
    let expected = json!({"vpc_name": "spoke1", "account_name": "a", "cloud_type": 1, "vpc_size": "t3.medium",
        "vpc_id": "vpc-0abc~~name", "vpc_region": "us-east-1", "public_subnet": "10.1.0.0/26", "single_az_ha": "no",
        "high_perf": "no", "enable_nat": "yes", "snat_target": "primary", "public_ip": null, "private_ip": "10.1.0.4",
        "jumbo_frame": true, "detection_time": 60, "gw_software_version": "8.2.0", "gw_image_name": "img",
        "ph2_encryption_policy": "default", "ph2_pfs_policy": "disable", "hagw_details": {}});
    assert_eq!(gateway, json!([expected]));

    let in_use = reason(client.form("action=delete_account_profile&account_name=a"));
    assert!(in_use.contains("in use by gateway spoke1"), "{in_use}");
    assert!(reason(client.form(GATEWAY)).contains("already exists"));
    done(results(client.form(
        "action=delete_container&cloud_type=1&gw_name=spoke1&async=true",
    )));
    assert_eq!(summary(), json!([]));
    results(client.form("action=delete_account_profile&account_name=a"));
}

#[rstest]
#[case::account(GATEWAY, "Account a does not exist")]
#[case::cloud(
    "action=create_multicloud_primary_gateway&cloud_type=4",
    "`cloud_type` is `4`"
)]
#[case::no_name(
    "action=create_multicloud_primary_gateway&cloud_type=1",
    "`gw_name` is missing"
)]
#[case::delete(
    "action=delete_container&cloud_type=1&gw_name=b",
    "Gateway b does not exist"
)]
#[case::ha("action=enable_single_az_ha&gw_name=b", "Gateway b does not exist")]
#[case::gro("action=get_gro_gso_status&gateway_name=b", "Gateway b does not exist")]
#[case::bgp(
    "action=show_bgp_communities_gateway_overrides",
    "`gateway_name` is missing"
)]
fn unfit_gateways_are_refused(#[case] form: &str, #[case] expected: &str) {
    let refused = reason(Client::new().form(form));
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn without_a_size_a_gateway_gets_one() {
    let client = Client::new();
    results(client.form(ACCOUNT));
    results(
        client.form(
            &GATEWAY
                .replace("&gw_size=t3.medium", "")
                .replace("~~name", ""),
        ),
    );
    let gateways = results(client.get("action=list_vpcs_summary"));
    assert_eq!(gateways[0]["vpc_size"], "t3.medium");
    assert_eq!(gateways[0]["vpc_id"], "vpc-0abc~~spoke1");
}
