//! What a client that is known may not ask: topics, properties, filters, twins and methods.

use super::mqtt::{OTHER, Who, connected, packet, publish, subscribe};
use super::{Case, End, Said};
use crate::support::EDGE;
use bytes::BytesMut;
use weir_mqtt_codec::{Limits, Packet, decode};

pub(crate) fn cases(who: &Who) -> Vec<Case> {
    let (d, m) = (&who.device, &who.module);
    let device = connected(d);
    let module = connected(&format!("{EDGE}/{m}"));
    let closed = || End::Closed(Said::Nothing);
    let mut cases = Vec::new();
    for topic in no_topics(d) {
        let (name, bytes) = (format!("PUBLISH to {topic:.80}"), publish(&topic, b"{}"));
        cases.push(Case::new(name, "a topic of IoT Hub, and one's own", &device, bytes, closed()));
    }
    for topic in [
        format!("devices/{EDGE}/modules/{OTHER}/messages/events/"),
        format!("devices/{EDGE}/messages/events/"),
        format!("devices/{d}/modules/{m}/messages/events/"),
        format!("devices/{EDGE}/modules/{m}/inputs/in/"),
        format!("devices/{EDGE}/modules/{m}x/messages/events/"),
        format!("devices/{EDGE}/modules//messages/events/"),
        format!("devices/{EDGE}/modules/{m}/messages/devicebound/"),
    ] {
        let (name, bytes) = (format!("a module's PUBLISH to {topic}"), publish(&topic, b"{}"));
        cases.push(Case::new(name, "a topic of IoT Hub, and one's own", &module, bytes, closed()));
    }
    for (name, bag) in BAGS {
        let topic = format!("devices/{EDGE}/modules/{m}/messages/events/{bag}");
        let (name, rule) = (format!("property bag: {name}"), "IoT Hub's property bags");
        cases.push(Case::new(name, rule, &module, publish(topic, b"{}"), closed()));
    }
    for (name, filter) in foreign_filters(d) {
        cases.push(refused_filter(format!("a device's filter: {name}"), &device, &filter));
    }
    for (name, filter) in [
        ("another module's inputs", format!("devices/{EDGE}/modules/{OTHER}/inputs/#")),
        ("all modules' inputs", format!("devices/{EDGE}/modules/+/inputs/#")),
        ("all below the device", format!("devices/{EDGE}/#")),
        ("the device's commands", format!("devices/{EDGE}/messages/devicebound/#")),
        ("another device's module of this name", format!("devices/{OTHER}/modules/{m}/inputs/#")),
    ] {
        cases.push(refused_filter(format!("a module's filter: {name}"), &module, &filter));
    }
    let patch = "$iothub/twin/PATCH/properties/reported/?$rid=1";
    for (name, body) in patches() {
        let (name, bytes) = (format!("a twin patch that {name}"), at_most_once(patch, &body));
        let end = End::Answered(Said::That(refuses_twin));
        cases.push(Case::new(name, "IoT Hub's rules of twins", &device, bytes, end));
    }
    let nobody = publish("$iothub/methods/res/200/?$rid=00000000deadbeef", b"{}");
    let end = End::Answered(Said::Exactly(vec![0x40, 2, 0, 1]));
    cases.push(Case::new(
        "an answer to a call that was never made",
        "dropped",
        &device,
        nobody,
        end,
    ));
    let nobody = [0x40, 2, 0x30, 0x39, 0xc0, 0];
    let end = End::Answered(Said::Exactly(vec![0xd0, 0]));
    cases.push(Case::new("a PUBACK for nothing", "ignored", &device, nobody.to_vec(), end));
    cases
}

/// A PUBLISH of QoS 0, as the Node SDK sends its requests.
fn at_most_once(topic: &str, body: &[u8]) -> Vec<u8> {
    packet(0x30, &[&super::mqtt::field(topic)[..], body].concat())
}

fn no_topics(d: &str) -> Vec<String> {
    let upper = d.to_uppercase();
    let mut topics: Vec<String> = [
        "a",
        "/",
        "//",
        " ",
        "é/x",
        "\u{feff}",
        "devices",
        "devices/",
        "$SYS/broker/uptime",
        "$SYS",
        "$share/group/devices/other/messages/events/",
        "$iothub",
        "$iothub/",
        "$iothub/twin",
        "$iothub/twin/",
        "$iothub/twin/GET",
        "$iothub/twin/GET/",
        "$iothub/twin/GET/?$rid=",
        "$iothub/twin/GET/?rid=1",
        "$iothub/twin/GET/x?$rid=1",
        "$iothub/twin/GETx/?$rid=1",
        "$iothub/twin/PUT/properties/reported/?$rid=1",
        "$iothub/twin/PATCH/properties/",
        "$iothub/twin/PATCH/properties/tags/?$rid=1",
        "$iothub/twin/res/200/?$rid=1",
        "$iothub/twin/PATCH/properties/desired/?$version=1",
        "$iothub/twin/PATCH/properties/reportedx",
        "$iothub/methods",
        "$iothub/methods/POST/reboot/?$rid=1",
        "$iothub/methods/res/",
        "$iothub/methods/res/200",
        "$iothub/methods/res/200/",
        "$iothub/methods/res/200/?$rid=",
        "$iothub/methods/res/2/00/?$rid=1",
        "$iothub/clientproxy/x",
        "$iothub/logmessage/",
        "$edgehub/subscriptions",
        "devices//messages/events/",
        "/devices/x/messages/events/",
        "Devices/x/messages/events/",
        "devices/other/messages/events/",
        "devices/other/messages/events/%24.cdid=x",
        "devices/../messages/events/",
        "devices/%6fther/messages/events/",
    ]
    .map(str::to_owned)
    .into();
    for tail in [
        "",
        "/",
        "/messages",
        "/messages/",
        "/messages/event",
        "/messages/eventsx",
        "/messages/events2/",
        "/messages/Events/",
        "/messages/events/a/b=1",
        "/messages/events/a=1/b=2/",
        "/messages/events///",
        "/messages/devicebound/",
        "/messages/devicebound/a=1",
        "/modules",
        "/modules/",
        "/modules/m/",
        "/modules/m/messages/events/",
        "/modules/m/inputs/in/",
        "/files",
        "/messages//events/",
    ] {
        topics.push(format!("devices/{d}{tail}"));
    }
    topics.push(format!("devices/{d}x/messages/events/"));
    topics.push(format!("devices/{upper}/messages/events/"));
    topics.push(format!("devices/ {d}/messages/events/"));
    topics.push(format!("$iothub/twin/GET/?$rid={}", "r".repeat(257)));
    topics.push(format!("$iothub/methods/res/200/?$rid={}", "r".repeat(60_000)));
    topics
}

