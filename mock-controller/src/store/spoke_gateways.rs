//! Spoke gateways as an administrator creates them (`reference/aviatrix-controller-api.md` section 6.4): minimal, AWS,
//! no HA.
//!
//! They are records alone. What filters packets is the gateway engine that the embedding program connects; creating or
//! deleting one here moves no route and loads no engine.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::{Value, json};

use super::{Store, accounts};

const MAX_GATEWAYS: usize = 10_000;

/// A spoke gateway, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpokeGateway {
    pub name: String,
    pub account: String,
    pub size: String,
    /// `vpc-..`; listed with `~~<name>` behind it.
    pub vpc_id: String,
    pub vpc_region: String,
    /// CIDR of the subnet.
    pub subnet: String,
    pub nat: bool,
    pub single_az_ha: bool,
    pub insane_mode: bool,
    pub ph2_encryption_policy: String,
    pub ph2_pfs_policy: String,
    /// A documentation address, drawn when it is created.
    pub public_ip: Ipv4Addr,
}

/// Why a gateway is not made or given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Gateway {0} already exists; choose another gw_name")]
    AlreadyExists(String),
    #[error("Gateway {0} does not exist; list_vpcs_summary names those that do")]
    NotFound(String),
    #[error(
        "this controller holds at most {} gateways: delete some first",
        MAX_GATEWAYS
    )]
    Full,
    #[error(transparent)]
    Account(#[from] accounts::Error),
}

/// The gateways, by name.
pub type SpokeGateways = BTreeMap<String, SpokeGateway>;

impl SpokeGateway {
    /// An entry of `list_vpcs_summary`, of a controller of `version`.
    pub fn to_wire(&self, version: &str) -> Value {
        let yes = |flag: bool| if flag { "yes" } else { "no" };
        let vpc_id = if self.vpc_id.contains("~~") {
            self.vpc_id.clone()
        } else {
            format!("{}~~{}", self.vpc_id, self.name)
        };
        json!({
            "vpc_name": self.name,
            "account_name": self.account,
            "cloud_type": accounts::AWS,
            "vpc_size": self.size,
            "vpc_id": vpc_id,
            "vpc_region": self.vpc_region,
            "public_subnet": self.subnet,
            "single_az_ha": yes(self.single_az_ha),
            "high_perf": yes(self.insane_mode),
            "enable_nat": yes(self.nat),
            "snat_target": if self.nat { "primary" } else { "" },
            "public_ip": self.public_ip,
            "private_ip": self.private_ip(),
            "jumbo_frame": true,
            "detection_time": 60,
            "gw_software_version": version,
            "gw_image_name": "img",
            "ph2_encryption_policy": self.ph2_encryption_policy,
            "ph2_pfs_policy": self.ph2_pfs_policy,
            "hagw_details": {},
        })
    }

    /// The first address of an AWS subnet that the cloud does not keep for itself; empty if the subnet is none.
    fn private_ip(&self) -> String {
        let base = self.subnet.split('/').next().unwrap_or_default();
        let base: Option<Ipv4Addr> = base.parse().ok();
        base.map(|base| Ipv4Addr::from(u32::from(base).wrapping_add(4)).to_string())
            .unwrap_or_default()
    }
}

impl Store {
    pub fn spoke_gateways(&self) -> impl Iterator<Item = &SpokeGateway> {
        self.spoke_gateways.values()
    }

    pub fn spoke_gateway(&self, name: &str) -> Result<&SpokeGateway, Error> {
        let gateway = self.spoke_gateways.get(name);
        gateway.ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    /// Makes a gateway in an account that exists; its public address is drawn here.
    pub fn create_spoke_gateway(&mut self, mut gateway: SpokeGateway) -> Result<(), Error> {
        if self.spoke_gateways.contains_key(&gateway.name) {
            return Err(Error::AlreadyExists(gateway.name));
        }
        if self.spoke_gateways.len() >= MAX_GATEWAYS {
            return Err(Error::Full);
        }
        if !self.accounts.contains_key(&gateway.account) {
            return Err(accounts::Error::NotFound(gateway.account).into());
        }
        self.created += 1;
        let host = u8::try_from(self.created % 254).unwrap_or(0) + 1;
        gateway.public_ip = Ipv4Addr::new(203, 0, 113, host);
        self.spoke_gateways.insert(gateway.name.clone(), gateway);
        Ok(())
    }

    pub fn edit_spoke_gateway(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut SpokeGateway),
    ) -> Result<(), Error> {
        let gateway = self.spoke_gateways.get_mut(name);
        change(gateway.ok_or_else(|| Error::NotFound(name.to_owned()))?);
        Ok(())
    }

    pub fn delete_spoke_gateway(&mut self, name: &str) -> Result<(), Error> {
        let removed = self.spoke_gateways.remove(name);
        removed
            .map(drop)
            .ok_or_else(|| Error::NotFound(name.to_owned()))
    }
}
