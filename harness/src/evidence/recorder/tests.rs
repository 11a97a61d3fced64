#![allow(clippy::unwrap_used)]

use super::super::observe;
use super::*;
use crate::evidence::Action;
use crate::judge::{Check, Exchange, PodFact, Protocol, RuleRef, Seen, Sent};
use crate::outcome::Outcome;

const LOG_LINE: &str = r#"<153>x GW-a-203.0.113.9-sink traffic_server[1]: {"action":"Deny","src":"10.244.0.12","src_port":40112,"dest":"192.0.2.66","dest_port":443,"proto":"TCP","enforced":true,"sni_hostname":"collect.test","decided_by":"0f6a2c1e-1111-4222-8333-444455556666","session_stage":"start","session_start":1780395309000000000,"timestamp":1780395309}"#;

fn receipt() -> Receipt {
    Receipt {
        at: "2026-06-02T10:15:09.5Z".parse().unwrap(),
        endpoint: "collect.test".to_owned(),
        local: "192.0.2.66:443".parse().unwrap(),
        peer: "203.0.113.9:50001".parse().unwrap(),
        event: fixtures::receipt::ReceiptEvent::Connected,
        canaries: vec!["cnry-00000000000000aa".to_owned()],
        encodings: Default::default(),
    }
}

fn pod() -> PodFact {
    PodFact {
        namespace: "obot-mcp".to_owned(),
        name: "pod".to_owned(),
        address: "10.244.0.12".parse().unwrap(),
        server: None,
        since: Timestamp::UNIX_EPOCH,
        until: None,
    }
}

fn sent() -> Sent {
    Sent {
        at: Timestamp::UNIX_EPOCH,
        protocol: Protocol::Tcp,
        exchange: Exchange::Tls,
        source: "10.244.0.12:40112".parse().unwrap(),
        destination: "192.0.2.66:443".parse().unwrap(),
        host: None,
        sni: None,
    }
}

/// What is written can be read back, and becomes observations.
#[test]
fn a_folder_reads_back_as_what_was_recorded() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(scratch.path().join("a")).unwrap();
    let uuid = "0f6a2c1e-1111-4222-8333-444455556666".parse().unwrap();
    let rule = RuleRef {
        name: "deny".to_owned(),
        part_of: None,
        server: None,
        default_action: false,
    };
    recorder.record(Event::PodStarted(pod()));
    recorder.record(Event::ProbeSent {
        attempt: "one".to_owned(),
        canary: "cnry-00000000000000aa".to_owned(),
        sent: sent(),
    });
    recorder.gateway_log(&format!("{LOG_LINE}\n"));
    recorder.receipt(receipt());
    recorder.record(Event::RulesKnown {
        rules: BTreeMap::from([(uuid, rule.clone())]),
    });
    recorder.record(Event::PodGone {
        namespace: "obot-mcp".to_owned(),
        name: "pod".to_owned(),
    });
    recorder.check(
        CheckResult::stated(
            Check::new("blocked", "c"),
            Outcome::Passed,
            "it holds",
            "seen",
        )
        .showing(&["EGR-01"]),
    );
    recorder.health().unwrap();

    let folder = recorder.folder();
    let events = observe::read_events(&folder.file(folder::EVENTS)).unwrap();
    let as_json = |events: &[Recorded]| serde_json::to_string(events).unwrap();
    let mirror: Vec<Recorded> = recorder
        .events()
        .iter()
        .map(|event| (**event).clone())
        .collect();
    assert_eq!(as_json(&events), as_json(&mirror));

    let seen = observe::from_events(&events, Timestamp::now());
    assert_eq!(seen.receipts, [receipt()]);
    assert_eq!(seen.rules[&uuid], rule);
    assert_eq!(seen.attempts[0].sent, Some(sent()));
    assert!(seen.pods[0].until.is_some());
    let Seen::Read(log) = seen.log else {
        panic!("the log was not read")
    };
    assert_eq!(log.records[0].action, Action::Deny);
    assert_eq!(log.records[0].seen_at, Some(events[2].at));

    let read = |name| std::fs::read_to_string(folder.file(name)).unwrap();
    assert_eq!(read(folder::GATEWAY_LOG), format!("{LOG_LINE}\n"));
    assert_eq!(
        serde_json::from_str::<Receipt>(&read(folder::RECEIPTS)).unwrap(),
        receipt()
    );
    let checks: Vec<CheckResult> = serde_json::from_str(&read(folder::CHECK)).unwrap();
    assert_eq!(checks[0].check, "c");
}

