//! Logins: who may, and for how long (`reference/aviatrix-controller-api.md` sections 1.3 and 1.4).
//!
//! A CID is good for a lifetime counted from its login, however often it is used. How the real controller counts is
//! unknown; an idle timeout would hide a client that never logs in again. A controller that has given out its bound of
//! CIDs or tokens forgets the oldest, which then reads as expired.
//!
//! Must not know HTTP, nor what a session is used for.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

/// Sessions that are remembered; the provider makes one per process.
const MAX_SESSIONS: usize = 16_384;
/// Api tokens that are remembered.
const MAX_TOKENS: usize = 16_384;

/// The one account of this controller.
#[derive(Clone, PartialEq, Eq)]
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

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Why nobody was logged in. The reference names no texts here; these are this fake's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("User name/password does not match; check username and password of the provider")]
    WrongPassword,
    #[error("Invalid access key: the X-Access-Key header holds no token of get_api_token")]
    UnknownToken,
}

/// Api tokens and CIDs.
#[derive(Debug)]
pub(super) struct Sessions {
    credentials: Credentials,
    lifetime: Duration,
    given_out: Mutex<GivenOut>,
}

#[derive(Debug, Default)]
struct GivenOut {
    tokens: Bounded,
    cids: Bounded,
}

impl Sessions {
    pub(super) fn new(credentials: Credentials, lifetime: Duration) -> Self {
        Self {
            credentials,
            lifetime,
            given_out: Mutex::default(),
        }
    }

    /// A token that a login may present, once or often, until it is forgotten.
    pub(super) fn api_token(&self, now: Instant) -> String {
        self.given_out().tokens.add(now, MAX_TOKENS)
    }

    /// A CID. `token` is what the client sent as `X-Access-Key`: it must be one of ours, but needs not be there.
    pub(super) fn login(
        &self,
        username: &str,
        password: &str,
        token: Option<&str>,
        now: Instant,
    ) -> Result<String, LoginError> {
        let mut given_out = self.given_out();
        if token.is_some_and(|token| given_out.tokens.at(token).is_none()) {
            return Err(LoginError::UnknownToken);
        }
        if self.credentials.username != username || self.credentials.password != password {
            return Err(LoginError::WrongPassword);
        }
        Ok(given_out.cids.add(now, MAX_SESSIONS))
    }

    /// Whether `cid` was given out and has not expired.
    pub(super) fn check(&self, cid: &str, now: Instant) -> bool {
        let login = self.given_out().cids.at(cid);
        login.is_some_and(|login| now.saturating_duration_since(login) < self.lifetime)
    }

    /// Forgets every CID, as a controller does that restarts.
    pub(super) fn expire_all(&self) {
        self.given_out().cids = Bounded::default();
    }

    fn given_out(&self) -> MutexGuard<'_, GivenOut> {
        self.given_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random secrets and when each was made; the oldest goes when there are too many.
#[derive(Debug, Default)]
struct Bounded {
    made: BTreeMap<String, Instant>,
    order: VecDeque<String>,
}

impl Bounded {
    fn add(&mut self, now: Instant, bound: usize) -> String {
        if self.order.len() >= bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.made.remove(&oldest);
        }
        let secret = Uuid::new_v4().simple().to_string();
        self.made.insert(secret.clone(), now);
        self.order.push_back(secret.clone());
        secret
    }

    fn at(&self, secret: &str) -> Option<Instant> {
        self.made.get(secret).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn sessions() -> Sessions {
        Sessions::new(Credentials::default(), HOUR)
    }

    #[test]
    fn a_cid_is_good_for_its_lifetime_and_no_longer() {
        let (sessions, start) = (sessions(), Instant::now());
        let cid = sessions.login("admin", "containment", None, start).unwrap();
        assert!(sessions.check(&cid, start));
        assert!(sessions.check(&cid, start + HOUR - Duration::from_nanos(1)));
        assert!(!sessions.check(&cid, start + HOUR));
        assert!(!sessions.check("", start));
        sessions.expire_all();
        assert!(!sessions.check(&cid, start));
    }

    #[test]
    fn a_token_is_checked_where_one_is_sent() {
        let (sessions, now) = (sessions(), Instant::now());
        let token = sessions.api_token(now);
        let login = |token| sessions.login("admin", "containment", token, now);
        assert!(login(Some(&token)).is_ok());
        assert_eq!(login(Some("made-up")), Err(LoginError::UnknownToken));
        assert_eq!(login(Some("")), Err(LoginError::UnknownToken));
    }

    #[test]
    fn the_password_counts() {
        let (sessions, now) = (sessions(), Instant::now());
        for (username, password) in [("admin", "wrong"), ("root", "containment"), ("", "")] {
            let refused = sessions.login(username, password, None, now);
            assert_eq!(refused, Err(LoginError::WrongPassword));
        }
        assert!(!format!("{sessions:?}").contains("containment"));
    }

    #[test]
    fn the_oldest_session_goes_first_when_there_are_too_many() {
        let mut given_out = Bounded::default();
        let now = Instant::now();
        let made: Vec<_> = (0..5).map(|_| given_out.add(now, 3)).collect();
        let known: Vec<_> = made.iter().map(|cid| given_out.at(cid).is_some()).collect();
        assert_eq!(known, [false, false, true, true, true]);
        assert_eq!(given_out.made.len(), given_out.order.len());
    }
}
