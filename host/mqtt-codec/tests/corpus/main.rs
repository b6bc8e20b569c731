//! The corpus of the fuzz target, run as a plain test: every rule of the codec by example.
//!
//! `cases.rs` and `bad.rs` say what each file holds; the files are there for fuzzers.
//! `WEIR_BLESS=1 cargo test -p weir-mqtt-codec --test corpus` writes the ones that differ.
#![expect(clippy::unwrap_used, reason = "this file is tests and their helpers")]

mod bad;
mod cases;
#[path = "../../fuzz/src/check.rs"]
mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use cases::{Case, Expected};
use check::{End, check};
use weir_mqtt_codec::PacketKind;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/decode")
}

/// All cases by file name.
fn all_cases() -> BTreeMap<String, Case> {
    let cases = cases::good().into_iter().chain(cases::part()).chain(bad::bad());
    let mut by_name = BTreeMap::new();
    for case in cases {
        let kind = match case.expected {
            Expected::Good(_) => "good",
            Expected::Part(_) => "part",
            Expected::Bad(_) => "bad",
        };
        let name = format!("{kind}-{}.bin", case.name);
        assert!(by_name.insert(name, case).is_none(), "two cases of one name");
    }
    by_name
}

#[test]
fn files_are_the_cases_described_here() {
    let cases = all_cases();
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::create_dir_all(folder()).unwrap();
        for (name, case) in &cases {
            fs::write(folder().join(name), &case.bytes).unwrap();
        }
    }
    let on_disk: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for (name, case) in &cases {
        let bytes = fs::read(folder().join(name)).unwrap_or_default();
        assert_eq!(bytes, case.bytes, "{name} is old: see the head of this file");
    }
    let described: BTreeSet<String> = cases.into_keys().collect();
    // A fuzzer's finds may lie beside them, under names of their own.
    let unknown: Vec<_> = on_disk
        .difference(&described)
        .filter(|name| ["good-", "bad-", "part-"].iter().any(|kind| name.starts_with(kind)))
        .collect();
    assert!(unknown.is_empty(), "not described: {unknown:?}");
    assert!(described.len() >= 150);
}

#[test]
fn every_file_in_the_folder_keeps_the_promises() {
    for entry in fs::read_dir(folder()).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
    }
}

#[test]
fn every_case_ends_as_its_name_says() {
    for (name, case) in all_cases() {
        let (packets, end) = check(&case.bytes);
        match case.expected {
            Expected::Good(kinds) => {
                assert_eq!(end, End::Clean, "{name}");
                let found: Vec<PacketKind> = packets.iter().map(|packet| packet.kind()).collect();
                assert_eq!(found, kinds, "{name}");
            }
            Expected::Part(missing) => assert_eq!(end, End::Part(missing), "{name}"),
            Expected::Bad(error) => assert_eq!(end, End::Bad(error), "{name}"),
        }
    }
}

#[test]
fn good_packets_are_written_as_they_were_read() {
    for (name, case) in all_cases() {
        // Lengths in a longer form than needed, and versions that are not spoken, are not kept.
        if !matches!(case.expected, Expected::Good(_)) || name.contains("-odd-") {
            continue;
        }
        let mut written = Vec::new();
        for packet in check(&case.bytes).0 {
            packet.encode(&mut written).unwrap();
        }
        assert_eq!(written, case.bytes, "{name}");
    }
}

#[test]
fn every_prefix_of_a_good_packet_is_incomplete() {
    for (name, case) in all_cases() {
        let Expected::Good(kinds) = case.expected else { continue };
        // The largest packets would only repeat what the short ones show, slowly.
        if kinds.len() > 1 || case.bytes.len() > 300 {
            continue;
        }
        for end in 1..case.bytes.len() {
            let (_, found) = check(&case.bytes[..end]);
            assert!(matches!(found, End::Part(_)), "{name} cut at {end}: {found:?}");
        }
    }
}
