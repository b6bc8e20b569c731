//! Each verb against a hub of recorded answers: what it asks, what it prints, how it ends.

use super::*;
use crate::client::fake::{Fake, json};
use std::fs;
use std::path::Path;

/// What a command line did.
struct Ran {
    exit: Exit,
    out: String,
    notes: String,
}

fn ran(words: &[&str], environment: &Environment) -> Ran {
    let words = std::iter::once("weir").chain(words.iter().copied());
    let args = Args::from_arg_matches(&command().get_matches_from(words)).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut console = Console::new(args.output, &mut out, &mut notes, false);
    let exit = perform(args.verb, environment, &mut console, false);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { exit, out: text(out), notes: text(notes) }
}

/// Runs a verb against a hub of these answers; what it was asked, and what the verb did.
fn asked(words: &[&str], answers: Vec<String>) -> (Vec<String>, Ran) {
    let fake = Fake::answering(answers);
    let folder = fake.data_dir();
    let words = [words, &["--data-dir", folder.path().to_str().unwrap()]].concat();
    let ran = ran(&words, &Environment::default());
    let requests = fake.seen().into_iter().map(|seen| format!("{} {}", seen.line, seen.body));
    (requests.map(|request| request.trim_end().to_owned()).collect(), ran)
}

fn problem(status: u16, code: &str, rest: &str) -> String {
    let body = format!(
        r#"{{"type": "/docs/errors/{code}", "title": "Title", "status": {status}, "detail": "detail", "code": "{code}"{rest}}}"#
    );
    json(status, &body)
}

#[test]
fn a_hub_that_is_not_there_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["status", "--data-dir", folder.path().to_str().unwrap()];
    let told = ran(&words, &Environment::default());
    assert_eq!(told.exit, Exit::Failed);
    assert!(told.notes.starts_with("error: no hub is running"), "{}", told.notes);
    let quiet = ran(&[&words[..], &["--quiet"]].concat(), &Environment::default());
    assert_eq!((quiet.exit, quiet.out + &quiet.notes), (Exit::Failed, String::new()));
}

#[test]
fn what_the_policy_denies_is_exit_code_3() {
    let (_, told) =
        asked(&["module", "swap", "f", &digest()], vec![problem(403, "policy-denied", "")]);
    assert_eq!(told.exit, Exit::Denied);
    let (_, told) = asked(&["module", "swap", "f", &digest()], vec![problem(403, "forbidden", "")]);
    assert_eq!(told.exit, Exit::Failed);
}

#[test]
fn a_bad_configuration_is_shown_with_its_caret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    fs::write(&file, "hostnam = 'gw'").unwrap();
    let told = ran(&["check", "--config", file.to_str().unwrap()], &Environment::default());
    assert_eq!(told.exit, Exit::Failed);
    assert!(
        told.notes.contains("^^^|^^^") && told.notes.contains("did you mean hostname?"),
        "{}",
        told.notes
    );
}

#[test]
fn a_good_configuration_is_shown_with_its_origins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    fs::write(&file, "device_id = 'gw'").unwrap();
    let environment = Environment::from([("WEIR_LOG__LEVEL", "debug")]);
    let told = ran(&["check", "--config", file.to_str().unwrap()], &environment);
    assert_eq!(told.exit, Exit::Fine);
    let row = |key: &str| told.out.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(row("device_id")), ["device_id", "\"gw\"", "file"]);
    assert_eq!(words(row("log.level")), ["log.level", "\"debug\"", "WEIR_LOG__LEVEL"]);
    assert!(told.notes.contains("there is no upstream"), "{}", told.notes);
}

#[test]
fn routes_are_checked_without_a_hub() {
    let nowhere = Environment::default();
    let told = ran(&["check", "FROM /messages/* INTO $upstream"], &nowhere);
    assert_eq!((told.exit, told.out.as_str()), (Exit::Fine, "1 route is fine\n"));
    let told = ran(&["check", "FROM /messages/* INOT $upstream"], &nowhere);
    assert_eq!(told.exit, Exit::Failed);
    insta::assert_snapshot!("check_route", told.out);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes");
    let text = "good: FROM /* INTO $upstream\nbad: FROM /* WHERE abs('x') > 1 INTO $upstream\nodd: FROM /* WHERE a = TRUE INTO $upstream";
    fs::write(&file, text).unwrap();
    let told = ran(&["check", "--routes", file.to_str().unwrap()], &nowhere);
    insta::assert_snapshot!("check_lines", told.out);
    fs::write(
        &file,
        r#"{"a": "FROM /* INTO $upstream", "b": {"route": "FROM /* INTO x", "priority": 10}}"#,
    )
    .unwrap();
    let told = ran(&["check", "--routes", file.to_str().unwrap(), "--output", "json"], &nowhere);
    assert_eq!(told.exit, Exit::Failed);
    insta::assert_snapshot!("check_json", told.out);
}

