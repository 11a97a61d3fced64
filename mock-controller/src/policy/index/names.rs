//! From the name that a flow shows to the rules whose WebGroups hold it, by one index over all domains of all groups.
//!
//! A domain without wildcard is found by its hash. `*.suffix` is found by the hash of the suffix: a name is asked for
//! once per label, from its first dot on. Other wildcards are found by their *envelope*, what stands before the first
//! `*` and behind the last: the label suffix that the pattern ends with says which lengths of heads and tails there
//! are, so that a name is asked for once per pair of lengths, however many patterns share it. Only patterns of one
//! envelope, `a*b*c` and `a*d*c`, are tried one by one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use uuid::Uuid;

use super::sets::{SetBuilder, SetId, Union};
use crate::policy::{
    domain::WebGroup,
    flow::Application,
    host_name::is_host_name,
    pattern::{matches, normalize, without_port},
    rule::Rule,
    switches::Switches,
};

#[derive(Clone, Debug)]
pub(super) struct NameIndex {
    switches: Switches,
    /// Rules with an All-Web group.
    all_web: SetId,
    /// Rules with the pattern `*`.
    every_name: SetId,
    nodes: HashMap<Box<str>, Node>,
    /// Shapes of wildcards that end with one label suffix. The first are those that end with none.
    shapes: Vec<BTreeSet<Shape>>,
    /// By envelope.
    wildcards: HashMap<Box<str>, Vec<Wildcard>>,
    /// Bytes of the longest key of `nodes`: longer suffixes of a hostile name are not even hashed.
    longest: usize,
}

/// What is known of a domain.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Rules that list it.
    exact: SetId,
    /// Rules that list `*.` and it.
    below: SetId,
    /// Which shapes other wildcards that end with it have; 0 if there are none.
    shapes: usize,
}

/// Bytes before the first `*`, and behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    head: usize,
    tail: usize,
}

#[derive(Clone, Debug)]
struct Wildcard {
    pattern: Box<str>,
    rules: SetId,
}

impl NameIndex {
    pub(super) fn new(
        rules: &[&Rule],
        groups: &BTreeMap<Uuid, Arc<WebGroup>>,
        switches: &Switches,
        sets: &mut SetBuilder,
    ) -> Self {
        let mut users: BTreeMap<Uuid, Vec<u32>> = BTreeMap::new();
        for (number, rule) in (0u32..).zip(rules) {
            for group in &rule.web_groups {
                users.entry(*group).or_default().push(number);
            }
        }
        let used: Vec<(&WebGroup, SetId)> = users
            .into_iter()
            .filter_map(|(uuid, users)| Some((&**groups.get(&uuid)?, sets.of(users))))
            .collect();
        let all_web = used.iter().filter(|(group, _)| group.all_web);
        let all_web: Vec<SetId> = all_web.map(|(_, rules)| *rules).collect();
        let all_web = sets.union(&all_web);

        let mut builder = Builder::new(used.iter().map(|(group, _)| group.domains.len()).sum());
        for (group, rules) in used {
            for domain in &group.domains {
                builder.add(domain, rules, switches);
            }
        }
        builder.finish(
            Self {
                switches: *switches,
                all_web,
                every_name: SetId::EMPTY,
                nodes: HashMap::new(),
                shapes: vec![BTreeSet::new()],
                wildcards: HashMap::new(),
                longest: 0,
            },
            sets,
        )
    }

    /// The rules whose WebGroups hold what the flow shows. `port` matters only to
    /// [`Switches::host_header_on_tls_port`].
    pub(super) fn at(&self, application: &Application, port: u16) -> Union {
        let name = match application {
            Application::Tls { sni } => sni.as_deref(),
            Application::Http { .. } if port == 443 && !self.switches.host_header_on_tls_port => {
                return Union::default();
            }
            Application::Http { host } => host.as_deref().map(without_port),
            Application::Other => return Union::default(),
        };
        let Some(name) = name else {
            return Union::from_iter([self.all_web]);
        };
        // A string that is no host name matches nothing, All-Web included: a wildcard would take it for a name.
        if !is_host_name(name) {
            return Union::default();
        }
        let mut rules = Union::from_iter([self.all_web, self.every_name]);
        self.look_up(&normalize(name, &self.switches), &mut rules);
        rules
    }

    fn look_up(&self, name: &str, rules: &mut Union) {
        let mut envelope = String::new();
        if let Some(node) = self.node(name) {
            rules.push(node.exact);
        }
        self.try_shapes(0, name, &mut envelope, rules);
        for (nth, (dot, _)) in name.match_indices('.').enumerate() {
            let Some(node) = self.node(&name[dot + 1..]) else {
                continue;
            };
            if nth == 0 || self.switches.wildcard_spans_labels {
                rules.push(node.below);
            }
            if node.shapes > 0 {
                self.try_shapes(node.shapes, name, &mut envelope, rules);
            }
        }
    }

