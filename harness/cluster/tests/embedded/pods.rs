//! Single Pods: what is inside, and how they live and die.

use std::time::Duration;

use api_server::{ExecOptions, ExecOutput};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, LogParams};
use serde_json::json;

use super::harness::{
    self, address, container, create, exec, gone, is_ready, pod, reference, until, waits_with,
};

/// Value of a line `name=value` or `Name:\tvalue`.
fn fact<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix([':', '=']));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

pub(crate) async fn confinement() {
    let cluster = harness::start().await;
    let pod = harness::run(&cluster.client(), "confined", &["idle"]).await;
    // The same must hold for the container's own process and for one that exec puts beside it.
    let (_, status) = exec(&cluster, &pod, &["self", "role", "cat", "/proc/1/status"]).await;
    let (_, facts) = exec(&cluster, &pod, &["self", "role", "facts"]).await;
    for text in [&status, &facts] {
        assert_eq!(fact(text, "Uid"), "1000\t1000\t1000\t1000");
        assert_eq!(fact(text, "Gid"), "1000\t1000\t1000\t1000");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(fact(text, set), "0000000000000000", "{set}");
        }
        assert_eq!(fact(text, "NoNewPrivs"), "1");
    }
    assert_eq!(fact(&status, "Pid"), "1");
    assert_eq!(fact(&facts, "devices"), "lo,eth0");
    assert_eq!(
        fact(&facts, "processes"),
        "2",
        "the container's process and the command"
    );
    assert_eq!(fact(&facts, "write-root"), "Err(ReadOnlyFilesystem)");
    assert_eq!(fact(&facts, "write-etc"), "Err(ReadOnlyFilesystem)");
    assert_eq!(fact(&facts, "write-tmp"), "Ok(())");
    assert_eq!(fact(&facts, "raw-socket"), "Err(EPERM)");
    assert_eq!(fact(&facts, "new-mount"), "Err(EPERM)");
    assert_eq!(fact(&facts, "descriptors"), "4");
    assert_eq!(fact(&facts, "hostname"), "confined");
    assert_eq!(fact(&facts, "root"), "app,dev,etc,lib,lib64,proc,tmp,var");
    cluster.shutdown().await;
}