#[test]
fn times_have_nine_digits() {
    let recorded = Recorded {
        seq: 3,
        at: "2026-06-02T10:15:09.5Z".parse().unwrap(),
        event: Event::Note {
            text: "x".to_owned(),
        },
    };
    insta::assert_snapshot!(
        serde_json::to_string(&recorded).unwrap(),
        @r#"{"seq":3,"at":"2026-06-02T10:15:09.500000000Z","kind":"note","payload":{"text":"x"}}"#
    );
}

#[test]
fn evidence_is_never_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    Recorder::create(scratch.path()).unwrap();
    assert!(matches!(
        Recorder::create(scratch.path()),
        Err(Error::Io {
            action: "create",
            ..
        })
    ));
}

#[test]
fn threads_write_whole_lines_without_gaps() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(scratch.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let recorder = recorder.clone();
            scope.spawn(move || {
                for number in 0..50 {
                    recorder.record(Event::Note {
                        text: format!("{thread} {number}"),
                    });
                }
            });
        }
    });
    // The reader refuses gaps.
    let events = observe::read_events(&recorder.folder().file(folder::EVENTS)).unwrap();
    assert_eq!(events.len(), 200);
}

#[test]
fn a_cut_last_line_is_left_out_and_an_edited_file_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(scratch.path()).unwrap();
    for _ in 0..3 {
        recorder.record(Event::Note {
            text: "note".to_owned(),
        });
    }
    let path = recorder.folder().file(folder::EVENTS);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 5]).unwrap();
    assert_eq!(observe::read_events(&path).unwrap().len(), 2);
    let without_the_second: String = text
        .split_inclusive('\n')
        .enumerate()
        .filter(|(n, _)| *n != 1)
        .map(|(_, l)| l)
        .collect();
    std::fs::write(&path, without_the_second).unwrap();
    let error = observe::read_events(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("events.jsonl:2: event 2 where 1 was due"),
        "{error}"
    );
    std::fs::write(&path, "{}\n").unwrap();
    assert!(matches!(
        observe::read_events(&path),
        Err(Error::Event { line: 1, .. })
    ));
}

#[test]
fn a_pod_cannot_fill_the_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(scratch.path()).unwrap();
    let chunk = vec![b'x'; 3 * 1024 * 1024];
    // The second one crosses the bound; what would fit after it is past the cut all the same.
    for output in [&chunk[..], &chunk[..], &chunk[..10]] {
        recorder.pod_output("ns", "pod", "mcp", output);
    }
    let path = recorder
        .folder()
        .file(&Folder::pod_log_name("ns", "pod", "mcp"));
    let text = std::fs::read_to_string(path).unwrap();
    let kept = text.bytes().filter(|&byte| byte == b'x').count() as u64;
    assert!(
        (POD_LOG_BOUND..POD_LOG_BOUND + 10).contains(&kept),
        "{kept}"
    );
    assert!(text.ends_with("is not kept]\n"));
    // The pod's doing is no fault of the harness.
    recorder.health().unwrap();
}

#[test]
fn policy_objects_keep_their_generations() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(scratch.path()).unwrap();
    recorder.policy_object("FirewallPolicy", "obot-mcp", "fw", 1, "spec: 1\n");
    recorder.policy_object("FirewallPolicy", "obot-mcp", "fw", 2, "---\nspec: 2\n");
    let file = recorder
        .folder()
        .file("policy/firewallpolicy-obot-mcp-fw.yaml");
    assert_eq!(
        std::fs::read_to_string(file).unwrap(),
        "---\nspec: 1\n---\nspec: 2\n"
    );
}

#[tokio::test]
async fn waiting_ends_with_the_event_or_with_the_deadline() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(scratch.path()).unwrap();
    let awaited = |events: &[Arc<Recorded>]| {
        events
            .iter()
            .find(|event| matches!(event.event, Event::Note { .. }))
            .map(|event| event.seq)
    };
    let waiting = {
        let recorder = recorder.clone();
        tokio::spawn(async move { recorder.wait_for(Duration::from_secs(30), awaited).await })
    };
    tokio::task::yield_now().await;
    recorder.record(Event::FaultActive {
        name: "other".to_owned(),
    });
    recorder.record(Event::Note {
        text: "now".to_owned(),
    });
    assert_eq!(waiting.await.unwrap(), Some(1));
    let never = recorder
        .wait_for(Duration::from_millis(1), |_| None::<()>)
        .await;
    assert_eq!(never, None);
}
