//! The vendor's own Terraform provider against this fake: one apply of every resource, a second plan that must be
//! empty, and a destroy that leaves nothing.
//!
//! Ignored by default, because neither `terraform` nor the provider comes with this repository. To run it, put
//! `terraform` on the PATH, build the provider from its public source, and name the folder with the binary
//! `terraform-provider-aviatrix`:
//!
//! ```text
//! CONTAINMENT_TERRAFORM_PROVIDER=/folder cargo test -p mock-controller --test terraform -- --ignored
//! ```
//!
//! `CONTAINMENT_TERRAFORM_PROVIDER_VERSION` is the version that the provider wants of its controller: `99.0.0` for a
//! build from the repository's head (the default), `8.2.0` for one of that release.
#![allow(clippy::unwrap_used)]

use std::{path::Path, process::Stdio, sync::Arc};

use mock_controller::{
    api::{Api, ApiConfig, Credentials, server::Server},
    controller::{Controller, ControllerConfig},
};
use tokio::process::Command;

/// In every version but the oldest.
const FEATURE: &str = r#"
resource "aviatrix_config_feature" "vrf" {
  feature_name = "vrf"
  is_enabled   = true
}
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs terraform and the vendor's provider; see the header"]
async fn every_resource_is_applied_once_and_destroyed() {
    let provider = std::env::var("CONTAINMENT_TERRAFORM_PROVIDER")
        .expect("CONTAINMENT_TERRAFORM_PROVIDER names the provider's folder");
    let version = std::env::var("CONTAINMENT_TERRAFORM_PROVIDER_VERSION");
    let version = version.unwrap_or_else(|_| "99.0.0".to_owned());
    let controller = Arc::new(Controller::new(ControllerConfig::default()));
    let config = ApiConfig {
        version: version.clone(),
        ..ApiConfig::default()
    };
    let api = Arc::new(Api::new(Arc::clone(&controller), config));
    let names = ["127.0.0.1", "localhost"];
    let server = Server::start(api, "127.0.0.1:0", &names).await.unwrap();

    let folder = std::env::temp_dir().join(format!("terraform-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let mut hcl = include_str!("every-resource.tf").to_owned();
    if version != "8.2.0" {
        hcl.push_str(FEATURE);
    }
    std::fs::write(folder.join("main.tf"), hcl).unwrap();
    std::fs::write(folder.join("ca.pem"), server.ca_pem()).unwrap();
    let overrides = format!(
        "provider_installation {{\n  dev_overrides {{\n    \"aviatrixsystems/aviatrix\" = \"{provider}\"\n  }}\n  direct {{}}\n}}\n"
    );
    std::fs::write(folder.join("cli.tfrc"), overrides).unwrap();
    let terraform = Terraform {
        folder: &folder,
        address: server.address().to_string(),
    };

    terraform.run("apply", &["-auto-approve"], &[0]).await;
    // Exit code 2 is a plan that is not empty.
    let plan = terraform
        .run("plan", &["-detailed-exitcode"], &[0, 2])
        .await;
    assert!(
        plan.contains("No changes"),
        "the second plan is not empty:\n{plan}"
    );
    terraform.run("destroy", &["-auto-approve"], &[0]).await;
    controller.read(|store| {
        assert!(store.remote_syslog().is_empty());
        assert_eq!(store.copilot_association(), None);
        assert_eq!(store.accounts().count(), 0);
        assert_eq!(store.spoke_gateways().count(), 0);
        assert!(!store.feature("microseg"));
    });
    std::fs::remove_dir_all(folder).unwrap();
    server.stop().await;
}

struct Terraform<'a> {
    folder: &'a Path,
    address: String,
}

impl Terraform<'_> {
    async fn run(&self, command: &str, options: &[&str], expected: &[i32]) -> String {
        let credentials = Credentials::default();
        let output = Command::new("terraform")
            .current_dir(self.folder)
            .args([
                command,
                "-no-color",
                "-input=false",
                "-var",
                "ca_file=ca.pem",
            ])
            .args(options)
            .env("TF_CLI_CONFIG_FILE", self.folder.join("cli.tfrc"))
            .env("CHECKPOINT_DISABLE", "1")
            .env("AVIATRIX_CONTROLLER_IP", &self.address)
            .env("AVIATRIX_USERNAME", credentials.username)
            .env("AVIATRIX_PASSWORD", credentials.password)
            .env_remove("HTTPS_PROXY")
            .stdin(Stdio::null())
            .output()
            .await
            .expect("terraform is on the PATH");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let code = output.status.code().unwrap_or(-1);
        assert!(
            expected.contains(&code),
            "{command}: exit code {code}\n{said}"
        );
        said
    }
}
