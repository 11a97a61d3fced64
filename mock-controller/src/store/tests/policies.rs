//! Attachment points, nesting, and what of it is in force.

use super::*;
use crate::policy::AttachmentPoint;

fn ruleset(store: &mut Store, name: &str, attach_to: Option<&str>) -> Uuid {
    let mut object = json!({"name": name, "policies": [rule(name, 1)]});
    if let Some(point) = attach_to {
        object["attach_to"] = store.attachment_point(point).unwrap().to_string().into();
    }
    store.create_policy(object).unwrap()
}

fn block(name: &str, parts: &[(i64, &str, Uuid)]) -> Value {
    let parts: Vec<_> = parts
        .iter()
        .map(|(priority, kind, uuid)| match *kind {
            "attachment_point" => json!({"attachment_point": {"name": "p", "uuid": uuid}, "name": "", "priority": priority}),
            kind => json!({kind: uuid, "name": "", "priority": priority}),
        })
        .collect();
    json!({"name": name, "sub_policies": parts})
}

fn attached(mut object: Value, store: &Store, point: &str) -> Value {
    object["attach_to"] = store.attachment_point(point).unwrap().to_string().into();
    object
}

#[test]
fn lists_are_evaluated_in_the_documented_order() {
    let mut store = Store::default();
    ruleset(&mut store, "after k8s", Some("TERRAFORM_AFTER_K8S_MANAGED"));
    ruleset(&mut store, "after ui", Some("TERRAFORM_AFTER_UI_MANAGED"));
    ruleset(&mut store, "before ui", Some("TERRAFORM_BEFORE_UI_MANAGED"));
    ruleset(&mut store, "nowhere", None);
    store.set_policy_list(vec![rule("v1", 1)]).unwrap();
    assert_eq!(
        rules_of(&store),
        ["before ui", "v1", "after ui", "after k8s"]
    );
    let at: Vec<_> = contributed(&store)
        .lists
        .iter()
        .map(|list| list.attachment_point)
        .collect();
    assert_eq!(
        at,
        [
            AttachmentPoint::BeforeUi,
            AttachmentPoint::V1PolicyList,
            AttachmentPoint::AfterUi,
            AttachmentPoint::AfterKubernetes
        ]
    );
}

#[test]
fn groups_nest_by_priority() {
    let mut store = Store::default();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| ruleset(&mut store, name, None));
    store.add_attachment_point("team").unwrap();
    let team = store.attachment_point("team").unwrap();
    let inner = store
        .create_policy(block("inner", &[(20, "list", b), (-1, "list", c)]))
        .unwrap();
    let outer = block(
        "outer",
        &[
            (30, "list", a),
            (10, "block", inner),
            (20, "attachment_point", team),
        ],
    );
    let outer = attached(outer, &store, "TERRAFORM_BEFORE_UI_MANAGED");
    let outer = store.create_policy(outer).unwrap();
    assert_eq!(rules_of(&store), ["c", "b", "a"]);
    let with_d = json!({"name": "d", "policies": [rule("d", 1)]});
    let with_d = attached(with_d, &store, "team");
    store.update_policy(d, with_d).unwrap();
    assert_eq!(rules_of(&store), ["c", "b", "d", "a"]);
    // Detached as a whole.
    store
        .update_policy(outer, block("outer", &[(1, "block", inner)]))
        .unwrap();
    assert!(rules_of(&store).is_empty());
}

#[test]
fn a_ruleset_in_several_groups_counts_where_it_comes_first() {
    let mut store = Store::default();
    let [shared, own] = ["shared", "own"].map(|name| ruleset(&mut store, name, None));
    let nested = store
        .create_policy(block("nested", &[(0, "list", shared)]))
        .unwrap();
    let top = block(
        "top",
        &[(2, "list", shared), (1, "list", own), (0, "block", nested)],
    );
    let top = attached(top, &store, "TERRAFORM_AFTER_UI_MANAGED");
    store.create_policy(top).unwrap();
    assert_eq!(rules_of(&store), ["shared", "own"]);
}