    fn node(&self, domain: &str) -> Option<&Node> {
        (domain.len() <= self.longest).then(|| self.nodes.get(domain))?
    }

    fn try_shapes(&self, shapes: usize, name: &str, envelope: &mut String, rules: &mut Union) {
        for Shape { head, tail } in &self.shapes[shapes] {
            let Some(behind) = name
                .len()
                .checked_sub(*tail)
                .filter(|behind| behind >= head)
            else {
                continue;
            };
            // Patterns are ASCII: one cannot match where its end would split a character.
            let (Some(head), Some(tail)) = (name.get(..*head), name.get(behind..)) else {
                continue;
            };
            envelope.clear();
            envelope.extend([head, "*", tail]);
            let wildcards = self.wildcards.get(envelope.as_str()).into_iter().flatten();
            for wildcard in wildcards {
                if matches(&wildcard.pattern, name, &self.switches) {
                    rules.push(wildcard.rules);
                }
            }
        }
    }
}

struct Builder {
    nodes: HashMap<Box<str>, Node>,
    /// What more than one set of rules lists.
    shared: BTreeMap<(Box<str>, Listed), Vec<SetId>>,
    wildcards: BTreeMap<Box<str>, Vec<SetId>>,
    every_name: Vec<SetId>,
}

/// How a domain is listed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    Exact,
    Below,
}

impl Node {
    const UNLISTED: Self = Self {
        exact: SetId::EMPTY,
        below: SetId::EMPTY,
        shapes: 0,
    };

    fn listed(&mut self, listed: Listed) -> &mut SetId {
        match listed {
            Listed::Exact => &mut self.exact,
            Listed::Below => &mut self.below,
        }
    }
}

impl Builder {
    fn new(domains: usize) -> Self {
        Self {
            nodes: HashMap::with_capacity(domains),
            shared: BTreeMap::new(),
            wildcards: BTreeMap::new(),
            every_name: Vec::new(),
        }
    }

    fn add(&mut self, domain: &str, rules: SetId, switches: &Switches) {
        let domain = &*normalize(domain, switches);
        if !domain.contains('*') {
            return self.list(domain, Listed::Exact, rules);
        }
        match domain.strip_prefix("*.") {
            Some(suffix) if !suffix.contains('*') => {
                self.list(suffix, Listed::Below, rules);
                if switches.wildcard_matches_apex {
                    self.list(suffix, Listed::Exact, rules);
                }
            }
            _ if domain == "*" => self.every_name.push(rules),
            _ => {
                let sets = self.wildcards.entry(domain.into()).or_default();
                sets.push(rules);
            }
        }
    }

    fn list(&mut self, domain: &str, listed: Listed, rules: SetId) {
        let Some(node) = self.nodes.get_mut(domain) else {
            let mut node = Node::UNLISTED;
            *node.listed(listed) = rules;
            self.nodes.insert(domain.into(), node);
            return;
        };
        let known = node.listed(listed);
        if *known == SetId::EMPTY {
            *known = rules;
        } else if *known != rules {
            let sets = self.shared.entry((domain.into(), listed)).or_default();
            sets.extend([*known, rules]);
        }
    }

    fn finish(mut self, mut index: NameIndex, sets: &mut SetBuilder) -> NameIndex {
        for ((domain, listed), shared) in self.shared {
            if let Some(node) = self.nodes.get_mut(&domain) {
                *node.listed(listed) = sets.union(&shared);
            }
        }
        for (pattern, rules) in self.wildcards {
            let (head, rest) = pattern.split_once('*').unwrap_or((&pattern, ""));
            let tail = rest.rsplit_once('*').map_or(rest, |(_, tail)| tail);
            let shapes = match tail.split_once('.') {
                None => 0,
                Some((_, suffix)) => {
                    let node = self.nodes.entry(suffix.into()).or_insert(Node::UNLISTED);
                    if node.shapes == 0 {
                        node.shapes = index.shapes.len();
                        index.shapes.push(BTreeSet::new());
                    }
                    node.shapes
                }
            };
            index.shapes[shapes].insert(Shape {
                head: head.len(),
                tail: tail.len(),
            });
            let envelope = format!("{head}*{tail}").into_boxed_str();
            let rules = sets.union(&rules);
            let wildcard = Wildcard { pattern, rules };
            index.wildcards.entry(envelope).or_default().push(wildcard);
        }
        index.every_name = sets.union(&self.every_name);
        index.longest = self
            .nodes
            .keys()
            .map(|domain| domain.len())
            .max()
            .unwrap_or(0);
        index.nodes = self.nodes;
        index
    }
}

#[cfg(test)]
mod tests;
