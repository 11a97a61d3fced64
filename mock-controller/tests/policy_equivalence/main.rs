//! The compiled policy against the definition of one: random policies and flows, evaluated by the index and by walking
//! every rule, every group and every domain. `PROPTEST_CASES` says how many policies are drawn.
#![allow(clippy::unwrap_used)]

mod draw;
mod naive;

use mock_controller::policy::{FirstPacket, Snapshot};
use proptest::prelude::*;

proptest! {
    #[test]
    fn the_index_finds_what_a_walk_over_all_rules_finds(
        world in draw::world(),
        flows in prop::collection::vec((draw::flow(), draw::application()), 12),
    ) {
        let draw::World { policy, inventory, switches } = &world;
        let snapshot = Snapshot::compile(7, policy, inventory, switches);
        for (flow, application) in &flows {
            for application in [None, Some(application)] {
                let expected = naive::evaluate(&world, flow, application);
                let found = snapshot.evaluate(flow, application);
                prop_assert_eq!(&found, &expected, "{} {:?}", flow, application);
            }
            let decided = snapshot.decide(flow, application);
            prop_assert_eq!(
                FirstPacket::Decided(decided),
                naive::evaluate(&world, flow, Some(application)).outcome
            );
        }
    }
}