/// Sharing doubles the paths with each level; the result must not.
#[test]
fn deep_sharing_stays_small() {
    let mut store = Store::default();
    let mut below = store.create_policy(block(
        "0",
        &[(0, "list", ruleset(&mut Store::default(), "x", None))],
    ));
    assert!(below.is_err(), "a part of another store is unknown here");
    let leaf = ruleset(&mut store, "leaf", None);
    below = store.create_policy(block("0", &[(0, "list", leaf)]));
    for level in 1..200 {
        let part = below.unwrap();
        below = store.create_policy(block(
            &level.to_string(),
            &[(0, "block", part), (1, "block", part)],
        ));
    }
    let top = block("top", &[(0, "block", below.unwrap())]);
    let top = attached(top, &store, "TERRAFORM_BEFORE_UI_MANAGED");
    store.create_policy(top).unwrap();
    assert_eq!(rules_of(&store), ["leaf"]);
}

#[test]
fn nothing_contains_itself() {
    let mut store = Store::default();
    let leaf = ruleset(&mut store, "leaf", None);
    let inner = store
        .create_policy(block("inner", &[(0, "list", leaf)]))
        .unwrap();
    let outer = store
        .create_policy(block("outer", &[(0, "block", inner)]))
        .unwrap();
    let before = store.policy(inner).unwrap().clone();
    for parts in [vec![(0, "block", outer)], vec![(0, "block", inner)]] {
        let error = store
            .update_policy(inner, block("inner", &parts))
            .unwrap_err();
        assert!(error.to_string().contains("contain itself"), "{error}");
        assert_eq!(*store.policy(inner).unwrap(), before);
    }
    // Over an attachment point, and at the creation.
    let point = store
        .attachment_point("TERRAFORM_BEFORE_UI_MANAGED")
        .unwrap();
    let looped = block("loop", &[(0, "attachment_point", point)]);
    let looped = attached(looped, &store, "TERRAFORM_BEFORE_UI_MANAGED");
    assert!(store.create_policy(looped).is_err());
    assert_eq!(store.policies().count(), 3);
}

#[test]
fn one_object_per_attachment_point() {
    let mut store = Store::default();
    let first = ruleset(&mut store, "first", Some("TERRAFORM_BEFORE_UI_MANAGED"));
    let second = attached(
        json!({"name": "second", "policies": []}),
        &store,
        "TERRAFORM_BEFORE_UI_MANAGED",
    );
    let error = store.create_policy(second.clone()).unwrap_err();
    assert!(matches!(error, Error::PointTaken { .. }), "{error}");
    let again = store.policy(first).unwrap().as_ref().clone();
    store.update_policy(first, again).unwrap();
    store.delete_policy(first).unwrap();
    store.create_policy(second).unwrap();
}

#[rstest]
#[case::unknown(json!({"attach_to": Uuid::max()}), "does not exist")]
#[case::kubernetes(json!({"attach_to": crate::policy::K8S_ATTACHMENT_POINT}), "belongs to the controller")]
#[case::no_uuid(json!({"attach_to": "TERRAFORM_BEFORE_UI_MANAGED"}), "`attach_to` is not a uuid")]
#[case::no_name(json!({"name": null}), "`name` is missing")]
#[case::both(json!({"sub_policies": [{"list": Uuid::max(), "priority": 1}]}), "both policies and sub_policies")]
#[case::policies(json!({"policies": {}}), "`policies` is not a list")]
fn rulesets_that_are_refused(#[case] change: Value, #[case] expected: &str) {
    let mut object = json!({"name": "rs", "policies": []});
    for (key, value) in change.as_object().unwrap() {
        object[key.as_str()] = value.clone();
    }
    let mut store = Store::default();
    let error = store.create_policy(object).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(store.policies().count(), 0);
}

