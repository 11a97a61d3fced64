//! Calls to HTTP APIs inside the cluster.

use serde::{Deserialize, Serialize};

/// A call of a Pod to an HTTP API inside the cluster, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiCall {
    /// The Pod that made it.
    pub pod: String,
    /// The login that it carried, in words; never the credential itself.
    pub login: String,
    /// Method of the request.
    pub method: String,
    /// Host and path of the request.
    pub target: String,
    /// Status of the answer; none when there was none.
    pub status: Option<u16>,
    /// The beginning of the body, or why there was no answer.
    pub detail: String,
}

impl ApiCall {
    /// Whether the API did what it was asked for.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }

    /// The call and its answer, as a sentence.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self {
            pod,
            login,
            method,
            target,
            ..
        } = self;
        match self.status {
            Some(status) => format!("{pod}, {login}: {method} {target} was answered with {status}"),
            None => format!(
                "{pod}, {login}: {method} {target} got no answer: {}",
                self.detail
            ),
        }
    }
}