const BAGS: &[(&str, &str)] = &[
    ("a key that is not UTF-8", "%ff=1"),
    ("a value that is not UTF-8", "a=%c3%28"),
    ("a surrogate", "a=%ED%A0%80"),
    ("an overlong slash", "a=%C0%AF"),
    ("a character cut short", "a=%e2%82"),
    ("wrong in the tenth pair", "a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=%fe"),
    ("an output with a slash", "%24.on=a%2Fb"),
    ("an output with a plus sign", "%24.on=a%2Bb"),
    ("an output with a NUL", "%24.on=a%00"),
    ("an output that is not ASCII", "%24.on=%C3%A4"),
    (
        "an output of 129 bytes",
        concat!(
            "%24.on=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        ),
    ),
    ("a slash that is not encoded", "a=1/2"),
    ("a second level", "a=1/b=2"),
];

fn foreign_filters(d: &str) -> Vec<(&'static str, String)> {
    vec![
        ("everything", "#".to_owned()),
        ("everything below one level", "+/#".to_owned()),
        ("every device", "devices/#".to_owned()),
        ("every device's commands", "devices/+/messages/devicebound/#".to_owned()),
        ("another device's commands", format!("devices/{OTHER}/messages/devicebound/#")),
        ("any first level", format!("+/{d}/messages/devicebound/#")),
        ("its modules", format!("devices/{d}/modules/#")),
        ("all below itself, its modules with it", format!("devices/{d}/#")),
        ("any level below itself", format!("devices/{d}/+/m/inputs/#")),
        ("a name that begins the same", format!("devices/{d}x/messages/devicebound/#")),
        ("65 levels", "a/".repeat(64) + "a"),
        ("1,025 bytes", "a".repeat(1_025)),
    ]
}

fn refused_filter(name: String, opening: &std::sync::Arc<[super::Exchange]>, filter: &str) -> Case {
    let bytes = subscribe(&[filter.as_bytes()]);
    let end = End::Answered(Said::Exactly(vec![0x90, 3, 0, 1, 0x80]));
    Case::new(name, "MQTT-3.9.3-2, one's own filters", opening, bytes, end)
}

fn patches() -> Vec<(&'static str, Vec<u8>)> {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let texts: Vec<(&str, String)> = vec![
        ("is empty", String::new()),
        ("is no JSON", "no".to_owned()),
        ("is cut short", "{\"a\":".to_owned()),
        ("is an array", "[]".to_owned()),
        ("is null", "null".to_owned()),
        ("is a number", "1".to_owned()),
        ("is two objects", "{}{}".to_owned()),
        ("is 12 deep", nested(12)),
        ("is 10,000 deep", nested(10_000)),
        ("opens 100,000 arrays", "[".repeat(100_000)),
        ("has NaN", "{\"a\":NaN}".to_owned()),
        ("has 1e999", "{\"a\":1e999}".to_owned()),
        ("has a lone surrogate", "{\"a\":\"\\ud800\"}".to_owned()),
        ("has a comment", "{/* */}".to_owned()),
        ("has a comma too many", "{\"a\":1,}".to_owned()),
        ("has a key with a dot", "{\"a.b\":1}".to_owned()),
        ("has a key with a space", "{\"a b\":1}".to_owned()),
        ("has a key with a dollar sign", "{\"$a\":1}".to_owned()),
        ("has a key of 1,025 bytes", format!("{{\"{}\":1}}", "k".repeat(1_025))),
        ("has a text of 4,097 bytes", format!("{{\"a\":\"{}\"}}", "v".repeat(4_097))),
        ("has a number beyond 2^52", "{\"a\":9007199254740993}".to_owned()),
        (
            "is over 32 KiB",
            format!(
                "{{{}}}",
                (0..9)
                    .map(|n| format!("\"k{n}\":\"{}\"", "v".repeat(4_000)))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        ),
    ];
    let mut patches: Vec<_> =
        texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    patches.push(("is not UTF-8", b"{\"a\":\"\xff\"}".to_vec()));
    patches.push(("begins with a byte order mark", b"\xef\xbb\xbf{}".to_vec()));
    patches
}

/// True once there is an answer to a twin request that says no.
fn refuses_twin(bytes: &[u8]) -> bool {
    let mut bytes = BytesMut::from(bytes);
    let limits = Limits { max_packet_bytes: 1 << 20, max_filters: 10 };
    while let Ok(Some(packet)) = decode(&mut bytes, &limits) {
        if let Packet::Publish(publish) = packet {
            let topic = publish.topic.as_str();
            return ["4", "5"].iter().any(|n| topic.starts_with(&format!("$iothub/twin/res/{n}")))
                && topic.ends_with("/?$rid=1");
        }
    }
    false
}
