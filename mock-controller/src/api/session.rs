//! Logins: who may, and for how long.

use std::time::Duration;

/// The one account of this controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            username: "admin".to_owned(),
            password: "containment".to_owned(),
        }
    }
}

/// Api tokens and CIDs.
#[derive(Debug)]
pub(super) struct Sessions {
    #[expect(dead_code, reason = "the login is not written yet")]
    lifetime: Duration,
}

impl Sessions {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime }
    }
}
