//! Whether a ClientHello names a server.

use super::{Attempt, Check, CheckResult};
use crate::outcome::Outcome;

/// Judges that an attempt named no server: then no WebGroup can have decided on it.
#[must_use]
pub fn judge_no_server_name(check: &Check, attempt: &Attempt) -> CheckResult {
    let expected = "the ClientHello to the API server names no server";
    match &attempt.sent {
        None => check.stated(Outcome::Inconclusive, expected, "nothing was sent"),
        Some(sent) => {
            let named = sent.sni.as_deref();
            let outcome = named.map_or(Outcome::Passed, |_| Outcome::Failed);
            let found = format!("server name: {}", named.unwrap_or("none"));
            check.stated(outcome, expected, found)
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;
    use crate::judge::{Exchange, Protocol, Sent};

    #[rstest]
    #[case::none(Some(None), Outcome::Passed)]
    #[case::named(Some(Some("a.test")), Outcome::Failed)]
    #[case::not_sent(None, Outcome::Inconclusive)]
    fn a_hello_that_was_sent_is_looked_at(
        #[case] sent: Option<Option<&str>>,
        #[case] expected: Outcome,
    ) {
        let attempt = Attempt {
            label: "a".to_owned(),
            canary: String::new(),
            sent: sent.map(|sni| Sent {
                at: Timestamp::UNIX_EPOCH,
                protocol: Protocol::Tcp,
                exchange: Exchange::Tls,
                source: ([10, 244, 0, 7], 40000).into(),
                destination: ([10, 96, 0, 1], 443).into(),
                host: None,
                sni: sni.map(str::to_owned),
            }),
            result: None,
        };
        let result = judge_no_server_name(&Check::new("kind", "c"), &attempt);
        assert_eq!(result.outcome, expected, "{result}");
    }
}
