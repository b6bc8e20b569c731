//! The codec's corpus, sent to the hub: before CONNECT, after it, and in pieces that end.

use super::mqtt::{Who, connected, unknown};
use super::{Case, End, How, Said};
use std::path::Path;

/// The clause that a name of the corpus speaks of; the first that fits counts.
const RULES: &[(&str, &str)] = &[
    ("bad-type-", "MQTT 2.2.1"),
    ("tls-hello", "MQTT-2.2.2-2"),
    ("http-get", "MQTT-2.2.2-2"),
    ("flags-pubrel", "MQTT-3.6.1-1"),
    ("flags-subscribe", "MQTT-3.8.1-1"),
    ("flags-unsubscribe", "MQTT-3.10.1-1"),
    ("flags-disconnect", "MQTT-3.14.1-1"),
    ("bad-flags-", "MQTT-2.2.2-2"),
    ("publish-qos3", "MQTT-3.3.1-4"),
    ("publish-qos0-dup", "MQTT-3.3.1-2"),
    ("bad-length-", "MQTT 2.2.3"),
    ("length-bomb", "MQTT 2.2.3, CVE-2023-0809"),
    ("not-utf8", "MQTT-1.5.3-1"),
    ("surrogate", "MQTT-1.5.3-1"),
    ("overlong", "MQTT-1.5.3-1"),
    ("continuation", "MQTT-1.5.3-1"),
    ("character-cut", "MQTT-1.5.3-1"),
    ("over-10ffff", "MQTT-1.5.3-1"),
    ("null", "MQTT-1.5.3-2"),
    ("bad-connect-name", "MQTT-3.1.2-1"),
    ("reserved-flag", "MQTT-3.1.2-3"),
    ("-no-will", "MQTT-3.1.2-13, MQTT-3.1.2-15"),
    ("connect-will-qos3", "MQTT-3.1.2-14"),
    ("password-no-user", "MQTT-3.1.2-22"),
    ("will-topic", "MQTT-3.3.2-2"),
    ("not-announced", "MQTT-3.1.2-18"),
    ("bad-connect-no-user", "MQTT-3.1.2-19"),
    ("bad-connect-no-password", "MQTT-3.1.2-21"),
    ("connect-client-id-longer", "CVE-2026-25627"),
    ("bad-connect", "MQTT-3.1.3-1"),
    ("id-zero", "MQTT-2.3.1-1"),
    ("topic-empty", "MQTT-4.7.3-1, CVE-2021-34432"),
    ("filter-empty", "MQTT-4.7.3-1"),
    ("publish-topic-plus", "MQTT-3.3.2-2"),
    ("publish-topic-hash", "MQTT-3.3.2-2"),
    ("hash", "MQTT-4.7.1-2"),
    ("plus", "MQTT-4.7.1-3"),
    ("bad-subscribe-empty", "MQTT-3.8.3-3"),
    ("bad-unsubscribe-empty", "MQTT-3.10.3-2"),
    ("subscribe-qos", "MQTT-3-8.3-4"),
    ("mqtt-5-option", "MQTT-3-8.3-4"),
    ("connack", "MQTT-3.2.2, CVE-2021-28166"),
    ("suback", "MQTT-3.9.3-2, CVE-2021-28166"),
];
/// A violation of the protocol ends the connection.
const VIOLATION: &str = "MQTT-4.8.0-1";

fn rule(name: &str) -> &'static str {
    RULES.iter().find(|(part, _)| name.contains(part)).map_or(VIOLATION, |(_, rule)| rule)
}

fn files() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mqtt-codec/fuzz/corpus/decode");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// What is over a limit there is over the corpus's own, which is smaller than the hub's.
fn depends_on_limits(name: &str) -> bool {
    name.contains("limit") || name.contains("too-many")
}

pub(crate) fn cases(who: &Who) -> Vec<Case> {
    let closed = || End::Closed(Said::Nothing);
    let refused = |code| End::Closed(Said::Exactly(vec![0x20, 2, 0, code]));
    let (first, known) = (unknown(), connected(&who.device));
    let mut cases = Vec::new();
    for (file, bytes) in files() {
        let name = file.trim_end_matches(".bin");
        let before = format!("{name} before CONNECT");
        let after = format!("{name} after CONNECT");
        match name.split('-').collect::<Vec<_>>()[..] {
            ["bad", ..] if !depends_on_limits(name) => {
                cases.push(Case::new(before, rule(name), &first, bytes.clone(), closed()));
                // What came before it, a PINGREQ, is answered.
                let end = match name {
                    "bad-stream-bad-after-good" => End::Closed(Said::Exactly(vec![0xd0, 0])),
                    _ => closed(),
                };
                cases.push(Case::new(after, rule(name), &known, bytes, end));
            }
            ["part", ..] => {
                let case = Case::new(before, VIOLATION, &first, bytes.clone(), closed());
                cases.push(case.sent(How::ThenEnd));
                if !name.starts_with("part-stream") {
                    let case = Case::new(after, VIOLATION, &known, bytes, closed());
                    cases.push(case.sent(How::ThenEnd));
                }
            }
            ["good", "connect", ref rest @ ..] => {
                let (rule, end) = match rest {
                    ["odd", ..] => ("MQTT-3.1.2-2", refused(1)),
                    ["no", "client", "id", "kept"] => ("MQTT-3.1.3-8", refused(2)),
                    _ => ("MQTT-3.1.4-2", refused(5)),
                };
                let stranger = format!("{name} of a stranger");
                cases.push(Case::new(stranger, rule, &first, bytes.clone(), end));
                let second = format!("{name} as a second CONNECT");
                cases.push(Case::new(second, "MQTT-3.1.0-2", &known, bytes, closed()));
            }
            ["good", kind, ..] if kind != "stream" => {
                let rule = "MQTT-3.1.0-1";
                cases.push(Case::new(before, rule, &first, bytes.clone(), closed()));
                if ["connack", "suback", "unsuback", "pingresp"].contains(&kind) {
                    let rule = "MQTT 2.2.1, CVE-2021-28166";
                    cases.push(Case::new(after, rule, &known, bytes, closed()));
                } else if ["pubrec", "pubrel", "pubcomp"].contains(&kind)
                    || name.contains("qos2") && kind == "publish"
                {
                    cases.push(Case::new(after, "QoS 2 is not offered", &known, bytes, closed()));
                }
            }
            _ => {}
        }
    }
    cases
}
