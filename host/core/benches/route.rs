//! Cost of a condition and of a table for one message, beside floors of the same run.
//!
//! `cargo bench -p weir-core --bench route`. The floor finds a property among the same ones by hand
//! and compares it: what any implementation has to do.

use std::borrow::Cow;
use std::hint::black_box;

use divan::{AllocProfiler, Bencher};
use weir_core::route::{
    CompileOptions, Condition, Facts, Lookup, NamedRoute, Priority, Route, RouteTable, Source,
    Trace,
};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

struct Message {
    properties: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn new(body_bytes: usize) -> Self {
        let properties =
            [("unit", "C"), ("line", "press-3"), ("temperature", "31"), ("level", "warn")];
        let filling = "x".repeat(body_bytes.saturating_sub(60));
        Self {
            properties: properties.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            body: format!(
                r#"{{"machine":{{"temperature":31.5,"pressure":4}},"note":"{filling}"}}"#
            )
            .into_bytes(),
        }
    }

    fn find(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Facts for Message {
    fn source(&self) -> Source<'_> {
        Source::Module { module: "filter", output: Some("hot") }
    }

    fn property(&self, name: &str) -> Lookup<'_> {
        self.find(name).map_or(Lookup::Absent, |value| Lookup::Text(Cow::Borrowed(value)))
    }

    fn system_property(&self, name: &str) -> Lookup<'_> {
        match name {
            "contentType" => Lookup::Text("application/json".into()),
            "contentEncoding" => Lookup::Text("utf-8".into()),
            _ => Lookup::Absent,
        }
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

fn condition(bencher: Bencher<'_, '_>, text: &str, body_bytes: usize) {
    let condition = Condition::compile(text, CompileOptions::MANIFEST).expect("a good condition");
    let message = Message::new(body_bytes);
    bencher.bench(|| black_box(&condition).evaluate(black_box(&message)));
}

#[divan::bench]
fn floor_property_by_hand(bencher: Bencher<'_, '_>) {
    let message = Message::new(100);
    bencher.bench(|| black_box(&message).find(black_box("level")) == Some(black_box("warn")));
}

#[divan::bench]
fn floor_number_by_hand(bencher: Bencher<'_, '_>) {
    let message = Message::new(100);
    bencher.bench(|| {
        let value = black_box(&message).find(black_box("temperature"));
        value.and_then(|text| text.parse::<f64>().ok()).is_some_and(|value| value > black_box(25.0))
    });
}

#[divan::bench]
fn condition_property_text(bencher: Bencher<'_, '_>) {
    condition(bencher, "level = 'warn'", 100);
}

#[divan::bench]
fn condition_property_number(bencher: Bencher<'_, '_>) {
    condition(bencher, "as_number(temperature) > 25", 100);
}

#[divan::bench]
fn condition_three_properties(bencher: Bencher<'_, '_>) {
    let text =
        "as_number(temperature) > 25 AND (level = 'warn' OR level = 'error') AND line <> 'x'";
    condition(bencher, text, 100);
}

#[divan::bench(args = [100, 1024, 65536])]
fn condition_body(bencher: Bencher<'_, '_>, body_bytes: usize) {
    condition(bencher, "$body.machine.temperature > 25", body_bytes);
}

/// Reading the whole body into a tree, as one would without the plan of paths.
#[divan::bench(args = [100, 1024, 65536])]
fn floor_body_as_tree(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let message = Message::new(body_bytes);
    bencher.bench(|| {
        let json: serde_json::Value =
            serde_json::from_slice(black_box(&message.body)).expect("JSON");
        json["machine"]["temperature"].as_f64().is_some_and(|value| value > 25.0)
    });
}

fn table(conditions: [&str; 3]) -> RouteTable {
    let sources =
        ["/messages/*", "/messages/modules/filter/*", "/messages/modules/filter/outputs/hot"];
    let sinks = [
        "$upstream",
        "BrokeredEndpoint('/modules/a/inputs/i')",
        "BrokeredEndpoint('/modules/b/inputs/i')",
    ];
    let routes = (0..3).map(|i| {
        let text = format!("FROM {} {} INTO {}", sources[i], conditions[i], sinks[i]);
        NamedRoute {
            name: format!("route{i}"),
            route: Route::parse(&text).expect("a good route"),
            priority: Priority::DEFAULT,
            time_to_live: None,
        }
    });
    RouteTable::build(routes, CompileOptions::MANIFEST).expect("good routes")
}

const CONDITIONS: [&str; 3] = [
    "WHERE level = 'warn'",
    "WHERE as_number(temperature) > 40",
    "WHERE unit = 'C' AND line = 'press-4'",
];

fn select(bencher: Bencher<'_, '_>, conditions: [&str; 3]) {
    let table = table(conditions);
    let message = Message::new(100);
    bencher.bench(|| black_box(&table).select(black_box(&message)));
}

/// The trace is new for each message, as the hub keeps it.
fn select_traced(bencher: Bencher<'_, '_>, conditions: [&str; 3]) {
    let table = table(conditions);
    let message = Message::new(100);
    bencher.bench(|| {
        let mut trace = Trace::default();
        let selection = black_box(&table).select_traced(black_box(&message), &mut trace);
        (selection, trace)
    });
}

#[divan::bench]
fn table_of_3_without_conditions(bencher: Bencher<'_, '_>) {
    select(bencher, [""; 3]);
}

#[divan::bench]
fn table_of_3_without_conditions_traced(bencher: Bencher<'_, '_>) {
    select_traced(bencher, [""; 3]);
}

#[divan::bench]
fn table_of_3_with_conditions(bencher: Bencher<'_, '_>) {
    select(bencher, CONDITIONS);
}

#[divan::bench]
fn table_of_3_with_conditions_traced(bencher: Bencher<'_, '_>) {
    select_traced(bencher, CONDITIONS);
}

#[divan::bench]
fn explain_3_with_conditions(bencher: Bencher<'_, '_>) {
    let table = table(CONDITIONS);
    let mut trace = Trace::default();
    table.select_traced(&Message::new(100), &mut trace);
    bencher.bench(|| black_box(&table).explain(black_box(&trace)));
}

#[divan::bench]
fn parse_and_compile_a_route(bencher: Bencher<'_, '_>) {
    bencher.bench(|| table(black_box(CONDITIONS)));
}
