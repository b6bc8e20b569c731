//! `docs/compatibility.md` is true: every operation has one row, and every test that a row names exists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A row of the tables of the service paths.
struct Row {
    name: String,
    state: String,
    test: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|_| panic!("{path} is not there"))
}

/// The rows below a heading, up to the next one.
fn rows(heading: &str) -> Vec<Row> {
    let page = read("docs/compatibility.md");
    let (_, below) = page.split_once("\n## IoT Hub service paths\n").expect("the chapter");
    let (_, below) = below.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    let end = below.find("\n#").unwrap_or(below.len());
    let bare = |cell: &str| cell.trim().trim_matches('`').to_owned();
    below[..end]
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            let [name, state, test, _note] = cells[..] else { panic!("{line}") };
            let test = Some(bare(test)).filter(|test| test != "–");
            Row { name: bare(name), state: bare(state), test }
        })
        .collect()
}

#[test]
fn every_operation_has_exactly_one_row() {
    let mut listed: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows("### Paths") {
        *listed.entry(row.name).or_default() += 1;
    }
    let operations: BTreeMap<String, usize> = weir_api::iothub::operations()
        .map(|(method, path, _)| (format!("{method} {path}"), 1))
        .collect();
    assert_eq!(listed, operations);
}

#[test]
fn every_row_has_a_state_and_its_test_exists() {
    let tables = ["### Paths", "### `azure-iothub` 1.16", "### `azure-iot-hub` 2.7"];
    for row in tables.iter().flat_map(|heading| rows(heading)) {
        let Row { name, state, test } = row;
        assert!(["exact", "partial", "absent"].contains(&state.as_str()), "{name}: {state}");
        let Some(test) = test else { continue };
        let (text, wanted) = if let Some(path) = test.strip_prefix("iothub::") {
            let (file, function) = path.split_once("::").expect("module::test");
            (read(&format!("host/api/tests/it/iothub/{file}.rs")), format!("fn {function}()"))
        } else if let Some((file, function)) = test.split_once("::") {
            (read(&format!("tests/sdk/{file}")), format!("def {function}("))
        } else {
            let (file, title) = test.split_once(": ").expect("file: title");
            (read(&format!("tests/sdk/node/{file}")), format!("test('{title}'"))
        };
        assert!(text.contains(&wanted), "{name}: there is no test {test}");
    }
}

#[tokio::test]
async fn what_the_page_calls_absent_is_answered_501_and_nothing_else_is() {
    let hub = crate::support::TestHub::start().await;
    let service = super::Service::owner(&hub).await;
    for row in rows("### Paths") {
        let (method, path) = row.name.split_once(' ').unwrap();
        let path = path.replace("{id}", "nobody").replace(['{', '}'], "");
        let body = serde_json::json!({});
        let answer = service.call(method, &path, None, Some(&body)).await;
        assert_eq!(answer.status == 501, row.state == "absent", "{}: {answer:?}", row.name);
    }
}
