//! Selection and explanation by a table of routes.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::json;

use super::super::{
    CompileOptions, Facts, Lookup, NamedRoute, Priority, Reason, Route, RouteError, RouteTable,
    Sink, Source, Trace, Truth,
};

pub(super) struct Message {
    pub(super) source: Source<'static>,
    pub(super) properties: Vec<(&'static str, &'static str)>,
}

impl Facts for Message {
    fn source(&self) -> Source<'_> {
        self.source
    }

    fn property(&self, name: &str) -> Lookup<'_> {
        match self.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some((_, value)) => Lookup::Text(Cow::Borrowed(value)),
            None => Lookup::Absent,
        }
    }

    fn system_property(&self, _name: &str) -> Lookup<'_> {
        Lookup::Absent
    }

    fn body(&self) -> &[u8] {
        b""
    }
}

fn device(properties: &[(&'static str, &'static str)]) -> Message {
    Message { source: Source::Device, properties: properties.to_vec() }
}

fn named(name: &str, text: &str, priority: u32, ttl_secs: u64) -> NamedRoute {
    NamedRoute {
        name: name.to_owned(),
        route: Route::parse(text).unwrap(),
        priority: Priority::new(priority).unwrap(),
        time_to_live: (ttl_secs > 0).then(|| Duration::from_secs(ttl_secs)),
    }
}

fn table(routes: &[(&str, &str, u32, u64)]) -> RouteTable {
    let routes = routes.iter().map(|(n, text, p, ttl)| named(n, text, *p, *ttl));
    RouteTable::build(routes, CompileOptions::MANIFEST).unwrap()
}

const DEFAULT: u32 = 2_000_000_000;

#[test]
fn an_endpoint_gets_one_copy_with_the_settings_of_the_lowest_priority() {
    let table = table(&[
        ("a", "FROM /* INTO $upstream", DEFAULT, 10),
        ("b", "FROM /messages/* INTO $upstream", 3, 20),
        ("c", "FROM /messages INTO $UPSTREAM", 5, 0),
        ("d", "FROM /* INTO BrokeredEndpoint('/modules/m/inputs/i')", DEFAULT, 0),
        ("e", "FROM /* INTO BrokeredEndpoint('/modules/M/inputs/i')", 0, 0),
    ]);
    let selection = table.select(&device(&[]));
    let seen: Vec<_> = selection
        .iter()
        .map(|target| {
            let ttl = target.time_to_live.map(|ttl| ttl.as_secs());
            (table.sink(target.sink).unwrap().to_string(), target.priority.get(), ttl)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("$upstream".to_owned(), 3, Some(20)),
            ("BrokeredEndpoint(\"/modules/m/inputs/i\")".to_owned(), DEFAULT, None),
            ("BrokeredEndpoint(\"/modules/M/inputs/i\")".to_owned(), 0, None),
        ],
        "module names are compared exactly"
    );
    assert_eq!(table.sinks().len(), 3);
    assert_eq!(table.routes().nth(usize::from(selection[0].route)).unwrap().name, "b");
}

#[test]
fn of_equal_priorities_the_first_name_decides() {
    let table =
        table(&[("z", "FROM /* INTO $upstream", 1, 99), ("y", "FROM /* INTO $upstream", 1, 11)]);
    let ttl = table.select(&device(&[]))[0].time_to_live;
    assert_eq!(ttl, Some(Duration::from_secs(11)));
}

#[test]
fn a_message_that_no_route_takes_goes_nowhere() {
    let table = table(&[("a", "FROM /messages/* WHERE a = 'b' INTO $upstream", DEFAULT, 0)]);
    assert!(table.select(&device(&[("a", "c")])).is_empty());
    assert!(table.select(&device(&[])).is_empty(), "undefined is not true");
    assert!(RouteTable::empty().select(&device(&[])).is_empty());
}

