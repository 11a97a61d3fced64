//! Reads JSON objects field by field, so that a refusal names the field. `null` counts as absent, as the vendor's client
//! sends it for empty lists.

use serde_json::{Map, Value};
use uuid::Uuid;

/// An object of the wire that the controller does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{name}`: {problem}")]
pub struct InvalidObject {
    kind: &'static str,
    name: String,
    problem: String,
}

impl InvalidObject {
    /// `object` is read for its name alone.
    pub(super) fn new(kind: &'static str, object: &Value, problem: impl Into<String>) -> Self {
        let name = ["name", "display_name", "cluster_id"]
            .iter()
            .find_map(|key| object.get(key)?.as_str())
            .unwrap_or("unnamed");
        Self {
            kind,
            name: name.to_owned(),
            problem: problem.into(),
        }
    }
}

/// The fields of one object.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, String> {
        let map = value.as_object();
        map.map(Self)
            .ok_or_else(|| format!("expected a JSON object, not {}", describe(value)))
    }

    /// The object in a field, which must be there.
    pub(super) fn object(self, key: &str) -> Result<Self, String> {
        let value = self
            .value(key)
            .ok_or_else(|| format!("`{key}` is missing"))?;
        Self::of(value).map_err(|error| format!("`{key}`: {error}"))
    }

    /// The fields that are there.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let present = self.0.iter().filter(|(_, value)| !value.is_null());
        present.map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn has(self, key: &str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>, String> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A text that must be there and not be blank.
    pub(super) fn required(self, key: &str) -> Result<&'a str, String> {
        match self.text(key)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(format!("`{key}` is empty")),
            None => Err(format!("`{key}` is missing")),
        }
    }

    /// An absent flag is false.
    pub(super) fn flag(self, key: &str) -> Result<bool, String> {
        Ok(self
            .typed(key, "true or false", Value::as_bool)?
            .unwrap_or(false))
    }

    pub(super) fn integer(self, key: &str) -> Result<Option<i64>, String> {
        self.typed(key, "an integer", Value::as_i64)
    }

    /// An absent list is empty.
    pub(super) fn list(self, key: &str) -> Result<&'a [Value], String> {
        let list = self.typed(key, "a list", Value::as_array)?;
        Ok(list.map_or(&[], Vec::as_slice))
    }

    /// An absent or empty uuid is none.
    pub(super) fn uuid(self, key: &str) -> Result<Option<Uuid>, String> {
        match self.text(key)? {
            None | Some("") => Ok(None),
            Some(text) => Uuid::parse_str(text)
                .map(Some)
                .map_err(|_| format!("`{key}` is not a uuid: `{text}`")),
        }
    }

    /// A text out of a closed set, compared without regard to case.
    pub(super) fn one_of(
        self,
        key: &str,
        known: &[&'static str],
    ) -> Result<Option<&'static str>, String> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let found = known.iter().find(|name| name.eq_ignore_ascii_case(text));
        found
            .map(|name| Some(*name))
            .ok_or_else(|| format!("{key} `{text}` is none of {}", known.join(", ")))
    }

    fn value(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        self.value(key)
            .map(|value| {
                read(value)
                    .ok_or_else(|| format!("`{key}` is not {expected} but {}", describe(value)))
            })
            .transpose()
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Sets the uuid, in place of one that is there.
pub(super) fn set_uuid(object: &mut Value, uuid: Uuid) {
    if let Value::Object(object) = object {
        object.insert("uuid".to_owned(), uuid.to_string().into());
    }
}
