//! The compiling child by itself: a component on stdin, its compiled form on stdout.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    weir_wasm::compile_child(stdin().lock(), stdout().lock(), stderr().lock())
}
