//! What the stored objects cost in memory, so that all of them together are bounded.
//!
//! The figures are estimates from the sizes of `serde_json`'s types on a 64-bit machine; what a text of two bytes (`0,`)
//! becomes in memory is many times that.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::Error;

/// Bytes that all stored objects may take together.
const MAX_TOTAL: usize = 1 << 30;
/// Bytes of one value, wherever it stands.
const VALUE: usize = 32;
/// Bytes of a map's node, which has room for eleven entries.
const NODE: usize = 640;

/// The weights of the objects that are kept, by uuid; the V1 policy list has the nil one.
#[derive(Clone, Debug, Default)]
pub(super) struct Weights {
    each: BTreeMap<Uuid, usize>,
    total: usize,
}

impl Weights {
    /// The weight of an object, if there is room for it in the place of what its uuid had before.
    pub(super) fn fits(&self, uuid: Uuid, object: &Value) -> Result<usize, Error> {
        let weight = weight(object);
        let before = self.each.get(&uuid).copied().unwrap_or(0);
        if self.total - before + weight > MAX_TOTAL {
            return Err(Error::Full {
                what: "bytes of objects",
                bound: MAX_TOTAL,
            });
        }
        Ok(weight)
    }

    pub(super) fn set(&mut self, uuid: Uuid, weight: usize) {
        let before = self.each.insert(uuid, weight).unwrap_or(0);
        self.total = self.total - before + weight;
    }

    pub(super) fn remove(&mut self, uuid: Uuid) {
        self.total -= self.each.remove(&uuid).unwrap_or(0);
    }
}

/// The parser bounds how deep a value is.
fn weight(value: &Value) -> usize {
    VALUE
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(weight).sum(),
            Value::Object(map) => {
                let entries = map.iter();
                let entries = entries.map(|(key, value)| key.len() + weight(value));
                NODE * (map.len() / 6 + 1) + entries.sum::<usize>()
            }
        }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_takes_the_place_of_the_one_before() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let half = Value::String("x".repeat(MAX_TOTAL / 2));
        let mut weights = Weights::default();
        weights.set(one, weights.fits(one, &half).unwrap());
        weights.set(one, weights.fits(one, &half).unwrap());
        let refused = weights.fits(other, &half).unwrap_err();
        assert!(
            refused.to_string().contains("bytes of objects"),
            "{refused}"
        );
        weights.fits(other, &json!({"name": "small"})).unwrap();
        weights.remove(one);
        weights.remove(one);
        weights.set(other, weights.fits(other, &half).unwrap());
    }
}