#[test]
fn a_refused_route_is_shown_with_the_hubs_caret_and_page() {
    let rest = r#", "column": 18, "errors": [{"pointer": "/route", "column": 18,
        "message": "FROM /messages/* INOT $upstream\n                 ^^^^ expected INTO\n                 help: INTO", "help": "INTO"}]"#;
    let answer = problem(422, "route-syntax", rest);
    let words = ["route", "put", "r", "FROM /messages/* INOT $upstream", "--priority", "1"];
    let (requests, told) = asked(&words, vec![answer]);
    assert_eq!(
        requests,
        [r#"PUT /api/v1/routes/r {"priority":1,"route":"FROM /messages/* INOT $upstream"}"#]
    );
    assert_eq!(told.exit, Exit::Failed);
    let lines: Vec<&str> = told.notes.lines().collect();
    assert_eq!(lines[0], "error: Title");
    assert_eq!(lines[2], "  FROM /messages/* INOT $upstream");
    assert_eq!(lines[3].find('^'), lines[2].find("INOT"));
    assert!(lines[5].starts_with("  more: http://127.0.0.1:"), "{lines:?}");
}

#[test]
fn with_json_the_hubs_own_words_are_printed() {
    let (_, told) = asked(
        &["route", "list", "--output", "json"],
        vec![json(
            200,
            r#"{"items": [{"name": "a", "route": "FROM /* INTO $upstream"}], "next": null}"#,
        )],
    );
    let out: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(out[0]["name"], "a");
    let (_, told) =
        asked(&["route", "delete", "x", "--output", "json"], vec![problem(404, "not-found", "")]);
    let notes: serde_json::Value = serde_json::from_str(&told.notes).unwrap();
    assert_eq!((told.exit, &notes["code"]), (Exit::Failed, &"not-found".into()));
}

fn component(folder: &Path) -> (String, String) {
    let file = folder.join("filter.wasm");
    fs::write(&file, b"\0asm").unwrap();
    let digest = weir_hub::digest_of(b"\0asm").to_string();
    (file.to_str().unwrap().to_owned(), digest)
}

