//! Draws the policy of the benchmark, in the vendor's JSON, and the flows that meet it.
//!
//! Rules come in three kinds, mixed in order: a *server* rule has sources of its own, as a policy object's has; a
//! *subnet* rule has the whole subnet as its source, which it shares with all of its kind, so that the source leaves
//! thousands of rules; a *block* rule has no names. The same seed draws the same policy.

use std::net::{IpAddr, Ipv4Addr};

use mock_controller::policy::{ANYWHERE, Application, FiveTuple, Protocol};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) const DOMAINS_PER_GROUP: u32 = 100;
/// Blocks of each SmartGroup; every tenth has one more, which overlaps its neighbour's.
const BLOCKS_PER_GROUP: u32 = 8;
/// The first address of the SmartGroups' blocks: the subnet is 10.0.0.0/8.
const SUBNET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);

/// How many of what.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub rules: u32,
    pub web_groups: u32,
    pub smart_groups: u32,
}

/// A kind of flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meets {
    /// A rule among the first tenth permits it.
    EarlyRule,
    /// A rule at the end permits it, which has sources of its own.
    LateRule,
    /// A rule at the end permits it, which shares its source with thousands.
    LateSubnetRule,
    /// It shows a name that nobody lists.
    UnlistedName,
    /// No name, no port that a rule names.
    DefaultAction,
}

pub(super) struct Drawn {
    size: Size,
    dice: ChaCha12Rng,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Subnet,
    Block,
}

impl Drawn {
    pub(super) fn new(seed: u64, size: Size) -> Self {
        Self {
            size,
            dice: ChaCha12Rng::seed_from_u64(seed),
        }
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.dice.next_u32() % bound.max(1)
    }

    pub(super) fn subnet() -> Value {
        json!({"name": "subnet", "selector": {"any": [{"all": {"cidr": format!("{SUBNET}/8")}}]}})
    }

    pub(super) fn smart_group(index: u32) -> Value {
        let block = |cidr: String| json!({"all": {"cidr": cidr}});
        let mut blocks: Vec<Value> = (0..BLOCKS_PER_GROUP)
            .map(|nth| block(format!("{}/30", member(index, nth))))
            .collect();
        if index % 10 == 9 {
            blocks.push(block(format!("{}/26", member(index - 1, 0))));
        }
        json!({"name": format!("servers-{index}"), "selector": {"any": blocks}})
    }

    pub(super) fn web_group(index: u32) -> Value {
        let domains: Vec<Value> = (0..DOMAINS_PER_GROUP)
            .map(|nth| json!({"all": {"snifilter": domain(index, nth)}}))
            .collect();
        json!({"name": format!("names-{index}"), "selector": {"any": domains}})
    }

    fn kind(&self, rule: u32) -> Kind {
        match rule % 5 {
            0 | 3 => Kind::Server,
            1 | 4 => Kind::Subnet,
            _ => Kind::Block,
        }
    }

    fn servers(&self, rule: u32) -> u32 {
        rule / 3 % self.size.smart_groups
    }

    /// A group that no other rule of its kind uses.
    fn names(&self, rule: u32) -> u32 {
        (rule / 5 * 2 + u32::from(rule % 5 >= 3)) % self.size.web_groups
    }

    /// The policy list, from the uuids of the groups that were created.
    pub(super) fn policy_list(&self, subnet: Uuid, smart: &[Uuid], web: &[Uuid]) -> Value {
        let rules: Vec<Value> = (0..self.size.rules)
            .map(|index| {
                let own = smart[self.servers(index) as usize];
                let names = web[self.names(index) as usize];
                let rule = json!({"name": format!("rule-{index}"), "uuid": uuid(index), "priority": index,
                    "action": "PERMIT", "protocol": "TCP", "dst_ads": [ANYWHERE], "logging": true});
                let more = match self.kind(index) {
                    Kind::Server => json!({"src_ads": [own], "web_filters": [names], "port_ranges": [{"lo": 443}]}),
                    Kind::Subnet => json!({"src_ads": [subnet], "web_filters": [names], "port_ranges": [{"lo": 443}]}),
                    Kind::Block => json!({"src_ads": [subnet], "dst_ads": [own], "port_ranges": [{"lo": 1024 + index}],
                        "action": "DENY"}),
                };
                merge(rule, more)
            })
            .collect();
        json!({"policies": rules})
    }

    /// A flow that is meant to be of this kind; whether it is, its verdict says.
    pub(super) fn flow(&mut self, meets: Meets) -> (FiveTuple, Application) {
        let rules = self.size.rules;
        let rule = loop {
            let (rule, wanted) = match meets {
                Meets::EarlyRule => (self.below(rules.div_ceil(10)), Kind::Server),
                Meets::LateRule => (rules - 1 - self.below(late(rules)), Kind::Server),
                Meets::LateSubnetRule => (rules - 1 - self.below(late(rules)), Kind::Subnet),
                Meets::UnlistedName | Meets::DefaultAction => break self.below(rules),
            };
            if self.kind(rule) == wanted {
                break rule;
            }
        };
        let nth = self.below(DOMAINS_PER_GROUP);
        let name = match meets {
            Meets::UnlistedName => format!(
                "h{}.unlisted-{}.test",
                self.below(1 << 20),
                self.below(1 << 20)
            ),
            _ => domain(self.names(rule), nth).replace('*', "x7"),
        };
        let block = self.below(BLOCKS_PER_GROUP);
        let source = match meets {
            Meets::LateSubnetRule => SUBNET.to_bits() + (200 << 16) + self.below(1 << 16),
            _ => member(self.servers(rule), block).to_bits() + self.below(4),
        };
        let destination =
            Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + self.below(1 << 16));
        let web = meets != Meets::DefaultAction;
        let protocol = if web || self.below(2) == 0 {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        let flow = FiveTuple {
            protocol,
            source: IpAddr::V4(Ipv4Addr::from_bits(source)),
            source_port: 40_000,
            destination: destination.into(),
            destination_port: if web { 443 } else { 53 },
        };
        let application = if web {
            Application::Tls { sni: Some(name) }
        } else {
            Application::Other
        };
        (flow, application)
    }
}

/// How many rules at the end count as late: each kind is among them.
pub(super) fn late(rules: u32) -> u32 {
    rules.div_ceil(10).max(5)
}

pub(super) fn uuid(rule: u32) -> Uuid {
    Uuid::from_u128(0xbe7c_0000_0000_4000_8000_0000_0000_0000 + u128::from(rule))
}

/// The first address of a SmartGroup's block.
fn member(group: u32, block: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(SUBNET.to_bits() + group * 64 + block * 8)
}

/// Mostly exact names, some wildcards in each position, a few that many groups list.
fn domain(group: u32, nth: u32) -> String {
    match nth {
        0 => "*.storage.cloud.test".to_owned(),
        1..5 => format!("shared-{nth}.api-{}.test", group % 50),
        5..15 => format!("*.tenant-{group}-{nth}.test"),
        15..18 => format!("*.s3.*.region-{group}-{nth}.test"),
        18..21 => format!("api-*.vendor-{group}-{nth}.test"),
        21..23 => format!("*brand-{group}-{nth}.test"),
        _ => format!("host-{nth}.service-{group}.example.test"),
    }
}

fn merge(mut rule: Value, more: Value) -> Value {
    if let (Value::Object(rule), Value::Object(more)) = (&mut rule, more) {
        rule.extend(more);
    }
    rule
}
