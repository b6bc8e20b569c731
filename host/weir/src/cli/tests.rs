//! The command line itself: what is understood, what is not, and what help says.

mod verbs;

use super::*;
use clap::error::ErrorKind;

#[test]
fn the_command_is_well_formed() {
    command().debug_assert();
}

#[test]
fn every_help_text_is_as_recorded() {
    fn names(command: &Command, path: &[&str], found: &mut Vec<Vec<String>>) {
        let path = [path, &[command.get_name()]].concat();
        found.push(path.iter().map(ToString::to_string).collect());
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            names(verb, &path, found);
        }
    }
    let (mut verbs, mut texts) = (Vec::new(), String::new());
    names(&command(), &[], &mut verbs);
    for verb in verbs {
        let words = verb.iter().map(String::as_str).chain(["--help"]);
        let help = command().term_width(100).try_get_matches_from(words).unwrap_err().to_string();
        // The same under every verb.
        let help = help.replace(exit::HELP, "(exit codes)");
        texts.push_str(&format!("=== {}\n{help}\n", verb.join(" ")));
    }
    insta::assert_snapshot!("help", texts);
}

/// The words of a line as a shell splits them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('\\', quote) if quote != Some('\'') => {
                word.get_or_insert_default().extend(characters.next());
            }
            (' ', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_example_of_the_help_is_understood() {
    fn examples(command: &Command, found: &mut Vec<String>) {
        let text = command.get_before_help().map(ToString::to_string).unwrap_or_default();
        let text = text.replace("\\\n", " ");
        found.extend(text.lines().filter_map(|line| {
            let at = line.find("weir ").filter(|at| !line[..*at].contains("source"))?;
            // Behind two spaces stands what it does.
            let line = line[at..].replace(" $(", " ");
            let line = line.split("   ").next()?.split(" > ").next()?.split(" && ").next()?;
            Some(line.trim_end_matches(')').replace("sha256:...", &digest()))
        }));
        command.get_subcommands().for_each(|verb| examples(verb, found));
    }
    let mut found = Vec::new();
    examples(&command(), &mut found);
    assert!(found.len() > 40, "{found:#?}");
    fn without(command: &Command) {
        let text = command.get_before_help().map(ToString::to_string).unwrap_or_default();
        let hidden = command.is_hide_set();
        assert!(hidden || text.contains("  weir"), "{} has no example", command.get_name());
        command.get_subcommands().for_each(without);
    }
    without(&command());
    for line in found {
        if let Err(error) = command().try_get_matches_from(words(&line)) {
            panic!("{line}\n{error}");
        }
    }
}

#[test]
fn a_command_line_that_contradicts_itself_is_a_usage_error() {
    for line in [
        "weir nothing",
        "weir status extra",
        "weir check",
        "weir check --config a --routes b",
        "weir demo --port 99999",
        "weir connection-string",
        "weir connection-string --module m",
        "weir connection-string --device d --service",
        "weir token create ci",
        "weir token create ci --scope a:read --expires soon",
        "weir device create cam --auth self-signed",
        "weir device create cam --body f --disabled",
        "weir device update cam",
        "weir device update cam --status off",
        "weir module swap filter",
        "weir artifact delete sha256:12",
        "weir queue purge q",
        "weir dlq replay",
        "weir dlq replay 1 --all",
        "weir dlq show x",
        "weir route test --condition c --routes f",
        "weir --output yaml status",
    ] {
        let error = command().try_get_matches_from(line.split(' ')).unwrap_err();
        assert!(error.use_stderr(), "{line}");
        let words = line.split(' ').map(OsString::from);
        assert_eq!(parse(words).unwrap_err(), Exit::Usage, "{line}");
    }
}

/// Each operation of the API with the verb that asks for it.
const OPERATIONS: &[(&str, &str)] = &[
    ("listArtifacts", "artifact list"),
    ("getArtifact", "artifact show sha256:..."),
    ("putArtifact", "artifact put f.wasm"),
    ("deleteArtifact", "artifact delete sha256:..."),
    ("listClients", "client list"),
    ("callMethod", "method call d poke"),
    ("sendDeviceCommand", "command send d text"),
    ("listDeviceCommands", "command list d"),
    ("purgeDeviceCommands", "command purge d --yes"),
    ("sendModuleCommand", "command send d text --module m"),
    ("listModuleCommands", "command list d --module m"),
    ("purgeModuleCommands", "command purge d --module m --yes"),
    ("getDeviceKeys", "device keys d"),
    ("rotateDeviceKeys", "device keys d --rotate primary"),
    ("getModuleKeys", "device keys d --module m"),
    ("rotateModuleKeys", "device keys d --module m --rotate both"),
    ("patchDevice", "device disable d"),
    ("patchDevice", "device enable d"),
    ("listDeadLetters", "dlq list"),
    ("getDeadLetter", "dlq show 1"),
    ("deleteDeadLetter", "dlq delete 1"),
    ("replayDeadLetter", "dlq replay 1"),
    ("replayDeadLetters", "dlq replay --all"),
    ("listDevices", "device list"),
    ("getDevice", "device show d"),
    ("putDevice", "device create d"),
    ("patchDevice", "device update d --status disabled"),
    ("deleteDevice", "device delete d"),
    ("followEvents", "events --topic twin"),
    ("getDeviceConnectionString", "connection-string --device d"),
    ("listDeviceModules", "device list --modules-of d"),
    ("getDeviceModule", "device show d --module m"),
    ("putDeviceModule", "device create d --module m"),
    ("patchDeviceModule", "device update d --module m --status enabled"),
    ("deleteDeviceModule", "device delete d --module m"),
    ("getEdgeEnvironment", "edge-environment --module m --http"),
    ("getDeviceModuleConnectionString", "connection-string --device d --module m"),
    ("getTwin", "twin get d"),
    ("patchTwin", "twin set d --desired {}"),
    ("putTwin", "twin set d --desired {} --replace"),
    ("getTwinHistory", "twin history d"),
    ("diffTwin", "twin diff d --from 2 --to 3"),
    ("revertTwin", "twin revert d --version 2"),
    ("getModuleTwin", "twin get d --module m"),
    ("patchModuleTwin", "twin set d --module m --tags {}"),
    ("putModuleTwin", "twin set d --module m --body f --replace"),
    ("getModuleTwinHistory", "twin history d --module m --section reported"),
    ("diffModuleTwin", "twin diff d --module m --from 2"),
    ("revertModuleTwin", "twin revert d --module m --section tags --version 2"),
    ("explainMessage", "explain last"),
    ("listModules", "module list"),
    ("getModule", "module show m"),
    ("putModule", "module put m --spec f"),
    ("deleteModule", "module delete m"),
    ("listModuleLogs", "module logs m"),
    ("listModuleState", "module state m"),
    ("swapModule", "module swap m f.wasm"),
    ("listModuleVersions", "module versions m"),
    ("listOperations", "operation list"),
    ("getOperation", "operation show 1"),
    ("listQueues", "queue list"),
    ("getQueue", "queue show q"),
    ("listQueueMessages", "queue peek q"),
    ("purgeQueue", "queue purge q --yes"),
    ("testRoute", "route test"),
    ("listRoutes", "route list"),
    ("getRoute", "route show r"),
    ("putRoute", "route put r FROM"),
    ("deleteRoute", "route delete r"),
    // The policies are fixed; the help of the option names them.
    ("listServicePolicies", "connection-string --service --policy service"),
    ("getServiceConnectionString", "connection-string --service"),
    ("getSystem", "status"),
    ("listTokens", "token list"),
    ("getToken", "token show 1"),
    ("createToken", "token create t --scope a:read"),
    ("deleteToken", "token delete 1"),
    ("getUpstream", "upstream show"),
    ("patchUpstream", "upstream pause"),
    ("patchUpstream", "upstream resume"),
];

#[test]
fn every_operation_of_the_api_has_a_verb_and_the_other_way_round() {
    let document: serde_json::Value = serde_json::from_str(weir_api::openapi_document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let ours = paths.iter().filter(|(path, _)| path.starts_with("/api/v1/"));
    for operation in ours.flat_map(|(_, item)| item.as_object().unwrap().values()) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(OPERATIONS.iter().any(|(known, _)| *known == id), "{id} has no verb");
    }
    for (_, line) in OPERATIONS {
        let line = format!("weir {line}").replace("sha256:...", &digest());
        command()
            .try_get_matches_from(line.split(' '))
            .unwrap_or_else(|why| panic!("{line}\n{why}"));
    }
    let alone = ["run", "demo", "check", "completions", "compile-module"];
    for verb in command().get_subcommands().filter(|verb| !alone.contains(&verb.get_name())) {
        let name = verb.get_name();
        let below: Vec<&str> = verb.get_subcommands().map(Command::get_name).collect();
        let lines = match below[..] {
            [] => vec![name.to_owned()],
            _ => below.iter().map(|below| format!("{name} {below}")).collect(),
        };
        for line in lines {
            let known = OPERATIONS
                .iter()
                .any(|(_, known)| format!("{known} ").starts_with(&format!("{line} ")));
            assert!(known, "weir {line} is no operation of the API");
        }
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (line, kind) in [
        ("weir --help", ErrorKind::DisplayHelp),
        ("weir module swap --help", ErrorKind::DisplayHelp),
        ("weir --version", ErrorKind::DisplayVersion),
    ] {
        let error = command().try_get_matches_from(line.split(' ')).unwrap_err();
        assert_eq!((error.kind(), error.use_stderr()), (kind, false), "{line}");
    }
}

#[test]
fn no_option_takes_a_secret() {
    fn check(command: &Command) {
        for option in command.get_arguments() {
            let name = option.get_id().as_str();
            let secret =
                ["token", "key", "password", "secret"].iter().any(|word| name.contains(word));
            assert!(!secret || name.ends_with("_file"), "{name} of {}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&command());
}

fn digest() -> String {
    format!("sha256:{}", "ab".repeat(32))
}
