//! Fuzz target: any bytes are decoded or refused, and the promises of `check` hold.
//!
//! Plain: every file named (or standard input, as AFL++ and honggfuzz feed it) is checked once.
//!
//! ```text
//! cargo run --release -- corpus/decode/*
//! ```
//!
//! Guided by coverage, with libFuzzer, on stable Rust (no sanitizer is needed: the crate forbids
//! `unsafe`, so faults are panics); finds go to the first folder, the second one is only read:
//!
//! ```text
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
//!     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
//!     -Ccodegen-units=1" \
//!     cargo build --release --features libfuzzer --target x86_64-unknown-linux-gnu
//! target/x86_64-unknown-linux-gnu/release/decode -max_len=512 /tmp/found corpus/decode
//! ```
#![cfg_attr(feature = "libfuzzer", no_main)]

mod check;

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check::check(data);
});

#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::io::Result<()> {
    use std::io::Read;

    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() {
        let mut data = Vec::new();
        std::io::stdin().read_to_end(&mut data)?;
        check::check(&data);
    }
    for file in &files {
        // Named first, so that a panic can be laid to its file.
        eprintln!("{}", file.display());
        check::check(&std::fs::read(file)?);
    }
    Ok(())
}
