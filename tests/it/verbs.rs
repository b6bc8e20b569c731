//! Every verb of the command line against a running hub, for people and for programs, and what each says
//! when it is given something wrong.

use crate::support::{Client, Hub, guests, wait_for};
use serde_json::Value;

/// What a verb did.
struct Told {
    code: Option<i32>,
    out: String,
    notes: String,
}

fn told(hub: &Hub, words: &[&str]) -> Told {
    let output = hub.verb(words);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Told { code: output.status.code(), out: text(&output.stdout), notes: text(&output.stderr) }
}

/// A line of words, with the place of the hub.
fn words(line: &str) -> Vec<String> {
    let words = line.split(' ').map(|word| word.replace('~', " "));
    words.chain(["--data-dir".to_owned(), "data".to_owned()]).collect()
}

fn run(hub: &Hub, line: &str) -> Told {
    let words = words(line);
    told(hub, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// It is done; gives what is printed for people.
fn does(hub: &Hub, line: &str) -> String {
    let Told { code, out, notes } = run(hub, line);
    assert_eq!(code, Some(0), "weir {line}\n{out}{notes}");
    assert!(!notes.contains("error"), "weir {line}\n{notes}");
    out + &notes
}

/// What it gives programs.
fn gives(hub: &Hub, line: &str) -> Value {
    let Told { code, out, notes } = run(hub, &format!("{line} --output json"));
    assert_eq!((code, notes.as_str()), (Some(0), ""), "weir {line}\n{out}");
    serde_json::from_str(&out).unwrap_or_else(|why| panic!("weir {line}: {why}\n{out}"))
}

/// It is refused with this exit code; people and programs are told `why`.
fn refuses(hub: &Hub, line: &str, code: i32, why: &str) {
    for (line, json) in [(line.to_owned(), false), (format!("{line} --output json"), true)] {
        let told = run(hub, &line);
        assert_eq!(told.code, Some(code), "weir {line}\n{}{}", told.out, told.notes);
        assert_eq!(told.out, "", "weir {line}");
        assert!(told.notes.contains(why), "weir {line}\n{}", told.notes);
        match json {
            true => drop(serde_json::from_str::<Value>(&told.notes).expect(&told.notes)),
            false => assert!(told.notes.starts_with("error: "), "{}", told.notes),
        }
    }
}

/// A hub with a device, a filter between two routes, and a module that says something for the log.
fn hub() -> Hub {
    let hub = Hub::start_with("upstream = { kind = \"file\", path = \"up.ndjson\" }");
    let file = |name: &str, text: &str| std::fs::write(hub.folder().join(name), text).unwrap();
    for name in ["filter", "broken"] {
        let name = format!("{name}.wasm");
        std::fs::copy(guests().join(&name), hub.folder().join(&name)).unwrap();
    }
    file(
        "spec.json",
        r#"{"inputs": ["in"], "outputs": ["out"], "fields": ["/n"], "settings": {"threshold": 10}}"#,
    );
    file(
        "loud.json",
        r#"{"inputs": ["in"], "outputs": ["out"], "properties": ["outcome"], "settings": {"fault": "log-forge"}}"#,
    );
    file("key", &format!("{}\n", crate::support::KEY));
    hub
}

fn device(hub: &Hub) -> Client {
    does(hub, "device create pump-1 --primary-key-file key");
    Client::connect(hub.mqtt, "pump-1", None, true)
}

#[test]
fn identities_and_tokens() {
    let hub = hub();
    assert!(does(&hub, "status").contains("ready"));
    assert_eq!(gives(&hub, "status")["system"]["edgeDevice"], "edge");
    assert_eq!(does(&hub, "status --quiet"), "");
    assert!(does(&hub, "device create pump-1 --primary-key-file key").contains("pump-1 is new"));
    assert!(does(&hub, "device list").contains("pump-1"));
    assert_eq!(gives(&hub, "device list").as_array().unwrap().len(), 2);
    assert!(does(&hub, "device show pump-1").contains("enabled"));
    assert_eq!(gives(&hub, "device create edge --module sender")["moduleId"], "sender");
    assert!(does(&hub, "device list --modules-of edge").contains("sender"));
    let line = does(&hub, "connection-string --device pump-1");
    assert_eq!(
        line,
        format!("HostName=localhost;DeviceId=pump-1;SharedAccessKey={}\n", crate::support::KEY)
    );
    assert!(
        does(&hub, "connection-string --device edge --module sender").contains(";ModuleId=sender;")
    );
    assert!(
        does(&hub, "connection-string --service --policy service").contains("KeyName=service;")
    );
    does(&hub, "device update pump-1 --status disabled");
    assert_eq!(gives(&hub, "device show pump-1")["status"], "disabled");
    assert_eq!(gives(&hub, "device update pump-1 --status enabled")["status"], "enabled");
    let _connected = Client::connect(hub.mqtt, "pump-1", None, true);
    wait_for("a client is listed", || does(&hub, "client list").contains("pump-1").then_some(()));
    assert_eq!(gives(&hub, "client list")[0]["deviceId"], "pump-1");
    does(&hub, "device delete pump-1");

    let token = does(&hub, "token create ci --scope devices:read --expires 1h");
    let id = token.split('_').nth(1).unwrap().to_owned();
    assert!(does(&hub, "token list").contains(&id));
    assert_eq!(gives(&hub, &format!("token show {id}"))["name"], "ci");
    assert!(does(&hub, &format!("token delete {id}")).contains("is gone"));

    refuses(&hub, "device show nobody", 1, "there is no identity nobody");
    refuses(&hub, "device create a/b", 1, "may not contain '/'");
    refuses(&hub, "device create x --primary-key-file nofile", 1, "nofile");
    refuses(&hub, "device update nobody --status enabled", 1, "there is no identity nobody");
    refuses(&hub, "device delete edge", 1, "cannot be deleted");
    refuses(&hub, "connection-string --device nobody", 1, "nobody");
    refuses(&hub, "token create x --scope nonsense", 1, "is no scope");
    refuses(&hub, "token show nothing", 1, "there is no such token");
}

#[test]
fn modules_artifacts_and_operations() {
    let hub = hub();
    let digest = does(&hub, "artifact put filter.wasm").trim().to_owned();
    assert!(does(&hub, "artifact list").contains(&digest));
    assert_eq!(gives(&hub, "artifact list").as_array().unwrap().len(), 1);
    assert!(does(&hub, &format!("artifact show {digest}")).contains("weir:module/processor"));
    does(&hub, "module put filter --spec spec.json --component filter.wasm");
    wait_for("the module runs", || does(&hub, "module list").contains("running").then_some(()));
    assert_eq!(gives(&hub, "module list")[0]["name"], "filter");
    assert!(does(&hub, "module show filter").contains("spec.settings.threshold"));
    assert!(does(&hub, &format!("module swap filter {digest}")).contains("runs sha256:"));
    assert_eq!(gives(&hub, "module swap filter filter.wasm")["change"], "unchanged");
    assert!(does(&hub, "module versions filter").contains(&digest));
    assert_eq!(gives(&hub, "module state filter"), Value::Array(Vec::new()));
    assert!(does(&hub, "module state filter").contains("KEY"));
    assert!(does(&hub, "operation list").contains("KIND"));
    assert_eq!(does(&hub, "module logs filter"), "");

    does(&hub, "module put loud --spec loud.json --component broken.wasm");
    does(&hub, "route put in FROM~/messages/*~INTO~BrokeredEndpoint(\"/modules/loud/inputs/in\")");
    let mut pump = device(&hub);
    pump.publish("outcome=drop", b"{}");
    assert!(pump.wait_acknowledged(1));
    let said = wait_for("the module has logged", || {
        Some(does(&hub, "module logs loud")).filter(|said| !said.is_empty())
    });
    assert!(said.contains("a line") && !said.contains('\u{1b}'), "{said}");
    assert_eq!(said.lines().count(), 1, "a module cannot write a second line: {said}");
    let lines = run(&hub, "module logs loud --output json").out;
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    does(&hub, "route delete in");
    does(&hub, "module delete loud");
    does(&hub, "module delete filter");
    does(&hub, &format!("artifact delete {digest}"));

    refuses(&hub, "module show nobody", 1, "there is no module nobody");
    refuses(&hub, "module put x --spec nofile", 1, "nofile");
    refuses(&hub, "module put x --spec key", 1, "key is no JSON");
    refuses(&hub, "module put x --spec spec.json", 1, "component");
    refuses(
        &hub,
        "module put x --spec spec.json --component spec.json",
        1,
        "no WebAssembly component",
    );
    refuses(&hub, "module swap nobody filter.wasm", 1, "there is no module nobody");
    refuses(&hub, "module swap filter nofile.wasm", 1, "nofile.wasm");
    refuses(&hub, "module swap filter sha256:12", 64, "is no digest");
    refuses(&hub, "module logs nobody", 1, "there is no module nobody");
    refuses(&hub, "module state nobody", 1, "there is no module nobody");
    refuses(&hub, "operation show nothing", 1, "there is no such operation");
}

#[test]
fn routes_queues_dead_letters_and_the_upstream() {
    let hub = hub();
    does(&hub, "route put up FROM~/messages/*~INTO~$upstream --priority 3 --ttl 60");
    assert!(does(&hub, "route list").contains("$upstream"));
    assert_eq!(gives(&hub, "route list")[0]["priority"], 3);
    assert_eq!(gives(&hub, "route show up")["timeToLiveSecs"], 60);
    assert!(does(&hub, "route test").contains("took it    up"));
    let why = does(&hub, "route test --condition t~>~'25' -p t=20");
    assert!(why.contains("result: false") && why.contains("^^^"), "{why}");
    assert_eq!(gives(&hub, "route test --condition t~>~'25' -p t=30")["result"], "true");
    refuses(&hub, "explain last", 1, "no message has been accepted");

    assert!(does(&hub, "upstream show").contains("file"));
    assert!(does(&hub, "upstream pause").contains("paused"));
    let mut pump = device(&hub);
    pump.publish("", b"{\"n\": 1}");
    pump.publish("", b"{\"n\": 2}");
    assert!(pump.wait_acknowledged(2));
    assert!(does(&hub, "explain last").contains("took it    up"));
    assert_eq!(gives(&hub, "explain last")["sender"], "pump-1");
    assert!(does(&hub, "queue list").contains("iothub"));
    assert_eq!(gives(&hub, "queue show $upstream")["messages"], 2);
    assert!(does(&hub, "queue peek $upstream --limit 1").contains("pump-1"));
    assert_eq!(gives(&hub, "queue peek $upstream").as_array().unwrap().len(), 2);
    assert!(does(&hub, "queue purge $upstream --yes").starts_with("2 messages removed"));
    assert_eq!(gives(&hub, "upstream resume")["state"], "up");
    // The link has been cut and mended, the queue purged.
    let told = does(&hub, "events --after 1-0 --topic link --count 2");
    assert!(told.contains("upstream") && told.contains("paused"), "{told}");
    let told = gives(&hub, "events --after 1-0 --topic audit --count 1");
    assert_eq!(told["topic"], "audit");
    refuses(&hub, "events --topic weather", 1, "is no topic");

    std::fs::write(
        hub.folder().join("reject.json"),
        r#"{"inputs": ["in"], "outputs": ["out"], "errors": {"retry": {"max-attempts": 1}}, "settings": {"fault": "trap"}}"#,
    )
    .unwrap();
    does(&hub, "module put bad --spec reject.json --component broken.wasm");
    does(&hub, "route put up FROM~/messages/*~INTO~BrokeredEndpoint(\"/modules/bad/inputs/in\")");
    pump.publish("", b"{}");
    let letters = wait_for("a dead letter", || {
        Some(gives(&hub, "dlq list")).filter(|letters| letters[0].is_object())
    });
    let id = letters[0]["id"].as_u64().unwrap();
    assert!(does(&hub, "dlq list").contains("edge/bad/in"));
    assert!(does(&hub, &format!("dlq show {id}")).contains("trapped"));
    assert!(does(&hub, &format!("dlq replay {id}")).contains("NEW MESSAGE"));
    let again = wait_for("it comes back", || gives(&hub, "dlq list")[0]["id"].as_u64());
    assert!(does(&hub, &format!("dlq delete {again}")).contains("1 deleted"));

    refuses(&hub, "route put r FROM~/messages/*~INOT~$upstream", 1, "did you mean INTO?");
    refuses(&hub, "route put r FROM~/messages/*~INTO~$upstream --priority 12", 1, "0 to 9");
    refuses(&hub, "route put a~b FROM~/messages/*~INTO~$upstream", 1, "may not contain ' '");
    refuses(&hub, "route delete nothing", 1, "there is no route nothing");
    refuses(&hub, "route test --condition a~b", 1, "expected an operator");
    refuses(&hub, "route test --message nofile", 1, "nofile");
    refuses(&hub, "queue show nothing", 1, "there is no queue");
    refuses(&hub, "queue peek nothing", 1, "there is no queue");
    refuses(&hub, "queue purge nothing --yes", 1, "there is no queue");
    refuses(&hub, "dlq show 99", 1, "there is no dead letter 99");
    refuses(&hub, "dlq replay 99", 1, "there is no dead letter 99");
    refuses(&hub, "explain nothing", 1, "is not kept");
}

#[test]
fn a_hub_that_cannot_be_asked_says_why() {
    let hub = hub();
    let elsewhere = told(&hub, &["device", "list", "--data-dir", "nowhere"]);
    assert_eq!(elsewhere.code, Some(1));
    assert!(elsewhere.notes.contains("no hub is running"), "{}", elsewhere.notes);
    std::fs::write(hub.folder().join("data/admin.token"), "weir_1_x").unwrap();
    refuses(&hub, "device list", 1, "the token is not one of this hub");
    let check = told(&hub, &["check", "--config", "weir.toml"]);
    assert_eq!(check.code, Some(0), "{}", check.notes);
    assert!(told(&hub, &["completions", "bash"]).out.contains("_weir"));
    let second = told(&hub, &["run", "--config", "weir.toml"]);
    assert_eq!(second.code, Some(1));
    assert!(second.notes.contains("in use by another process"), "{}", second.notes);
}