#[test]
fn one_bad_route_refuses_the_whole_set_and_all_are_listed() {
    let refused = RouteTable::build(
        [
            named("good", "FROM /* INTO $upstream", 0, 0),
            named("types", "FROM /* WHERE 3 = a INTO $upstream", 0, 0),
            named("twice", "FROM /* INTO $upstream", 0, 0),
            named("twice", "FROM /* INTO $upstream", 0, 0),
            named("twin", "FROM /* WHERE twin_change_includes(tags.a) INTO $upstream", 0, 0),
        ],
        CompileOptions::MANIFEST,
    )
    .unwrap_err();
    let names: Vec<_> = refused.errors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["twice", "twin", "types"]);
    let RouteError::Text(error) = &refused.errors[2].1 else { panic!("{refused:?}") };
    assert_eq!(error.column(), 19, "counted in the route, not in the condition");
}

#[test]
fn every_route_is_explained() {
    let table = table(&[
        ("all", "FROM /messages/* INTO $upstream", DEFAULT, 0),
        ("hot", "FROM /messages WHERE as_number(temperature) > 25 INTO $upstream", 0, 0),
        ("module", "FROM /messages/modules/filter/* INTO $upstream", 0, 0),
        ("unset", "FROM /* WHERE x = 'y' OR z = 'a' INTO $upstream", 0, 0),
    ]);
    let mut trace = Trace::default();
    let selection = table.select_traced(&device(&[("temperature", "20")]), &mut trace);
    assert_eq!(selection.len(), 1);
    let verdicts = table.explain(&trace).unwrap();
    let texts: Vec<_> = verdicts.iter().map(|v| (v.name.as_str(), v.text.as_str())).collect();
    assert_eq!(
        texts,
        [
            ("all", "matched: takes every message from /messages/*"),
            (
                "hot",
                "not matched: as_number(temperature) > 25 is false; as_number(temperature) was 20"
            ),
            (
                "module",
                "not matched: takes messages from /messages/modules/filter/*, this one came from /messages"
            ),
            ("unset", "not matched: x = 'y' is undefined; x is not set"),
        ]
    );
    assert_eq!(verdicts[3].matched, Truth::Undefined);
    let Reason::Condition { column, .. } = &verdicts[1].reason else { panic!() };
    assert_eq!(*column, 1, "counted in the condition");
}

#[test]
fn a_verdict_has_a_stable_json_form() {
    let table = table(&[("hot", "FROM /* WHERE a = 'b' AND t = 'x' INTO $upstream", 0, 0)]);
    let mut trace = Trace::default();
    table.select_traced(&device(&[("a", "b"), ("t", "20")]), &mut trace);
    assert_eq!(
        serde_json::to_value(table.explain(&trace).unwrap()).unwrap(),
        json!([{
            "name": "hot",
            "route": "FROM /* WHERE a = 'b' AND t = 'x' INTO $upstream",
            "sink": "$upstream",
            "matched": "false",
            "reason": {
                "kind": "condition",
                "expression": "t = 'x'",
                "column": 13,
                "length": 7,
                "seen": [{"expression": "t", "state": "value", "value": "20"}],
            },
            "text": "not matched: t = 'x' is false; t was \"20\"",
        }])
    );
}

#[test]
fn a_trace_is_explained_by_its_own_table_only() {
    let first = table(&[("a", "FROM /* INTO $upstream", 0, 0)]);
    let second = table(&[("a", "FROM /messages INTO $upstream", 0, 0)]);
    let mut trace = Trace::default();
    first.select_traced(&device(&[]), &mut trace);
    assert!(second.explain(&trace).is_none());
    assert!(first.explain(&Trace::default()).is_none());
    let again = table(&[("a", "FROM /* INTO $upstream", 0, 0)]);
    assert!(again.explain(&trace).is_some(), "an equal table has the same identity");
}

#[test]
fn a_trace_is_small() {
    assert!(size_of::<Trace>() <= 256, "{}", size_of::<Trace>());
}

#[test]
fn endpoints_have_the_names_of_iot_edge() {
    let sink = Sink::from_function("BrokeredEndpoint", "/modules/m/inputs/i").unwrap();
    assert_eq!(sink.endpoint_id("edge"), "edge/m/i");
    assert_eq!(Sink::Upstream.endpoint_id("edge"), "iothub");
    assert_eq!(Priority::new(3).unwrap().queue_id("edge/m/i"), "edge/m/i_Pri3");
}
