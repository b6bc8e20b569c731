use super::*;
use proptest::prelude::*;
use serde_json::json;

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn patch(value: Value) -> Patch {
    Patch::parse(Section::Reported, value.to_string().as_bytes()).unwrap()
}

fn problem(json: &str) -> (String, Problem) {
    let TwinProblem { pointer, problem } =
        Patch::parse(Section::Reported, json.as_bytes()).unwrap_err();
    (pointer, problem)
}

/// An object in so many objects.
fn nested(levels: usize, inner: &str) -> String {
    format!("{}{inner}{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

#[test]
fn a_problem_names_its_place() {
    for (json, pointer, expected) in [
        (r#"{"a":{"b":[1,{"c/d~":{"x":null}}]}}"#, "/a/b/1/c~1d~0/x", Problem::NullInArray),
        (r#"{"a":[1,null]}"#, "/a/1", Problem::NullInArray),
        (r#"{"a":{"b":1,"b":2}}"#, "/a/b", Problem::DuplicateKey),
        (r#"{"a":{"b.c":1}}"#, "/a/b.c", Problem::KeyCharacter('.')),
        (r##"{"#":1}"##, "/#", Problem::KeyCharacter('#')),
        (r#"{"a":{"$version":1}}"#, "/a/$version", Problem::KeyCharacter('$')),
        (r#"{"a b":1}"#, "/a b", Problem::KeyCharacter(' ')),
        ("{\"a\u{a0}\":1}", "/a\u{a0}", Problem::KeyCharacter('\u{a0}')),
        (r#"{"a\u0007":1}"#, "/a\u{7}", Problem::KeyCharacter('\u{7}')),
        (r#"{"a":4503599627370496}"#, "/a", Problem::Integer),
        (r#"{"a":-4503599627370497}"#, "/a", Problem::Integer),
        (r#"{"a":[99999999999999999999]}"#, "/a/0", Problem::Integer),
        (r#"{"x":1e300,"a":-99999999999999999999}"#, "/a", Problem::Integer),
        (r#"{"$version":7.5,"a":99999999999999999999}"#, "/a", Problem::Integer),
        ("[]", "", Problem::NotAnObject),
        ("null", "", Problem::NotAnObject),
        ("7", "", Problem::NotAnObject),
    ] {
        assert_eq!(problem(json), (pointer.to_owned(), expected), "{json}");
    }
    let (pointer, found) = problem(r#"{"a":{"b":tru}}"#);
    assert_eq!(pointer, "/a/b");
    assert!(matches!(found, Problem::Json { line: 1, .. }));
    assert!(matches!(problem("{} {}").1, Problem::Json { .. }));
    assert!(matches!(problem("{\"a\":\"\\ud800\"}").1, Problem::Json { .. }));
    assert!(Patch::parse(Section::Reported, b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn what_is_at_the_limits_is_accepted_and_what_is_beyond_is_not() {
    let parse = |json: String| Patch::parse(Section::Reported, json.as_bytes());
    assert!(parse(r#"{"a":4503599627370495,"b":-4503599627370496,"c":1e300}"#.into()).is_ok());
    assert!(
        parse(r#"{"a":1.7976931348623157E+308,"$version":99999999999999999999}"#.into()).is_ok()
    );
    assert!(parse(nested(11, "7")).is_ok());
    let deep = parse(nested(11, "{}")).unwrap_err();
    assert_eq!((deep.pointer, deep.problem), ("/a".repeat(11), Problem::Depth));
    assert!(parse(nested(10, "[7]")).is_ok());
    assert_eq!(parse(nested(10, "[[7]]")).unwrap_err().problem, Problem::Depth);
    assert_eq!(parse(nested(100_000, "7")).unwrap_err().problem, Problem::Document);
    assert_eq!(parse(nested(20_000, "7")).unwrap_err().problem, Problem::Depth);
    let key = |length: usize| format!("{{\"{}\":1}}", "ä".repeat(length / 2));
    assert!(parse(key(1024)).is_ok());
    assert_eq!(parse(key(1026)).unwrap_err().problem, Problem::KeyLength { bytes: 1026 });
    let text = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length));
    assert!(parse(text(4096)).is_ok());
    assert_eq!(parse(text(4097)).unwrap_err().problem, Problem::TextLength { bytes: 4097 });
    assert_eq!(parse(" ".repeat(300_000)).unwrap_err().problem, Problem::Document);
}

#[test]
fn a_section_is_measured_without_white_space_and_after_the_merge() {
    let of = |bytes: usize| {
        // {"k0":"…"} and so on, each member 1,000 bytes with its comma.
        let members: Vec<String> =
            (0..bytes / 1000).map(|at| format!("\"k{at:02}\" : \"{}\"", "x".repeat(992))).collect();
        format!("{{{}}}", members.join(" ,"))
    };
    let whole = Patch::parse(Section::Reported, of(32_000).as_bytes()).unwrap();
    assert!(matches!(
        Patch::parse(Section::Reported, of(33_000).as_bytes()).unwrap_err().problem,
        Problem::Size { section: Section::Reported, .. }
    ));
    assert!(Patch::parse(Section::Tags, of(9_000).as_bytes()).is_err());
    let now = Timestamp::from_secs(1);
    let full = Properties::default().merged(Section::Reported, &whole, now).unwrap();
    let more = patch(json!({ "more": "x".repeat(1000) }));
    let error = full.merged(Section::Reported, &more, now).unwrap_err();
    assert!(matches!(error.problem, Problem::Size { bytes, .. } if bytes > 32 * 1024));
}

#[test]
fn an_operators_change_is_found_in_a_whole_twin() {
    let body = r#"{"deviceId":"pump","etag":"AAA","version":3,"tags":{"$version":1,"site":"north"},
        "properties":{"reported":{"$bad":1e999999},"desired":{"a":1,"$metadata":{"a":{}},"$version":5}}}"#;
    // 1e999999 is no number, even where nobody looks.
    assert!(TwinChange::parse(Mode::Merge, body.as_bytes()).is_ok());
    let change = TwinChange::parse(Mode::Merge, body.as_bytes()).unwrap();
    assert_eq!(change.desired.unwrap().as_map(), &map(json!({"a": 1})));
    assert_eq!(change.tags.unwrap().as_map(), &map(json!({"site": "north"})));
    for (body, pointer) in [
        (r#"{"properties":{"desired":{"a":{"b":[null]}}}}"#, "/properties/desired/a/b/0"),
        (r#"{"tags":{"a.b":1}}"#, "/tags/a.b"),
        (r#"{"tags":[]}"#, "/tags"),
        (r#"{"tags":{},"tags":{}}"#, "/tags"),
        (r#"{"properties":7}"#, "/properties"),
        (r#"{"properties":{"desired":{}},"properties":{}}"#, "/properties"),
        (r#"{"properties":null,"tags":null}"#, ""),
        (r#"{"reported":{}}"#, ""),
        ("[]", ""),
    ] {
        let error = TwinChange::parse(Mode::Replace, body.as_bytes()).unwrap_err();
        assert_eq!(error.pointer, pointer, "{body}: {error}");
    }
}

#[test]
fn metadata_tells_for_each_node_when_it_was_written() {
    let at = Timestamp::from_secs;
    let section = Section::Desired;
    let first = patch(json!({"a": {"b": 1, "c": {"d": 2}}, "e": [1]}));
    let one = Properties::default().merged(section, &first, at(10)).unwrap();
    let two =
        one.merged(section, &patch(json!({"a": {"c": {"d": 3}}, "e": null})), at(20)).unwrap();
    let Metadata(root, version, members) = &two.metadata;
    assert_eq!((*root, *version), (at(20), 3));
    let a = &members["a"];
    assert_eq!((a.0, a.1), (at(20), 3));
    assert_eq!((a.2["b"].0, a.2["b"].1), (at(10), 2));
    assert_eq!((a.2["c"].2["d"].0, a.2["c"].2["d"].1), (at(20), 3));
    assert!(!members.contains_key("e"));
    let view = two.service_view();
    assert_eq!(view["$version"], 3);
    assert_eq!(view["$metadata"]["a"]["b"]["$lastUpdated"], "1970-01-01T00:00:10Z");
    assert_eq!(view["$metadata"]["a"]["b"]["$lastUpdatedVersion"], 2);
    let stored = serde_json::to_string(&two).unwrap();
    assert_eq!(serde_json::from_str::<Properties>(&stored).unwrap(), two);
}

#[test]
fn a_client_sees_neither_metadata_nor_tags() {
    let now = Timestamp::from_secs(1);
    let some = |section| {
        Arc::new(Properties::default().merged(section, &patch(json!({"a": 1})), now).unwrap())
    };
    let twin = Twin {
        desired: some(Section::Desired),
        reported: some(Section::Reported),
        tags: some(Section::Tags),
    };
    let view: Value = serde_json::from_slice(&twin.client_view()).unwrap();
    let expected = json!({"desired": {"a": 1, "$version": 2}, "reported": {"a": 1, "$version": 2}});
    assert_eq!(view, expected);
}

#[test]
fn a_new_twin_has_iot_hubs_versions_and_etag() {
    let twin = Twin::default();
    assert_eq!(twin.client_view(), br#"{"desired":{"$version":1},"reported":{"$version":1}}"#);
    assert_eq!((twin.version(), twin.etag().to_string().as_str()), (2, "AAAAAAAAAAE="));
    assert_eq!("AAAAAAAAAAE=".parse(), Ok(Etag(1)));
    assert!("".parse::<Etag>().is_err() && "*".parse::<Etag>().is_err());
    let view = twin.desired.service_view();
    assert_eq!(view["$metadata"]["$lastUpdated"], "0001-01-01T00:00:00Z");
}

#[test]
fn a_desired_patch_keeps_its_nulls_and_carries_its_version() {
    let sent = DesiredPatch::new(&patch(json!({"a": null, "b": {"c": null}})), 7);
    let expected = json!({"a": null, "b": {"c": null}, "$version": 7});
    assert_eq!(serde_json::from_slice::<Value>(&sent.json).unwrap(), expected);
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-5i64..5).prop_map(Value::from),
        "[xy]{0,2}".prop_map(Value::from),
        proptest::collection::vec(0i64..3, 0..3).prop_map(Value::from),
    ]
}

/// Objects over few names, so that they meet.
fn object(nulls: bool) -> impl Strategy<Value = Map<String, Value>> {
    let leaf = match nulls {
        true => prop_oneof![1 => Just(Value::Null), 3 => leaf()].boxed(),
        false => leaf().boxed(),
    };
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        proptest::collection::btree_map("[abc]", inner, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    });
    proptest::collection::btree_map("[abc]", value, 0..4)
        .prop_map(|members| members.into_iter().collect())
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

fn merged(base: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut base = base.clone();
    merge(&mut base, patch);
    base
}

proptest! {
    #[test]
    fn merging_twice_is_merging_once(base in object(false), patch in object(true)) {
        let once = merged(&base, &patch);
        prop_assert_eq!(merged(&once, &patch), once);
    }

    #[test]
    fn no_null_stays(base in object(false), patch in object(true)) {
        prop_assert!(!has_null(&Value::Object(merged(&base, &patch))));
    }

    #[test]
    fn the_difference_leads_from_one_to_the_other(from in object(false), to in object(false)) {
        prop_assert_eq!(merged(&from, &diff(&from, &to)), to);
    }

    #[test]
    fn equal_objects_do_not_differ(one in object(false)) {
        prop_assert_eq!(diff(&one, &one), Map::new());
    }

    #[test]
    fn a_change_can_be_taken_back(base in object(false), patch in object(true)) {
        let next = merged(&base, &patch);
        prop_assert_eq!(merged(&next, &diff(&next, &base)), base);
    }

    #[test]
    fn a_replacement_says_what_it_says_and_grows_the_version(base in object(false), whole in object(true)) {
        let now = Timestamp::from_secs(1);
        let base = Properties::default().merged(Section::Desired, &Patch(base), now).unwrap();
        let (next, patch) = base.replaced(Section::Desired, &Patch(whole.clone()), now).unwrap();
        prop_assert_eq!(&next.value, &merged(&Map::new(), &whole));
        prop_assert_eq!(next.version, base.version + 1);
        prop_assert_eq!(merged(&base.value, patch.as_map()), next.value);
    }

    #[test]
    fn metadata_has_the_shape_of_the_value(base in object(false), changes in proptest::collection::vec(object(true), 0..4)) {
        fn same(meta: &Metadata, value: &Value) -> bool {
            match value {
                Value::Object(map) => {
                    meta.2.keys().eq(map.keys())
                        && map.iter().all(|(key, value)| same(&meta.2[key], value))
                        && meta.2.values().all(|member| member.1 <= meta.1)
                }
                _ => meta.2.is_empty(),
            }
        }
        let now = Timestamp::from_secs(1);
        let mut section = Properties::default().merged(Section::Desired, &Patch(base), now).unwrap();
        for change in changes {
            section = section.merged(Section::Desired, &Patch(change), now).unwrap();
        }
        prop_assert_eq!(section.metadata.1, section.version);
        prop_assert!(same(&section.metadata, &Value::Object(section.value.clone())));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[{}\\[\\]\"a:,0-9e.$nul \\\\-]{0,40}") {
        let read = Patch::parse(Section::Desired, text.as_bytes());
        if let Ok(patch) = &read {
            let again = Patch::parse(Section::Desired, &patch.to_json());
            prop_assert_eq!(again.as_ref(), Ok(patch));
        }
        drop(TwinChange::parse(Mode::Merge, text.as_bytes()));
    }
}
