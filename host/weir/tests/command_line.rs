//! The built binary: what scripts see of it. Everything else is tested without a process.

use std::process::{Command, Output};

fn weir(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let folder = std::env::temp_dir();
    command.args(words).env_clear().current_dir(folder).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("texts are UTF-8")
}

#[test]
fn help_goes_to_standard_output_and_names_the_exit_codes() {
    let told = weir(&["--help"]);
    assert_eq!(told.status.code(), Some(0));
    assert!(text(&told.stdout).contains("64  the command line is not understood"));
    assert_eq!(text(&told.stderr), "");
}

#[test]
fn a_usage_error_is_exit_code_64() {
    for words in [&["nothing"][..], &[], &["queue", "purge", "q"]] {
        let told = weir(words);
        assert_eq!(told.status.code(), Some(64), "{words:?}");
        assert_eq!(text(&told.stdout), "");
    }
}

#[test]
fn a_refusal_is_exit_code_1_with_a_caret_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, "[listen]\nmqt = '127.0.0.1:0'\n").unwrap();
    let told = weir(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(text(&told.stdout), "");
    let shown = text(&told.stderr);
    assert!(shown.contains("2 | mqt = '127.0.0.1:0'\n   : ^|^"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours where nobody looks: {shown}");
}

#[test]
fn no_hub_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let told = weir(&["status", "--data-dir", folder.path().to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stderr).contains("no hub is running"));
}