pub(crate) async fn files_and_environment() {
    let cluster = harness::start().await;
    let client = cluster.client();
    create::<Secret>(&client, json!({ "metadata": { "name": "secret" }, "stringData": { "TOKEN": "s3cret", "file.txt": "hidden" } })).await;
    create::<ConfigMap>(
        &client,
        json!({ "metadata": { "name": "map" }, "data": { "COLOR": "blue" } }),
    )
    .await;
    let mut main = container("main", &["idle"]);
    main["envFrom"] = json!([{ "secretRef": { "name": "secret" }, "prefix": "S_" }]);
    main["env"] = json!([
        { "name": "COLOR", "valueFrom": { "configMapKeyRef": { "name": "map", "key": "COLOR" } } },
        { "name": "ADDRESS", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
        { "name": "GREETING", "value": "$(COLOR) $(ADDRESS)" },
        { "name": "ABSENT", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "none", "optional": true } } },
    ]);
    main["volumeMounts"] = json!([
        { "name": "secret", "mountPath": "/files" },
        { "name": "projected", "mountPath": "/projected" },
    ]);
    let volumes = json!({ "volumes": [
        { "name": "secret", "secret": { "secretName": "secret", "defaultMode": 0o400 } },
        { "name": "projected", "projected": { "sources": [
            { "serviceAccountToken": { "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
        ] } },
        { "name": "unmounted", "secret": { "secretName": "absent" } },
    ], "securityContext": { "fsGroup": 1000 } });
    create::<Pod>(&client, pod("files", &[main], volumes)).await;
    let pod: Pod = until(&client, "files", "ready", is_ready).await;

    let (_, environment) = exec(&cluster, &pod, &["self", "role", "env"]).await;
    let ip = address(&pod);
    let expected = [
        ("S_TOKEN", "s3cret"),
        ("COLOR", "blue"),
        ("ADDRESS", ip.as_str()),
        ("GREETING", &format!("blue {ip}")),
        ("FROM_IMAGE", "1"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("HOSTNAME", "files"),
    ];
    for (name, value) in expected {
        assert_eq!(fact(&environment, name), value, "{name}");
    }
    assert!(!environment.contains("ABSENT"));

    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let ca = cluster.api_server().ca_pem().to_owned();
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n{ip}\tfiles\n");
    let files = [
        ("/files/file.txt", "hidden"),
        (&format!("{account}/namespace"), "default"),
        (&format!("{account}/ca.crt"), &ca),
        ("/projected/ca.crt", &ca),
        ("/projected/labels", "app=\"files\""),
        ("/etc/hosts", &hosts),
        (
            "/etc/resolv.conf",
            "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        ),
        ("/etc/ssl/certs/ca-certificates.crt", "the roots\n"),
    ];
    for (path, contents) in files {
        let (code, text) = exec(&cluster, &pod, &["self", "role", "cat", path]).await;
        assert_eq!((code, text.as_str()), (0, contents), "{path}");
    }
    for path in [format!("{account}/token"), "/projected/token".to_owned()] {
        let (_, token) = exec(&cluster, &pod, &["self", "role", "cat", &path]).await;
        assert!(token.len() > 20, "{path}: {token}");
    }
    cluster.shutdown().await;
}

pub(crate) async fn logs_and_exec() {
    let logs = tempfile::tempdir().unwrap();
    let config = cluster::ClusterConfig {
        log_dir: Some(logs.path().to_owned()),
        ..harness::config()
    };
    let cluster = cluster::EmbeddedCluster::start(config).await.unwrap();
    let client = cluster.client();
    let pod = harness::run(&client, "talk", &["idle"]).await;
    let api = Api::<Pod>::default_namespaced(client.clone());

    // A follower gets what comes, up to the end of the container.
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = {
        use futures::{AsyncBufReadExt as _, StreamExt as _};
        api.log_stream("talk", &follow)
            .await
            .unwrap()
            .lines()
            .map(Result::unwrap)
            .boxed()
    };
    assert_eq!(futures::StreamExt::next(&mut lines).await.unwrap(), "idle");

    let missing = exec(&cluster, &pod, &["no-such-program"]).await;
    assert_eq!(missing.0, 127);
    assert_eq!(
        exec(&cluster, &pod, &["self", "role", "exit", "7"]).await.0,
        7
    );

    let words = ["self", "role", "upper"].map(str::to_owned).to_vec();
    let options = ExecOptions {
        command: words,
        stdin: true,
        stdout: true,
        ..ExecOptions::default()
    };
    let mut session = cluster.exec(&reference(&pod), options).await.unwrap();
    session.stdin.send("spoken to".into()).await.unwrap();
    drop(session.stdin);
    assert_eq!(
        session.output.recv().await,
        Some(ExecOutput::Stdout("SPOKEN TO".into()))
    );
    assert_eq!(session.output.recv().await, Some(ExecOutput::Exit(0)));

    let words = ["self", "role", "print", "on a terminal"]
        .map(str::to_owned)
        .to_vec();
    let options = ExecOptions {
        command: words,
        stdout: true,
        tty: true,
        ..ExecOptions::default()
    };
    let mut session = cluster.exec(&reference(&pod), options).await.unwrap();
    assert_eq!(
        session.output.recv().await,
        Some(ExecOutput::Stdout("on a terminal\r\n".into()))
    );
    assert_eq!(session.output.recv().await, Some(ExecOutput::Exit(0)));

    // A dropped session takes its command along.
    let words = ["self", "role", "idle"].map(str::to_owned).to_vec();
    let options = ExecOptions {
        command: words,
        stdout: true,
        ..ExecOptions::default()
    };
    let mut session = cluster.exec(&reference(&pod), options).await.unwrap();
    assert_eq!(
        session.output.recv().await,
        Some(ExecOutput::Stdout("idle\n".into()))
    );
    assert_eq!(
        fact(
            &exec(&cluster, &pod, &["self", "role", "facts"]).await.1,
            "processes"
        ),
        "3"
    );
    drop(session);
    while fact(
        &exec(&cluster, &pod, &["self", "role", "facts"]).await.1,
        "processes",
    ) != "2"
    {}

    let grace = DeleteParams {
        grace_period_seconds: Some(5),
        ..DeleteParams::default()
    };
    api.delete("talk", &grace).await.unwrap();
    assert_eq!(
        futures::StreamExt::next(&mut lines).await.unwrap(),
        "asked to end"
    );
    assert_eq!(futures::StreamExt::next(&mut lines).await, None);
    gone(&client, "talk", &pod.uid().unwrap()).await;
    let file = std::fs::read_to_string(logs.path().join("default_talk_main.log")).unwrap();
    let texts: Vec<_> = file
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(texts, ["idle", "asked to end"]);
    cluster.shutdown().await;
}

pub(crate) async fn shared_network_and_volume() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let mount = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let (mut server, mut other) = (
        container("server", &["http", "8080"]),
        container("other", &["idle"]),
    );
    server["volumeMounts"] = mount.clone();
    server["readinessProbe"] = json!({ "tcpSocket": { "port": 8080 } });
    other["volumeMounts"] = mount;
    let volumes = json!({ "volumes": [{ "name": "shared", "emptyDir": {} }] });
    create::<Pod>(&client, pod("pair", &[server, other], volumes)).await;
    let pod: Pod = until(&client, "pair", "ready", is_ready).await;
    let in_other = |words: &[&str]| {
        let command = ["self", "role"]
            .iter()
            .chain(words)
            .map(|&word| word.to_owned())
            .collect();
        let reference = api_server::PodRef {
            container: Some("other".into()),
            ..reference(&pod)
        };
        let options = ExecOptions {
            command,
            stdout: true,
            ..ExecOptions::default()
        };
        let cluster = &cluster;
        async move {
            let mut session = cluster.exec(&reference, options).await.unwrap();
            session.output.recv().await.unwrap()
        }
    };
    assert_eq!(
        in_other(&["get", "127.0.0.1:8080"]).await,
        ExecOutput::Stdout("pair\n".into())
    );
    assert_eq!(
        in_other(&["write", "/shared/x", "left here"]).await,
        ExecOutput::Exit(0)
    );
    assert_eq!(
        exec(&cluster, &pod, &["self", "role", "cat", "/shared/x"]).await,
        (0, "left here".into())
    );
    cluster.shutdown().await;
}

pub(crate) async fn init_containers() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let mount = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let (mut first, mut second) = (
        container("first", &["write", "/shared/x", "1"]),
        container("second", &["exists", "/shared/x"]),
    );
    let mut main = container("main", &["cat", "/shared/x"]);
    for container in [&mut first, &mut second, &mut main] {
        container["volumeMounts"] = mount.clone();
    }
    let extra = json!({
        "initContainers": [first, second], "restartPolicy": "Never", "volumes": [{ "name": "shared", "emptyDir": {} }],
    });
    create::<Pod>(&client, pod("prepared", &[main], extra)).await;
    let phase = |pod: &Pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Succeeded");
    let pod: Pod = until(&client, "prepared", "it succeeds", phase).await;
    let api = Api::<Pod>::default_namespaced(client);
    assert_eq!(
        api.logs("prepared", &LogParams::default()).await.unwrap(),
        "1"
    );
    let init = pod.status.unwrap().init_container_statuses.unwrap();
    assert!(init.iter().all(|status| {
        status
            .state
            .as_ref()
            .unwrap()
            .terminated
            .as_ref()
            .unwrap()
            .exit_code
            == 0
    }));
    assert!(
        cluster.crashes().is_empty(),
        "an end that was meant to be is no crash"
    );
    cluster.shutdown().await;
}

pub(crate) async fn unknown_image() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let unknown = json!({ "name": "main", "image": "test.example/absent:v1" });
    create::<Pod>(&client, pod("stuck", &[unknown], json!({}))).await;
    let pod: Pod = until(&client, "stuck", "it backs off", |pod| {
        waits_with(pod, "ImagePullBackOff")
    })
    .await;
    let statuses = pod.status.unwrap().container_statuses.unwrap();
    let message = statuses[0]
        .state
        .as_ref()
        .unwrap()
        .waiting
        .as_ref()
        .unwrap()
        .message
        .clone()
        .unwrap();
    assert_eq!(
        message,
        "failed to pull image \"test.example/absent:v1\": not found; this cluster knows test.example/self"
    );
    Api::<Pod>::default_namespaced(client.clone())
        .delete("stuck", &DeleteParams::default())
        .await
        .unwrap();
    gone(&client, "stuck", &pod.metadata.uid.unwrap()).await;
    cluster.shutdown().await;
}

