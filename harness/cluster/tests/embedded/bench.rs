//! Start times: printed, never asserted.

use std::time::{Duration, Instant};

use super::harness;

const ROUNDS: usize = 10;

pub(crate) async fn run() {
    let (mut ready, mut running, mut stopped) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let cluster = harness::start().await;
        ready.push(began.elapsed());
        harness::run(&cluster.client(), "first", &["idle"]).await;
        running.push(began.elapsed());
        let began = Instant::now();
        cluster.shutdown().await;
        stopped.push(began.elapsed());
    }
    for (what, mut times) in [
        ("cluster ready", ready),
        ("first pod ready", running),
        ("shut down", stopped),
    ] {
        times.sort();
        let worst = times.last().copied().unwrap_or(Duration::ZERO);
        println!(
            "{what}: median {:.1?}, worst {worst:.1?} of {ROUNDS}",
            times[times.len() / 2]
        );
    }
}
