//! A policy of 5,000 rules and 2,000 WebGroups of 100 domains each (what a controller has to take in a second, and a
//! gateway to evaluate at no more than three times the cost of ten rules): how long from the vendor's JSON until it is
//! enforced, and what a new flow costs.
//!
//! Nothing of a cluster is started: a controller with one gateway, which takes the policy and keeps it.

mod draw;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use mock_controller::controller::{Controller, ControllerConfig, GatewayLink};
use mock_controller::fault::Faults;
use mock_controller::policy::{
    Action, Application, DEFAULT_ACTION, DefaultAction, FirstPacket, FiveTuple, Logging, Protocol,
    Snapshot, Switches, Verdict,
};
use mock_controller::store::Store;
use mock_controller::translate::translate;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::draw::{Drawn, Meets, Size};
use super::{figure, percentile, say};
use crate::run::Error;

const LARGE: Size = Size {
    rules: 5_000,
    web_groups: 2_000,
    smart_groups: 500,
};
const SMALL: Size = Size {
    rules: 10,
    web_groups: 4,
    smart_groups: 4,
};
/// Repetitions of what takes long.
const ROUNDS: usize = 7;
/// Distinct flows of each kind.
const FLOWS: usize = 4_096;
/// Flows per sample: reading the clock costs as much as a flow.
const BATCH: usize = 16;
const FLOW_KINDS: [(Meets, &str); 5] = [
    (Meets::EarlyRule, "permitted by an early rule"),
    (Meets::LateRule, "permitted by a late rule"),
    (
        Meets::LateSubnetRule,
        "permitted by a late rule, source shared by thousands",
    ),
    (Meets::UnlistedName, "name that nobody lists"),
    (Meets::DefaultAction, "default action, no name"),
];

/// Measures and prints.
///
/// # Errors
/// When the controller does not take the policy.
pub(super) async fn policy(seed: u64) -> Result<(), Error> {
    let wire = Wire::new(LARGE);
    say(&format!(
        "policy of {} rules, {} web groups of {} domains, {} smart groups: {:.1} MB of JSON",
        LARGE.rules,
        LARGE.web_groups,
        draw::DOMAINS_PER_GROUP,
        LARGE.smart_groups + 1,
        wire.bytes() as f64 / 1e6,
    ))?;
    let (mut accepted, mut translated, mut compiled) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = || {
        let began = Instant::now();
        let mut store = Store::new(Switches::default());
        wire.configure(&mut Target::Store(&mut store))?;
        accepted.push(began.elapsed());
        let began = Instant::now();
        let translation = translation(&store);
        translated.push(began.elapsed());
        let began = Instant::now();
        let snapshot = compile(&translation);
        compiled.push(began.elapsed());
        Ok::<_, Error>(snapshot)
    };
    let mut large = round()?;
    for _ in 1..ROUNDS {
        large = round()?;
    }
    say(&figure(
        "  accepted: parsed, checked, stored",
        &mut accepted,
    ))?;
    say(&figure("  translated", &mut translated))?;
    say(&figure("  compiled", &mut compiled))?;
    let mut enforced = Vec::new();
    for _ in 0..ROUNDS {
        enforced.push(until_enforced(&wire).await?);
    }
    say(&figure(
        "  from the first byte of JSON until a gateway enforces it",
        &mut enforced,
    ))?;

    let (small, compile_small) = small_policy()?;
    say(&format!(
        "  compiled, {} rules with {} web groups: {:.1} µs median",
        SMALL.rules,
        SMALL.web_groups,
        compile_small.as_secs_f64() * 1e6
    ))?;
    say(&format!(
        "  a new flow (first packet, then the name), ns, batches of {BATCH}:          10 rules p50 p95    {} rules p50 p95    ratio p50",
        LARGE.rules
    ))?;
    for (meets, what) in FLOW_KINDS {
        let small = per_flow(&small, &flows(seed, SMALL, meets, &small)?);
        let large = per_flow(&large, &flows(seed, LARGE, meets, &large)?);
        say(&format!(
            "    {what:<66} {:>7} {:>7} {:>10} {:>7} {:>12.2}",
            small.0,
            small.1,
            large.0,
            large.1,
            f64::from(large.0) / f64::from(small.0.max(1))
        ))?;
    }
    Ok(())
}

/// The requests of a client, as bytes.
struct Wire {
    size: Size,
    groups: Vec<Vec<u8>>,
}

impl Wire {
    fn new(size: Size) -> Self {
        let smart = (0..size.smart_groups).map(Drawn::smart_group);
        let web = (0..size.web_groups).map(Drawn::web_group);
        let groups = [Drawn::subnet()].into_iter().chain(smart).chain(web);
        Self {
            size,
            groups: groups.map(|group| group.to_string().into_bytes()).collect(),
        }
    }

    fn bytes(&self) -> usize {
        let uuids: Vec<Uuid> = self.groups.iter().map(|_| Uuid::max()).collect();
        self.groups.iter().map(Vec::len).sum::<usize>() + self.policy_list(&uuids).len()
    }

    /// Refers to the groups by the uuids that they were given.
    fn policy_list(&self, groups: &[Uuid]) -> Vec<u8> {
        let (smart, web) = groups[1..].split_at(self.size.smart_groups as usize);
        let drawn = Drawn::new(0, self.size);
        let list = drawn.policy_list(groups[0], smart, web);
        list.to_string().into_bytes()
    }