pub(crate) async fn missing_secret_appears() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let mut main = container("main", &["idle"]);
    main["env"] = json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "late", "key": "token" } } }]);
    create::<Pod>(&client, pod("patient", &[main], json!({}))).await;
    until::<Pod>(&client, "patient", "it waits", |pod| {
        waits_with(pod, "CreateContainerConfigError")
    })
    .await;
    create::<Secret>(
        &client,
        json!({ "metadata": { "name": "late" }, "stringData": { "token": "x" } }),
    )
    .await;
    until::<Pod>(&client, "patient", "it runs", is_ready).await;
    cluster.shutdown().await;
}

pub(crate) async fn crash_loop() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let mut crashes = cluster.watch_crashes();
    create::<Pod>(
        &client,
        pod(
            "broken",
            &[container("main", &["print-and-exit", "it hurts", "3"])],
            json!({}),
        ),
    )
    .await;
    let looping = |pod: &Pod| {
        let restarts = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten())
            .map(|status| status.restart_count);
        waits_with(pod, "CrashLoopBackOff") && restarts.max() >= Some(2)
    };
    let pod: Pod = until(&client, "broken", "it loops", looping).await;
    let status = pod.status.unwrap().container_statuses.unwrap().remove(0);
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    let text = Api::<Pod>::default_namespaced(client)
        .logs("broken", &previous)
        .await
        .unwrap();
    assert_eq!(text, "it hurts\n");
    let seen = crashes
        .wait_for(|crashes| crashes.len() >= 2)
        .await
        .unwrap()
        .clone();
    assert_eq!(seen[0].container(), "default/broken/main");
    assert_eq!(
        seen[0].to_string(),
        "exit code 3; its last output was: it hurts"
    );
    cluster.shutdown().await;
}

pub(crate) async fn graceful_deletion() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let api = Api::<Pod>::default_namespaced(client.clone());
    let (polite, stubborn) = (
        harness::run(&client, "polite", &["idle"]).await,
        harness::run(&client, "stubborn", &["stubborn"]).await,
    );
    let began = std::time::Instant::now();
    api.delete("polite", &DeleteParams::default())
        .await
        .unwrap();
    gone(&client, "polite", &polite.uid().unwrap()).await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "it ended when asked, before its 30 s were over"
    );

    let began = std::time::Instant::now();
    let asked = api
        .delete(
            "stubborn",
            &DeleteParams {
                grace_period_seconds: Some(1),
                ..DeleteParams::default()
            },
        )
        .await
        .unwrap();
    // The answer to the deletion: a look afterwards may come later than the grace period.
    let marked = asked.left().unwrap().metadata.deletion_timestamp;
    assert!(marked.is_some(), "it is still there, and marked");
    gone(&client, "stubborn", &stubborn.uid().unwrap()).await;
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "it was given its grace"
    );
    assert!(cluster.crashes().is_empty());
    cluster.shutdown().await;
}
