//! The controllers' view of one kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;

/// Namespace and name.
pub(super) type Key = (String, String);

pub(super) fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

#[derive(Debug)]
pub(super) struct Cache<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// Keys seen in a list that is still coming in.
    listed: BTreeSet<Key>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listed: BTreeSet::new(),
        }
    }
}

impl<K: Resource> Cache<K> {
    /// Takes in an event and returns the objects that it concerns, in the state before or after.
    pub(super) fn update(&mut self, event: Event<K>) -> Vec<Arc<K>> {
        match event {
            Event::Apply(object) => self.insert(object).into_iter().collect(),
            Event::InitApply(object) => {
                self.listed.insert(key(&object));
                self.insert(object).into_iter().collect()
            }
            Event::Delete(object) => {
                // A younger object of the same name is another one.
                let same = self
                    .objects
                    .get(&key(&object))
                    .is_some_and(|known| known.meta().uid == object.meta().uid);
                if same {
                    self.objects.remove(&key(&object)).into_iter().collect()
                } else {
                    Vec::new()
                }
            }
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<_> = self
                    .objects
                    .keys()
                    .filter(|key| !listed.contains(*key))
                    .cloned()
                    .collect();
                gone.iter()
                    .filter_map(|key| self.objects.remove(key))
                    .collect()
            }
        }
    }

    /// Takes in an object, unless a newer state of it is known. Returns it when it is news.
    pub(super) fn insert(&mut self, object: K) -> Option<Arc<K>> {
        let key = key(&object);
        if self
            .objects
            .get(&key)
            .is_some_and(|known| version(&**known) >= version(&object))
        {
            return None;
        }
        let object = Arc::new(object);
        self.objects.insert(key, Arc::clone(&object));
        Some(object)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// Objects of a namespace.
    pub(super) fn within<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        let from = (namespace.to_owned(), String::new());
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.0 == namespace)
            .map(|(_, object)| object)
    }
}

/// Our API server counts versions; clients in general must not compare them.
fn version<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, uid: &str, version: u32) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": { "namespace": "a", "name": name, "uid": uid, "resourceVersion": version.to_string() },
        }))
        .unwrap()
    }

    #[test]
    fn older_news_is_no_news() {
        let mut cache = Cache::default();
        assert!(cache.insert(pod("x", "1", 10)).is_some(), "our own write");
        assert!(
            cache.update(Event::Apply(pod("x", "1", 9))).is_empty(),
            "an event from before it"
        );
        assert!(
            cache.update(Event::Apply(pod("x", "1", 10))).is_empty(),
            "its own event"
        );
        assert_eq!(cache.update(Event::Apply(pod("x", "1", 11))).len(), 1);
    }

    #[test]
    fn the_end_of_a_namesake_leaves_the_younger_one() {
        let mut cache = Cache::default();
        cache.insert(pod("x", "2", 20));
        assert!(cache.update(Event::Delete(pod("x", "1", 15))).is_empty());
        assert_eq!(cache.update(Event::Delete(pod("x", "2", 21))).len(), 1);
        assert!(cache.get(&("a".into(), "x".into())).is_none());
    }

    #[test]
    fn a_new_list_removes_what_it_lacks() {
        let mut cache = Cache::default();
        cache.insert(pod("x", "1", 1));
        cache.insert(pod("y", "2", 2));
        cache.update(Event::Init);
        cache.update(Event::InitApply(pod("y", "2", 2)));
        let gone = cache.update(Event::InitDone);
        assert_eq!(
            gone.iter().map(|pod| key(&**pod).1).collect::<Vec<_>>(),
            ["x"]
        );
        assert_eq!(cache.within("a").count(), 1);
        assert_eq!(cache.within("b").count(), 0);
    }
}
