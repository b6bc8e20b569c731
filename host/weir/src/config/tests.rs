use super::*;
use std::fs;
use std::path::Path;

fn load(text: &str, environment: &Environment) -> Result<Loaded, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    fs::write(&file, text).unwrap();
    Loaded::from(Sources { file: Some(&file), environment, data_dir: None })
}

fn accepted(text: &str) -> Config {
    match load(text, &Environment::default()) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{}", error.report(false)),
    }
}

/// What the operator sees, with the temporary folder left out.
fn refused(text: &str, environment: &Environment) -> String {
    let report = load(text, environment).unwrap_err().report(false);
    let folder = std::env::temp_dir();
    report
        .split(folder.to_str().unwrap())
        .enumerate()
        .map(|(at, part)| match part.split_once("/weir.toml") {
            Some((_, rest)) if at > 0 => format!("weir.toml{rest}"),
            _ => part.to_owned(),
        })
        .collect()
}

#[test]
fn without_a_file_everything_has_its_default() {
    let environment = Environment::default();
    let sources = Sources { file: None, environment: &environment, data_dir: None };
    let loaded = Loaded::from(sources).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.settings().iter().all(|setting| setting.origin == "default"));
}

#[test]
fn the_documented_file_says_the_defaults() {
    let documented = include_str!("../../../../docs/weir.toml");
    let file = accepted(documented);
    let defaults = Config { data_dir: file.data_dir.clone(), ..Config::default() };
    assert!(file.data_dir.ends_with("weir-data"));
    assert_eq!(file, defaults);
}

#[test]
fn the_documented_file_names_every_key() {
    let documented = include_str!("../../../../docs/weir.toml");
    let kinds = [
        "upstream.kind = \"file\"\nupstream.path = \"x\"",
        "upstream.kind = \"mqtt\"\nupstream.address = \"x\"",
    ];
    let configs = kinds.map(accepted);
    for key in configs.iter().chain([&Config::default()]).flat_map(show::keys) {
        let name = key.rsplit('.').next().unwrap();
        let said = documented.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.starts_with(&format!("{name} =")) || line == format!("[{key}]")
        });
        assert!(said, "docs/weir.toml does not name {key}");
    }
}

#[test]
fn every_documented_example_is_accepted() {
    let documented = include_str!("../../../../docs/weir.toml");
    // Examples are commented keys: `#key = value`, without a space.
    let uncommented: String = documented
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if example.starts_with(|c: char| c.is_ascii_lowercase()) => example,
            _ => line,
        })
        .fold(String::new(), |all, line| all + line + "\n");
    let config = accepted(&uncommented);
    assert_eq!(config.iothub_hostname(), "my-hub.azure-devices.net");
    assert!(config.store.max_size.is_some());
    assert!(matches!(config.upstream, Upstream::None {}));
}

