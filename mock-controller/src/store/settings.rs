//! Settings of the controller itself: the CoPilot it belongs to, and the asynchronous requests it has taken
//! (`reference/aviatrix-controller-api.md` sections 1.6 and 6.2).

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::Store;

/// Asynchronous requests that are remembered; the oldest go first.
const MAX_TASKS: usize = 4096;

/// Where CoPilot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopilotAssociation {
    pub ip: String,
    pub public_ip: String,
    pub fqdn: String,
}

impl CopilotAssociation {
    /// What is not given follows from what is: the public address from the private one, the name from the public one.
    pub fn new(ip: &str, public_ip: Option<&str>, fqdn: Option<&str>) -> Self {
        let public_ip = public_ip.unwrap_or(ip);
        Self {
            ip: ip.to_owned(),
            public_ip: public_ip.to_owned(),
            fqdn: fqdn.unwrap_or(public_ip).to_owned(),
        }
    }

    /// `results` of `get_copilot_association_status`.
    pub fn to_wire(association: Option<&Self>) -> Value {
        match association {
            Some(association) => json!({
                "status": true,
                "ip": association.ip,
                "public_ip": association.public_ip,
                "fqdn": association.fqdn,
            }),
            None => json!({"status": false}),
        }
    }
}

/// The ids of asynchronous requests. Every one is done when it is taken, because nothing here takes long.
#[derive(Clone, Debug, Default)]
pub struct Tasks(VecDeque<String>);

impl Store {
    pub fn copilot_association(&self) -> Option<&CopilotAssociation> {
        self.copilot.as_ref()
    }

    /// Sets it, in place of the one before.
    pub fn set_copilot_association(&mut self, association: Option<CopilotAssociation>) {
        self.copilot = association;
    }

    /// Takes note of an asynchronous request that is done; its id.
    pub fn finish_task(&mut self) -> String {
        let id = self.fresh_uuid().to_string();
        if self.tasks.0.len() >= MAX_TASKS {
            self.tasks.0.pop_front();
        }
        self.tasks.0.push_back(id.clone());
        id
    }

    /// Whether an asynchronous request of this id was taken, and so is done.
    pub fn task_is_done(&self, id: &str) -> bool {
        self.tasks.0.iter().any(|known| known == id)
    }
}