#[rstest]
#[case::empty(json!([]), "empty policy group is not allowed")]
#[case::list(json!([{"list": Uuid::max(), "priority": 1}]), "does not exist")]
#[case::block(json!([{"block": Uuid::max(), "priority": 1}]), "does not exist")]
#[case::point(json!([{"attachment_point": {"name": "p", "uuid": Uuid::max()}, "priority": 1}]), "does not exist")]
#[case::kubernetes(json!([{"attachment_point": {"uuid": crate::policy::K8S_ATTACHMENT_POINT}}]), "no group can hold it")]
#[case::kubernetes_by_name(json!([{"attachment_point": {"name": "K8S_POLICY_LIST"}}]), "no group can hold it")]
#[case::two(json!([{"list": Uuid::max(), "block": Uuid::max(), "priority": 1}]), "one of list, block, attachment_point")]
#[case::none(json!([{"priority": 1}]), "one of list, block, attachment_point")]
#[case::nameless(json!([{"attachment_point": {}, "priority": 1}]), "a name or a uuid")]
fn groups_that_are_refused(#[case] parts: Value, #[case] expected: &str) {
    let object = json!({"name": "grp", "sub_policies": parts});
    let error = Store::default().create_policy(object).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_list_is_no_block_and_a_ruleset_stays_one() {
    let mut store = Store::default();
    let list = ruleset(&mut store, "rs", None);
    assert!(
        store
            .create_policy(block("grp", &[(0, "block", list)]))
            .is_err()
    );
    let grp = store
        .create_policy(block("grp", &[(0, "list", list)]))
        .unwrap();
    assert!(
        store
            .update_policy(grp, json!({"name": "grp", "policies": []}))
            .is_err()
    );
}

#[test]
fn what_a_group_refers_to_stays() {
    let mut store = Store::default();
    let list = ruleset(&mut store, "rs", None);
    let grp = store
        .create_policy(block("grp", &[(0, "list", list)]))
        .unwrap();
    let outer = store
        .create_policy(block("outer", &[(0, "block", grp)]))
        .unwrap();
    for (used, by) in [(list, "grp"), (grp, "outer")] {
        let error = store.delete_policy(used).unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("policy groups: {by}")),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    for unused in [outer, grp, list] {
        store.delete_policy(unused).unwrap();
        assert!(
            store
                .policy(unused)
                .unwrap_err()
                .to_string()
                .contains("does not exist")
        );
    }
}

#[test]
fn a_group_makes_the_point_that_it_names() {
    let mut store = Store::default();
    assert!(matches!(
        store.attachment_point("test"),
        Err(Error::PointNotFound(_))
    ));
    let grp = json!({"name": "grp", "sub_policies": [{"attachment_point": {"name": "test"}, "name": "", "priority": 300}]});
    let grp = attached(grp, &store, "TERRAFORM_BEFORE_UI_MANAGED");
    store.create_policy(grp).unwrap();
    ruleset(&mut store, "team", Some("test"));
    assert_eq!(rules_of(&store), ["team"]);
}

#[rstest]
#[case::plain(json!({}), Some(false))]
#[case::watch(json!({"watch": true}), Some(true))]
#[case::enforce(json!({"enforcement": "ENFORCE"}), Some(false))]
#[case::monitor(json!({"enforcement": "MONITOR"}), Some(true))]
#[case::disable(json!({"enforcement": "DISABLE"}), None)]
#[case::enforcement_counts(json!({"enforcement": "ENFORCE", "watch": true}), Some(false))]
fn enforcement_of_a_rule(#[case] change: Value, #[case] watched: Option<bool>) {
    let mut store = Store::default();
    let mut sent = rule("r", 1);
    for (key, value) in change.as_object().unwrap() {
        sent[key.as_str()] = value.clone();
    }
    store.set_policy_list(vec![sent]).unwrap();
    let lists = contributed(&store).lists;
    assert_eq!(lists[0].rules.first().map(|rule| rule.watch), watched);
}
