//! Start times: printed, never asserted.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;

use super::harness;

const ROUNDS: usize = 10;
const PODS: i32 = 50;

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
    many().await;
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

/// One Deployment, all at once: from its creation to the last replica, and from its deletion to the last process.
async fn many() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let began = Instant::now();
    let deployment = serde_json::json!({
        "metadata": { "name": "many" },
        "spec": {
            "replicas": PODS,
            "selector": { "matchLabels": { "app": "many" } },
            "template": {
                "metadata": { "labels": { "app": "many" } },
                "spec": { "containers": [harness::container("main", &["idle"])] },
            },
        },
    });
    harness::create::<Deployment>(&client, deployment).await;
    let all = |deployment: &Deployment| {
        let available = deployment
            .status
            .as_ref()
            .and_then(|status| status.available_replicas);
        available == Some(PODS)
    };
    harness::until(&client, "many", "all run", all).await;
    println!("{PODS} pods ready: {:.1?}", began.elapsed());
    let began = Instant::now();
    cluster.shutdown().await;
    println!("{PODS} pods shut down: {:.1?}", began.elapsed());
}