#[test]
fn a_swap_uploads_what_the_hub_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let (file, digest) = component(folder.path());
    let artifact = format!("/api/v1/artifacts/{}", digest.replace(':', "%3A"));
    let swapped = json(200, r#"{"module": "f", "change": "switched", "version": 2}"#);
    let answers = vec![problem(404, "not-found", ""), json(201, "{}"), swapped.clone()];
    let (requests, told) = asked(&["module", "swap", "f", &file], answers);
    assert_eq!(requests[0], format!("GET {artifact}"));
    assert_eq!(requests[1], format!("PUT {artifact} \0asm"));
    let swap = format!(r#"POST /api/v1/modules/f/swaps {{"component":"{digest}"}}"#);
    assert_eq!(requests[2], swap);
    assert_eq!(told.exit, Exit::Fine, "{}", told.notes);
    assert!(told.out.contains(" ms "), "{}", told.out);

    let (requests, _) =
        asked(&["module", "swap", "f", &file], vec![json(200, "{}"), swapped.clone()]);
    assert_eq!(requests[1], swap);
    let (requests, _) = asked(&["module", "swap", "f", &digest], vec![swapped]);
    assert_eq!(requests, [swap]);
}

#[test]
fn a_swap_that_takes_long_is_followed_to_its_end() {
    let running = r#"{"id": "7", "state": "running"}"#;
    let failed = r#"{"id": "7", "state": "failed", "problem": {"code": "swap-failed", "detail": "init trapped"}}"#;
    let answers = vec![json(202, running), json(200, running), json(200, failed)];
    let (requests, told) = asked(&["module", "swap", "f", &digest()], answers);
    assert_eq!(requests[1..], ["GET /api/v1/operations/7", "GET /api/v1/operations/7"]);
    assert_eq!(
        (told.exit, told.notes.as_str()),
        (Exit::Failed, "error: it failed: init trapped\n")
    );
}

#[test]
fn a_module_is_put_with_the_digest_of_its_component() {
    let folder = tempfile::tempdir().unwrap();
    let (file, digest) = component(folder.path());
    let spec = folder.path().join("spec.json");
    fs::write(&spec, r#"{"inputs": ["in"]}"#).unwrap();
    let words = ["module", "put", "f", "--spec", spec.to_str().unwrap(), "--component", &file];
    let (requests, told) = asked(&words, vec![json(200, "{}"), json(201, "{}")]);
    let body = format!(r#"{{"component":"{digest}","inputs":["in"],"type":"wasm"}}"#);
    assert_eq!(requests[1], format!("PUT /api/v1/modules/f {body}"));
    assert_eq!(told.exit, Exit::Fine);
}

#[test]
fn a_connection_string_is_exactly_one_line() {
    let answer =
        || vec![json(200, r#"{"connectionString": "HostName=h;DeviceId=d;SharedAccessKey=k="}"#)];
    for (words, path) in [
        (vec!["--device", "d"], "/api/v1/devices/d/connection-string"),
        (
            vec!["--device", "d", "--module", "$m"],
            "/api/v1/devices/d/modules/%24m/connection-string",
        ),
        (vec!["--service"], "/api/v1/service-policies/iothubowner/connection-string"),
    ] {
        let (requests, told) = asked(&[&["connection-string"], &words[..]].concat(), answer());
        assert_eq!(requests, [format!("GET {path}")]);
        assert_eq!(told.out, "HostName=h;DeviceId=d;SharedAccessKey=k=\n");
        assert_eq!(told.notes, "");
    }
}

#[test]
fn a_new_token_is_printed_alone() {
    let answer = r#"{"id": "9", "name": "ci", "scopes": ["a:read"], "token": "weir_9_x"}"#;
    let words =
        ["token", "create", "ci", "--scope", "a:read", "--scope", "b:write", "--expires", "1h"];
    let (requests, told) = asked(&words, vec![json(201, answer)]);
    assert_eq!(
        requests,
        [r#"POST /api/v1/tokens {"expiresInSecs":3600,"name":"ci","scopes":["a:read","b:write"]}"#]
    );
    assert_eq!(told.out, "weir_9_x\n");
}

#[test]
fn a_devices_keys_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "AAAA\n").unwrap();
    let words = [
        "device",
        "create",
        "d",
        "--module",
        "m",
        "--primary-key-file",
        key.to_str().unwrap(),
        "--disabled",
    ];
    let (requests, _) = asked(&words, vec![json(201, "{}")]);
    assert_eq!(
        requests,
        [
            r#"PUT /api/v1/devices/d/modules/m {"authentication":{"symmetricKey":{"primaryKey":"AAAA"},"type":"sas"},"status":"disabled"}"#
        ]
    );
    let words = ["device", "create", "d", "--auth", "self-signed", "--thumbprint", "ab"];
    let (requests, _) = asked(&words, vec![json(201, "{}")]);
    assert_eq!(
        requests,
        [
            r#"PUT /api/v1/devices/d {"authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"ab"}},"status":"enabled"}"#
        ]
    );
}

#[test]
fn a_purge_says_how_much_is_gone() {
    let (requests, told) =
        asked(&["queue", "purge", "a/b/c", "--yes"], vec![json(200, r#"{"removed": 3}"#)]);
    assert_eq!(requests, ["POST /api/v1/queues/a%2Fb%2Fc/purges {}"]);
    assert_eq!(told.out, "3 messages removed from a/b/c\n");
}

#[test]
fn a_call_sends_what_was_asked_and_prints_the_payload() {
    let words =
        ["method", "call", "edge", "poke", "{\"a\": 1}", "--module", "f", "--connect-timeout", "9"];
    let (requests, told) = asked(&words, vec![json(200, r#"{"status": 200, "payload": [1.5]}"#)]);
    let body = r#"{"connectTimeoutInSeconds":9,"deviceId":"edge","methodName":"poke","moduleId":"f","payload":{"a":1}}"#;
    assert_eq!(requests, [format!("POST /api/v1/method-calls {body}")]);
    assert_eq!((told.out.as_str(), told.notes.as_str()), ("[1.5]\n", "status 200\n"));
    let (_, told) = asked(&["method", "call", "edge", "poke", "text"], vec![]);
    assert_eq!(told.exit, Exit::Usage, "{}", told.notes);
}

#[test]
fn a_command_goes_to_its_device_or_module() {
    let sent = r#"{"messageId": "c-1", "sequence": 7, "expires": "2026-05-04T11:00:00Z"}"#;
    let words = ["command", "send", "pump-1", "hi", "--property", "a=b=c", "--expires-in", "60"];
    let (requests, told) = asked(&words, vec![json(201, sent)]);
    assert_eq!(
        requests,
        [
            r#"POST /api/v1/devices/pump-1/commands {"body":"hi","expiresInSecs":60,"properties":{"a":"b=c"}}"#
        ]
    );
    assert_eq!(told.out, "c-1 waits for pump-1 until 2026-05-04T11:00:00Z\n");
    let words = ["command", "purge", "edge", "--module", "f", "--yes"];
    let (requests, told) = asked(&words, vec![json(200, r#"{"removed": 3}"#)]);
    assert_eq!(requests, ["DELETE /api/v1/devices/edge/modules/f/commands"]);
    assert_eq!(told.out, "3 commands removed from edge/f\n");
}

#[test]
fn a_device_is_disabled_and_its_keys_are_exchanged() {
    let (requests, told) = asked(&["device", "disable", "d"], vec![json(200, "{}")]);
    assert_eq!(requests, [r#"PATCH /api/v1/devices/d {"status":"disabled"}"#]);
    assert_eq!(told.notes, "d is disabled\n");
    let keys = r#"{"primaryKey": "a2V5", "secondaryKey": "a2V6"}"#;
    let words = ["device", "keys", "d", "--module", "m", "--rotate", "both"];
    let (requests, told) = asked(&words, vec![json(200, keys)]);
    assert_eq!(requests, [r#"POST /api/v1/devices/d/modules/m/keys {"rotate":"both"}"#]);
    assert!(told.out.contains("a2V5") && told.out.contains("a2V6"), "{}", told.out);
}

#[test]
fn all_dead_letters_are_replayed_round_by_round() {
    let round = |id: u8, more: bool| {
        json(
            200,
            &format!(r#"{{"replayed": [{{"deadLetter": {id}, "message": "m"}}], "more": {more}}}"#),
        )
    };
    let (requests, told) =
        asked(&["dlq", "replay", "--all"], vec![round(1, true), round(2, false)]);
    assert_eq!(requests, ["POST /api/v1/replays {}", "POST /api/v1/replays {}"]);
    assert_eq!(told.out.lines().count(), 3);
    let (requests, _) = asked(&["dlq", "replay", "4", "5"], vec![round(4, false)]);
    assert_eq!(requests, [r#"POST /api/v1/replays {"ids":[4,5]}"#]);
}

#[test]
fn the_upstream_is_cut_and_mended() {
    for (verb, body) in [("pause", r#"{"paused":true}"#), ("resume", r#"{"paused":false}"#)] {
        let (requests, told) =
            asked(&["upstream", verb], vec![json(200, r#"{"state": "paused"}"#)]);
        assert_eq!(requests, [format!("PATCH /api/v1/upstream {body}")]);
        assert_eq!(told.out, "state  paused\n");
    }
}

#[test]
fn an_explanation_points_at_what_decided() {
    let explanation = r#"{"id": "00000001000000a7", "enqueued": "2026-05-04T10:00:00Z", "sender": "pump-1",
        "table": 3, "routes": [
        {"name": "hot", "route": "FROM /messages/* WHERE site = 'n' AND temperature > '25' INTO $upstream",
         "sink": "$upstream", "matched": "false", "text": "temperature is '20'",
         "reason": {"kind": "condition", "expression": "temperature > '25'", "column": 16, "length": 18, "seen": []}},
        {"name": "all", "route": "FROM /messages/* INTO BrokeredEndpoint(\"/modules/f/inputs/in\")",
         "sink": "f", "matched": "true", "text": "takes everything from /messages/*",
         "reason": {"kind": "unconditional", "source": "/messages/*"}}],
        "places": [{"queue": "edge/f/in", "priority": 2000000000, "state": "waiting"}],
        "fates": [{"module": "f", "fate": "passed"}, {"fate": "delivered"}],
        "summary": "taken by all; waits in edge/f/in"}"#;
    let (requests, told) = asked(&["explain", "last"], vec![json(200, explanation)]);
    assert_eq!(requests, ["GET /api/v1/messages/last/explanation"]);
    insta::assert_snapshot!("explain", told.out);
}

#[test]
fn a_route_test_sends_the_message_and_points_at_what_decided() {
    let answer = r#"{"result": "false", "routes": [], "text": "$body.temp is 20", "endpoints": [],
        "reason": {"kind": "condition", "expression": "$body.temp > 50", "column": 1, "length": 15, "seen": []}}"#;
    let words = [
        "route",
        "test",
        "--condition",
        "$body.temp > 50",
        "--body",
        r#"{"temp": 20}"#,
        "-p",
        "a=b=c",
        "-s",
        "contentType=x",
    ];
    let (requests, told) = asked(&words, vec![json(200, answer)]);
    assert_eq!(
        requests,
        [
            r#"POST /api/v1/route-tests {"condition":"$body.temp > 50","message":{"body":{"temp":20},"properties":{"a":"b=c"},"source":"/messages","systemProperties":{"contentType":"x"}}}"#
        ]
    );
    assert_eq!(told.out, "result: false\n  $body.temp > 50\n  ^^^^^^^^^^^^^^^ $body.temp is 20\n");
}

#[test]
fn the_state_of_the_hub_is_one_screen() {
    let answers = |ready: String| {
        vec![
            ready,
            json(
                200,
                r#"{"version": "0.1.0", "edgeDevice": "edge", "started": "2026-05-04T10:00:00Z",
                "storeBytes": 4096, "storeMaxBytes": 1073741824, "clients": 3}"#,
            ),
            json(200, r#"{"kind": "mqtt", "state": "down", "reason": "refused", "waiting": 120}"#),
            json(
                200,
                r#"{"items": [{"name": "iothub", "messages": 120, "bytes": 40960, "inFlight": 0, "dropped": 0}], "next": null}"#,
            ),
            json(
                200,
                r#"{"items": [{"name": "filter", "state": "running", "version": 2, "counters": {"messages": 640, "faults": 0}}], "next": null}"#,
            ),
        ]
    };
    let (_, told) = asked(&["status"], answers(json(200, r#"{"status": "degraded"}"#)));
    assert_eq!(told.exit, Exit::Fine);
    let shown: Vec<&str> = told.out.lines().collect();
    assert!(
        shown[0].starts_with("edge 0.1.0 on http://127.0.0.1:") && shown[0].ends_with(": degraded")
    );
    insta::assert_snapshot!("status", shown[1..].join("\n"));
    let (_, told) = asked(&["status"], answers(problem(503, "not-ready", "")));
    assert_eq!(told.exit, Exit::Failed);
    assert!(told.out.lines().next().unwrap().ends_with("not ready: detail"), "{}", told.out);
    let (_, told) = asked(&["status", "--quiet"], vec![json(200, "{}")]);
    assert_eq!((told.exit, told.out + &told.notes), (Exit::Fine, String::new()));
}

#[test]
fn lists_are_tables() {
    let page = |item: &str| vec![json(200, &format!(r#"{{"items": [{item}], "next": null}}"#))];
    let cases: [(&[&str], &str); 9] = [
        (
            &["device", "list"],
            r#"{"deviceId": "d", "status": "enabled", "authentication": {"type": "sas"}, "updated": "t"}"#,
        ),
        (
            &["device", "list", "--modules-of", "d"],
            r#"{"deviceId": "d", "moduleId": "m", "status": "enabled"}"#,
        ),
        (
            &["client", "list"],
            r#"{"deviceId": "d", "protocol": "mqtt", "since": "t", "peer": "p:1"}"#,
        ),
        (
            &["module", "list"],
            r#"{"name": "f", "state": "running", "version": 1, "onProbation": true, "counters": {"messages": 2, "dropped": 1, "faults": 0}, "spec": {"component": "sha256:a"}}"#,
        ),
        (
            &["module", "versions", "f"],
            r#"{"number": 1, "at": "t", "fortune": "returned", "why": "trap", "spec": {"component": "sha256:a"}}"#,
        ),
        (&["artifact", "list"], r#"{"digest": "sha256:a", "bytes": 10, "at": "t"}"#),
        (
            &["queue", "peek", "$upstream", "--limit", "1"],
            r#"{"sequence": 1, "route": "r", "state": "waiting", "attempts": 0, "message": {"id": "i", "enqueued": "t", "sender": "d", "bodyBytes": 2, "content": {"body": "{}"}}}"#,
        ),
        (
            &["dlq", "list"],
            r#"{"id": 7, "queue": "q", "at": "t", "attempts": 5, "reason": "trap", "message": {"sender": "d"}}"#,
        ),
        (
            &["token", "list"],
            r#"{"id": "i", "name": "ci", "scopes": ["a:read", "b:write"], "created": "t", "expires": null, "lastUsed": null}"#,
        ),
    ];
    let mut shown = String::new();
    for (words, item) in cases {
        let (requests, told) = asked(words, page(item));
        assert_eq!(told.exit, Exit::Fine, "{words:?}: {}", told.notes);
        shown += &format!("=== {}: {}\n{}\n", words.join(" "), requests[0], told.out);
    }
    insta::assert_snapshot!("lists", shown);
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let told = ran(&["completions", shell], &Environment::default());
        assert!(told.out.contains("connection-string"), "{shell}");
    }
}

#[test]
fn a_twin_is_read_set_and_taken_back() {
    let twin = r#"{"deviceId": "p", "etag": "AAA=", "properties": {"desired": {"$version": 3}}}"#;
    let (requests, told) = asked(&["twin", "get", "p"], vec![json(200, twin)]);
    assert_eq!(requests, ["GET /api/v1/twins/p"]);
    assert!(told.out.contains("\"etag\": \"AAA=\""), "{}", told.out);
    let set = ["twin", "set", "p", "--desired", r#"{"a": null}"#, "--tags", "{}"];
    let (requests, told) = asked(&set, vec![json(200, twin)]);
    let body = r#"{"properties":{"desired":{"a":null}},"tags":{}}"#;
    assert_eq!(requests, [format!("PATCH /api/v1/twins/p {body}")]);
    assert!(told.notes.contains("the twin of p was changed") && told.notes.contains("version 3"));
    let replace =
        ["twin", "set", "p", "--module", "m", "--replace", "--desired", "{}", "--if-match", "AAA="];
    let (requests, _) = asked(&replace, vec![json(200, twin)]);
    let body = r#"{"properties":{"desired":{}}}"#;
    assert_eq!(requests, [format!("PUT /api/v1/twins/p/modules/m {body}")]);
    let (requests, _) = asked(&["twin", "revert", "p", "--version", "2"], vec![json(200, twin)]);
    let body = r#"{"section":"desired","version":2}"#;
    assert_eq!(requests, [format!("POST /api/v1/twins/p/revert {body}")]);
    let wrong = ran(
        &["twin", "set", "p", "--desired", "[]", "--data-dir", "/nowhere"],
        &Environment::default(),
    );
    assert_ne!(wrong.exit, Exit::Fine);
}

#[test]
fn the_history_of_a_twin_is_a_table_and_a_difference_is_a_patch() {
    let page = r#"{"items": [{"version": 2, "at": "2026-05-04T09:00:00Z", "by": "token:1", "patch": {"a": 1}}], "next": null}"#;
    let (requests, told) =
        asked(&["twin", "history", "p", "--section", "reported"], vec![json(200, page)]);
    let path = "GET /api/v1/twins/p/history?section=reported&limit=100";
    assert_eq!(requests, [path]);
    assert!(told.out.contains("token:1") && told.out.contains(r#"{"a":1}"#), "{}", told.out);
    let diff = r#"{"section": "desired", "from": 2, "to": 3, "patch": {"a": null}}"#;
    let (requests, told) =
        asked(&["twin", "diff", "p", "--from", "2", "--to", "3"], vec![json(200, diff)]);
    assert_eq!(requests, ["GET /api/v1/twins/p/diff?section=desired&from=2&to=3"]);
    assert_eq!(told.out.split_whitespace().collect::<String>(), r#"{"a":null}"#);
}