#[test]
fn the_environment_wins_over_the_file_and_says_so() {
    let environment = Environment::from([
        ("WEIR_LISTEN__MQTT", "127.0.0.1:0"),
        ("WEIR_DEVICE_ID", "17"),
        ("WEIR_STORE__TIME_TO_LIVE_SECS", "60"),
        ("WEIR_API__TLS", "true"),
        ("WEIR_HOST", "http://127.0.0.1:1"),
        ("WEIR_TOKEN", "not a key"),
        ("PATH", "/bin"),
    ]);
    let loaded = load("device_id = 'pump'\n[store]\ntime_to_live_secs = 5", &environment).unwrap();
    assert_eq!(loaded.config.listen.mqtt, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(loaded.config.device_id.as_str(), "17");
    assert_eq!(loaded.config.store.time_to_live(), Some(Duration::from_secs(60)));
    assert!(loaded.config.api.tls);
    let settings = loaded.settings();
    let origin = |key: &str| {
        settings.iter().find(|setting| setting.key == key).map(|setting| setting.origin.as_str())
    };
    assert_eq!(origin("device_id"), Some("WEIR_DEVICE_ID"));
    assert_eq!(origin("store.time_to_live_secs"), Some("WEIR_STORE__TIME_TO_LIVE_SECS"));
    assert_eq!(origin("store.durability"), Some("default"));
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    fs::write(&file, "[upstream]\nkind = 'file'\npath = 'out.ndjson'\n[security]\ndevice_ca_files = ['ca.pem', '/etc/ca.pem']\n").unwrap();
    let environment = Environment::default();
    let sources = Sources { file: Some(&file), environment: &environment, data_dir: None };
    let config = Loaded::from(sources).unwrap().config;
    assert_eq!(config.data_dir, folder.path().join("weir-data"));
    let Upstream::File(upstream) = config.upstream else { panic!("the kind stays") };
    assert_eq!(upstream.path, folder.path().join("out.ndjson"));
    let files = [folder.path().join("ca.pem"), "/etc/ca.pem".into()];
    assert_eq!(config.security.device_ca_files, files);
}

#[test]
fn an_option_of_the_command_wins_over_all() {
    let environment = Environment::from([("WEIR_DATA_DIR", "/from/environment")]);
    let data_dir = Some(Path::new("here"));
    let loaded = Loaded::from(Sources { file: None, environment: &environment, data_dir }).unwrap();
    assert_eq!(loaded.config.data_dir, Path::new("here"));
    assert_eq!(loaded.settings()[1].origin, "--data-dir");
}

#[test]
fn plain_mqtt_beyond_loopback_needs_insecure() {
    for address in ["127.0.0.1:1883", "localhost:0", "[::1]:1883"] {
        accepted(&format!("[listen]\nmqtt_plain = '{address}'"));
    }
    accepted("insecure = true\n[listen]\nmqtt_plain = '0.0.0.0:1883'");
    assert!(load("[listen]\nmqtt_plain = '0.0.0.0:1883'", &Environment::default()).is_err());
}

#[test]
fn the_api_beyond_loopback_needs_tls() {
    accepted("[listen]\napi = '0.0.0.0:8420'\n[api]\ntls = true");
    assert!(load("[listen]\napi = '192.0.2.1:8420'", &Environment::default()).is_err());
    assert!(load("[listen]\napi = 'off'", &Environment::default()).is_err());
}

#[test]
fn what_is_not_built_yet_is_accepted_and_said() {
    let text = "allow_elevated_docker_permissions = true\n[docker]\nuri = 'unix:///var/run/docker.sock'\n[docker.policy]\ncap_add = []";
    let loaded = load(text, &Environment::default()).unwrap();
    assert_eq!(loaded.notices.len(), 3);
    assert!(loaded.notices[0].starts_with("[docker] "));
}

#[test]
fn an_unreadable_file_is_named() {
    let environment = Environment::default();
    let file = Some(Path::new("/nowhere/weir.toml"));
    let error = Loaded::from(Sources { file, environment: &environment, data_dir: None });
    let report = error.unwrap_err().report(false);
    assert!(report.contains("/nowhere/weir.toml"), "{report}");
}

/// Each bad file with what the operator sees.
#[test]
fn a_bad_value_is_shown_with_a_caret() {
    let cases = [
        ("unknown key", "device_id = 'a'\n[listen]\nmqt = '0.0.0.0:1'\n"),
        ("unknown key of another table", "mqtt = '0.0.0.0:1'\n"),
        ("top key below a table", "[listen]\nmqtt = '0.0.0.0:1'\ndata_dir = '/x'\n"),
        ("unknown key without a likely one", "[log]\nzzzzzz = 1\n"),
        ("unknown table", "[stroe]\nmax_size = '1Gi'\n"),
        ("no TOML", "device_id = 'a'\nhostname = gw\n"),
        ("a key twice", "device_id = 'a'\ndevice_id = 'b'\n"),
        ("wrong type", "[api]\ntls = 'yes'\n"),
        ("no address", "[listen]\napi = '8420'\n"),
        ("no size", "[store]\nmax_size = '4Mo'\n"),
        ("no id", "device_id = 'a/b'\n"),
        ("wrong word", "[store]\ndurability = 'powr'\n"),
        ("no host name", "hostname = 'gw:8883'\n"),
        ("no log level", "[log]\nlevel = 'a=b=c'\n"),
        ("unknown kind", "[upstream]\nkind = 'kafka'\n"),
        ("no kind", "[upstream]\npath = 'x'\n"),
        ("missing key of a kind", "[upstream]\nkind = 'file'\n"),
        ("unknown key of a kind", "[upstream]\nkind = 'file'\npath = 'a'\nrotat_bytes = 1\n"),
        ("wrong type in a kind", "[upstream]\nkind = 'mqtt'\naddress = 'a'\nwindow = '9'\n"),
        ("API without TLS", "[listen]\napi = '0.0.0.0:8420'\n"),
        ("plain MQTT for all", "[listen]\nmqtt_plain = '0.0.0.0:1883'\n"),
        ("unknown ceiling", "[security.wasm]\nmemry = '1Gi'\n"),
    ];
    let mut shown = String::new();
    for (name, text) in cases {
        shown += &format!("=== {name}\n{}\n", refused(text, &Environment::default()));
    }
    let variable = Environment::from([("WEIR_LISTEN__MQT", "0.0.0.0:1")]);
    shown += &format!("=== unknown variable\n{}\n", refused("", &variable));
    let variable = Environment::from([("WEIR_LISTEN__MQTT", "everywhere")]);
    shown += &format!("=== bad variable\n{}\n", refused("", &variable));
    insta::assert_snapshot!("refusals", shown);
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_the_file() {
    let text = "data_dir = ''\nhostnam = 'x'\n[listen]\nmqtt = 'nonsense'\napi = '0.0.0.0:80'\n\
        [upstream]\nkind = 'mqtt'\nadress = 'x'\n[log]\nlevel = '=['\n[api]\ntls = 'yes'\n";
    let environment = Environment::from([("WEIR_STORE__DURABILITY", "none")]);
    let shown = refused(text, &environment);
    let firsts: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("  x ")).collect();
    assert_eq!(
        firsts,
        [
            "data_dir is empty",
            "unknown key hostnam",
            "mqtt cannot be string \"nonsense\"",
            "address is missing",
            "unknown key adress",
            "\"=[\" is no log level",
            "tls cannot be string \"yes\"",
            "environment variable WEIR_STORE__DURABILITY: durability cannot be \"none\"",
        ],
        "that the API has no TLS is not sure while api.tls cannot be read"
    );
}

#[test]
fn what_the_configuration_leads_to_is_looked_at() {
    let around = |text: &str| {
        let refused = load(text, &Environment::default()).unwrap().look_around();
        refused.err().map(|error| error.report(false)).unwrap_or_default()
    };
    assert_eq!(around("upstream = { kind = 'file', path = 'x' }"), "");
    let shown = around("[upstream]\nkind = 'file'\npath = 'x'\nrotate_bytes = 1\n");
    assert!(shown.contains("4 | rotate_bytes = 1"), "{shown}");
    let shown = around("[upstream]\nkind = 'mqtt'\naddress = 'x'\ntls = true\n");
    assert!(shown.contains("ca_file: is needed") && shown.contains("1 | [upstream]"), "{shown}");
    let shown = around("[security]\ndevice_ca_files = ['a.pem', 'b.pem']\n");
    assert!(
        shown.contains("a.pem could not be read") && shown.contains("b.pem could not"),
        "{shown}"
    );
}
