//! TLS profiles and log profiles (`reference/aviatrix-controller-api.md` section 4.6). The gateway acts on
//! log profiles; TLS profiles are kept and handed back.
//!
//! Ours: the fields of the system's TLS profile, of which only the uuid is documented, and that a profile in use stays.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Error, Store,
    fields::{Fields, InvalidObject, set_uuid},
    names_of, room, same_uuid,
};
use crate::policy::Logging;

const MAX_TLS_PROFILES: usize = 1_000;

/// The profile that every controller has.
pub(super) const SYSTEM_TLS_PROFILE: Uuid =
    Uuid::from_u128(0xdef0_00ad_6000_0000_0000_0000_0000_0001);

/// The built-in log profiles.
const LOG_PROFILES: [(&str, Uuid); 3] = [
    ("start", log_profile_uuid(1)),
    ("end", log_profile_uuid(2)),
    ("start/end", log_profile_uuid(3)),
];

const fn log_profile_uuid(last: u128) -> Uuid {
    Uuid::from_u128(0xdef0_00ad_7000_0000_0000_0000_0000_0000 | last)
}

/// TLS profiles by uuid.
#[derive(Clone, Debug)]
pub(super) struct TlsProfiles(BTreeMap<Uuid, Arc<Value>>);

impl Default for TlsProfiles {
    fn default() -> Self {
        let system = json!({
            "display_name": "Default TLS Profile",
            "certificate_validation": "CERTIFICATE_VALIDATION_LOG_ONLY",
            "verify_sni": false,
            "uuid": SYSTEM_TLS_PROFILE,
        });
        Self(BTreeMap::from([(SYSTEM_TLS_PROFILE, Arc::new(system))]))
    }
}

impl TlsProfiles {
    pub(super) fn check(object: &Value) -> Result<(), InvalidObject> {
        let read = || {
            let fields = Fields::of(object)?;
            fields.required("display_name")?;
            fields
                .one_of("certificate_validation", &VALIDATIONS)?
                .ok_or("`certificate_validation` is missing")?;
            fields.flag("verify_sni")?;
            // Bundles themselves are not among the endpoints, so any uuid will do.
            fields.uuid("CA_bundle_id").map(drop)
        };
        read().map_err(|problem: String| InvalidObject::new("TLS profile", object, problem))
    }

    pub(super) fn insert(&mut self, uuid: Uuid, mut object: Value) {
        set_uuid(&mut object, uuid);
        self.0.insert(uuid, Arc::new(object));
    }

    pub(super) fn get(&self, uuid: Uuid) -> Option<&Arc<Value>> {
        self.0.get(&uuid)
    }

    pub(super) fn remove(&mut self, uuid: Uuid) {
        self.0.remove(&uuid);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.0.values()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

const VALIDATIONS: [&str; 3] = [
    "CERTIFICATE_VALIDATION_NONE",
    "CERTIFICATE_VALIDATION_LOG_ONLY",
    "CERTIFICATE_VALIDATION_ENFORCE",
];

/// A built-in log profile by name, as the wire has it.
pub(super) fn log_profile(name: &str) -> Option<Value> {
    let (name, uuid) = LOG_PROFILES.iter().find(|profile| profile.0 == name)?;
    let logging = Logging::of_profile(name)?;
    Some(json!({
        "profile_name": name,
        "profile_id": uuid,
        "session_start": logging.at_start(),
        "session_end": logging.at_end(),
    }))
}

/// The `logging` of a rule and its `log_profile`, which must be a built-in one.
pub(super) fn logging(fields: Fields<'_>) -> Result<Logging, String> {
    let switch = fields.flag("logging")?;
    let Some(uuid) = fields.uuid("log_profile")? else {
        return Ok(Logging::of(switch, None));
    };
    let named = LOG_PROFILES.iter().find(|profile| profile.1 == uuid);
    let profile = named.and_then(|profile| Logging::of_profile(profile.0));
    let profile = profile.ok_or_else(|| {
        format!("log_profile {uuid} is none of the built-in profiles start, end, start/end")
    })?;
    Ok(Logging::of(switch, Some(profile)))
}

/// Profiles.
impl Store {
    /// Creates a TLS profile.
    ///
    /// # Errors
    /// When a field is missing or has a value that is not among the documented ones.
    pub fn create_tls_profile(&mut self, object: Value) -> Result<Uuid, Error> {
        room("TLS profiles", self.tls_profiles.len(), 1, MAX_TLS_PROFILES)?;
        TlsProfiles::check(&object)?;
        let weight = self.weights.fits(self.next_uuid(), &object)?;
        let uuid = self.fresh_uuid();
        self.weights.set(uuid, weight);
        self.tls_profiles.insert(uuid, object);
        Ok(uuid)
    }

    /// Replaces a TLS profile.
    ///
    /// # Errors
    /// As [`create_tls_profile`](Self::create_tls_profile), and when there is none or it is the system's.
    pub fn update_tls_profile(&mut self, uuid: Uuid, object: Value) -> Result<(), Error> {
        self.own_tls_profile(uuid)?;
        same_uuid("TLS profile", &object, uuid)?;
        TlsProfiles::check(&object)?;
        let weight = self.weights.fits(uuid, &object)?;
        self.weights.set(uuid, weight);
        self.tls_profiles.insert(uuid, object);
        Ok(())
    }

    /// Deletes a TLS profile that no rule refers to.
    ///
    /// # Errors
    /// When there is none, it is the system's, or a rule refers to it.
    pub fn delete_tls_profile(&mut self, uuid: Uuid) -> Result<(), Error> {
        let profile = self.own_tls_profile(uuid)?;
        let rules = self.policies.rules().map(|(_, rule)| rule);
        if let Some(rules) = names_of(rules.filter(|rule| rule.tls_profile == Some(uuid))) {
            return Err(Error::TlsProfileInUse { profile, rules });
        }
        self.tls_profiles.remove(uuid);
        self.weights.remove(uuid);
        Ok(())
    }

    pub fn tls_profile(&self, uuid: Uuid) -> Result<&Arc<Value>, Error> {
        let profile = self.tls_profiles.get(uuid);
        profile.ok_or_else(|| Error::TlsProfileNotFound(uuid.to_string()))
    }

    pub fn tls_profiles(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.tls_profiles.iter()
    }

    /// A built-in log profile by name; there are no others.
    pub fn log_profile(&self, name: &str) -> Result<Value, Error> {
        log_profile(name).ok_or_else(|| Error::LogProfileNotFound(name.to_owned()))
    }

    /// The name of a profile that may be changed.
    fn own_tls_profile(&self, uuid: Uuid) -> Result<String, Error> {
        let name = self.tls_profile(uuid)?["display_name"].as_str();
        let name = name.unwrap_or_default().to_owned();
        if uuid == SYSTEM_TLS_PROFILE {
            let kind = "TLS profile";
            return Err(Error::System { kind, name });
        }
        Ok(name)
    }
}