    /// One change per group, as a client makes them, then the policy list and the default action.
    fn configure(&self, target: &mut Target<'_>) -> Result<(), Error> {
        let mut uuids = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let group: Value = serde_json::from_slice(group).map_err(refused)?;
            let created = target.change(|store| store.create_app_domain(group));
            uuids.push(created.map_err(refused)?);
        }
        let list: PolicyList =
            serde_json::from_slice(&self.policy_list(&uuids)).map_err(refused)?;
        let set = target.change(|store| {
            store.enable_firewall();
            store.set_default_action(DefaultAction {
                action: Action::Deny,
                logging: Logging::Start,
            });
            store.set_policy_list(list.policies)
        });
        set.map_err(refused)
    }
}

#[derive(Deserialize)]
struct PolicyList {
    policies: Vec<Value>,
}

/// What is configured: a store alone, or the one of a controller that translates and compiles meanwhile.
enum Target<'a> {
    Store(&'a mut Store),
    Controller(&'a Controller),
}

impl Target<'_> {
    fn change<T>(&mut self, change: impl FnOnce(&mut Store) -> T) -> T {
        match self {
            Self::Store(store) => change(store),
            Self::Controller(controller) => controller.configure(change),
        }
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Setup(format!("refused: {error}"))
}

fn translation(store: &Store) -> mock_controller::translate::Translation {
    let (clusters, switches, faults) = Default::default();
    translate(store, &clusters, &switches, &faults)
}

fn compile(translation: &mock_controller::translate::Translation) -> Snapshot {
    Snapshot::compile(
        1,
        &translation.policy,
        &translation.inventory,
        &Switches::default(),
    )
}

/// A gateway that enforces what it is given at once.
#[derive(Default)]
struct Gateway(Mutex<Option<Arc<Snapshot>>>);

impl GatewayLink for Gateway {
    fn push(&self, policy: Arc<Snapshot>) -> BoxFuture<'static, ()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(policy);
        Box::pin(async {})
    }
}

impl Gateway {
    fn denies_by_default(&self) -> bool {
        let nowhere = FiveTuple {
            protocol: Protocol::Udp,
            source: Ipv4Addr::LOCALHOST.into(),
            source_port: 9,
            destination: Ipv4Addr::LOCALHOST.into(),
            destination_port: 9,
        };
        let policy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let policy = policy.as_ref();
        policy.is_some_and(|policy| {
            policy.decide(&nowhere, &Application::Other).action == Action::Deny
        })
    }
}

/// Through a controller that compiles while the requests come in.
async fn until_enforced(wire: &Wire) -> Result<Duration, Error> {
    let controller = Arc::new(Controller::new(ControllerConfig {
        faults: Faults::default(),
        ..ControllerConfig::default()
    }));
    let gateway = Arc::new(Gateway::default());
    let cancel = CancellationToken::new();
    let _stop = cancel.clone().drop_guard();
    tokio::spawn(Arc::clone(&controller).run(gateway.clone(), cancel));
    controller.enforced(|_| true).await;
    let began = Instant::now();
    wire.configure(&mut Target::Controller(&controller))?;
    // The default action comes with the rules.
    controller.enforced(|_| gateway.denies_by_default()).await;
    Ok(began.elapsed())
}

/// The policy of ten rules, and how long it takes to compile.
fn small_policy() -> Result<(Snapshot, Duration), Error> {
    let mut store = Store::new(Switches::default());
    Wire::new(SMALL).configure(&mut Target::Store(&mut store))?;
    let translation = translation(&store);
    let mut took: Vec<Duration> = (0..501)
        .map(|_| {
            let began = Instant::now();
            black_box(compile(&translation));
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    Ok((compile(&translation), percentile(&took, 50)))
}

/// Flows that `policy` really decides as they are meant to be.
fn flows(
    seed: u64,
    size: Size,
    meets: Meets,
    policy: &Snapshot,
) -> Result<Vec<(FiveTuple, Application)>, Error> {
    let mut drawn = Drawn::new(seed, size);
    let late: Vec<Uuid> = (size.rules - draw::late(size.rules)..size.rules)
        .map(draw::uuid)
        .collect();
    let early: Vec<Uuid> = (0..size.rules.div_ceil(10)).map(draw::uuid).collect();
    let is_meant = |verdict: &Verdict| match meets {
        Meets::EarlyRule => early.contains(&verdict.decided_by),
        Meets::LateRule | Meets::LateSubnetRule => late.contains(&verdict.decided_by),
        Meets::UnlistedName | Meets::DefaultAction => verdict.decided_by == DEFAULT_ACTION,
    };
    let tries = std::iter::repeat_with(|| drawn.flow(meets)).take(8 * FLOWS);
    let flows: Vec<_> = tries
        .filter(|(flow, application)| is_meant(&evaluate(policy, flow, application)))
        .take(FLOWS)
        .collect();
    if flows.len() < FLOWS {
        return Err(Error::Setup("too few flows are decided as meant".into()));
    }
    Ok(flows)
}

fn evaluate(policy: &Snapshot, flow: &FiveTuple, application: &Application) -> Verdict {
    match policy.first_packet(flow) {
        FirstPacket::Decided(verdict) => verdict,
        FirstPacket::Inspect => policy.decide(flow, application),
    }
}

/// Median and 95th percentile in nanoseconds.
fn per_flow(policy: &Snapshot, flows: &[(FiveTuple, Application)]) -> (u32, u32) {
    let mut samples = Vec::new();
    for round in 0..=ROUNDS {
        for batch in flows.chunks_exact(BATCH) {
            let began = Instant::now();
            for (flow, application) in batch {
                black_box(evaluate(policy, flow, application));
            }
            // The first round warms up.
            if round > 0 {
                let nanos = began.elapsed().as_nanos() / BATCH as u128;
                samples.push(u32::try_from(nanos).unwrap_or(u32::MAX));
            }
        }
    }
    samples.sort_unstable();
    (percentile(&samples, 50), percentile(&samples, 95))
}
