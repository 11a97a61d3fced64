//! Packets from both sides into a gateway whose policy lets some of them pass. The input is a row of packets: a byte of
//! flags, a length, the packet. What must hold: no panic, every packet sent is whole, every flow ends, and without a
//! policy nothing leaves.

#![no_main]

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use libfuzzer_sys::fuzz_target;
use mock_controller::{
    fault::Faults,
    gateway::{Config, Gateway, Side},
    policy::{Logging, 
        ANYWHERE, Action, AttachmentPoint, DefaultAction, FlowAppRequirement, Inventory, Policy,
        PolicyList, Protocol, Rule, Snapshot, Switches, WebGroup,
    },
    time::Now,
};
use uuid::Uuid;

const FROM_OUTSIDE: u8 = 1;
const RIGHT_CHECKSUM: u8 = 2;
const LOSE_POLICY: u8 = 4;

fuzz_target!(|data: &[u8]| {
    let policy = Arc::new(policy());
    let config = Config::new(Ipv4Addr::new(203, 0, 113, 9));
    let mut gateway = Gateway::new(config, Faults::default(), 7, policy);
    let mut has_policy = true;
    let mut time = Duration::from_secs(1);
    let mut rest = data;
    while let [flags, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]) % 2048).min(tail.len());
        let (packet, behind) = tail.split_at(length);
        rest = behind;
        time += Duration::from_millis(u64::from(*flags) * 10);
        let now = at(time);
        gateway.handle_timeout(now);
        if flags & LOSE_POLICY != 0 {
            gateway.restart(now);
            has_policy = false;
        }
        let mut packet = packet.to_vec();
        if flags & RIGHT_CHECKSUM != 0 {
            set_checksum(&mut packet);
        }
        match flags & FROM_OUTSIDE {
            0 => gateway.handle_inside(now, &packet),
            _ => gateway.handle_outside(now, &packet),
        }
        while let Some(transmit) = gateway.poll_transmit() {
            assert!(has_policy || transmit.side == Side::Inside);
            let length = u16::from_be_bytes([transmit.packet[2], transmit.packet[3]]);
            assert!(transmit.packet[0] >> 4 != 4 || usize::from(length) == transmit.packet.len());
        }
        while gateway.poll_record().is_some() {}
    }
    for _ in 0..1000 {
        let Some(next) = gateway.poll_timeout() else {
            break;
        };
        gateway.handle_timeout(at(next));
        while gateway.poll_transmit().is_some() {}
        while gateway.poll_record().is_some() {}
    }
    assert_eq!(gateway.counters().flows, 0, "every flow ends");
});

fn at(monotonic: Duration) -> Now {
    Now {
        monotonic,
        wall: Default::default(),
    }
}

/// Without it nearly every input would end at the header checksum.
fn set_checksum(packet: &mut [u8]) {
    let length = packet
        .first()
        .map_or(0, |first| usize::from(first & 15) * 4);
    if packet.len() < length || length < 20 {
        return;
    }
    packet[10..12].fill(0);
    let words = packet[..length].chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Names on TCP, UDP and ICMP without a question, the rest denied.
fn policy() -> Snapshot {
    let mut policy = Policy::new(DefaultAction {
        action: Action::Deny,
        logging: Logging::StartAndEnd,
    });
    let group = WebGroup::new(
        Uuid::from_u128(1),
        "names".to_owned(),
        vec!["*.example.org".to_owned()],
        &Switches::default(),
    )
    .expect("a domain");
    let named = rule(2, Protocol::Tcp, vec![group.uuid]);
    policy.add_web_group(group);
    policy.add_list(PolicyList {
        uuid: Uuid::from_u128(5),
        name: "fuzz".to_owned(),
        attachment_point: AttachmentPoint::Kubernetes,
        object: None,
        rules: vec![
            named,
            rule(3, Protocol::Udp, Vec::new()),
            rule(4, Protocol::Icmp, Vec::new()),
        ],
    });
    Snapshot::compile(1, &policy, &Inventory::default(), &Switches::default())
}

fn rule(uuid: u128, protocol: Protocol, web_groups: Vec<Uuid>) -> Rule {
    Rule {
        uuid: Uuid::from_u128(uuid),
        name: String::new(),
        sources: vec![ANYWHERE],
        destinations: vec![ANYWHERE],
        web_groups,
        protocol: Some(protocol),
        ports: Vec::new(),
        action: Action::Permit,
        logging: Logging::StartAndEnd,
        watch: false,
        flow_app_requirement: FlowAppRequirement::default(),
    }
}
