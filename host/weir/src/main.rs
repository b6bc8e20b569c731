//! The binary: reads the command line and the environment, and ends with the right code.

use std::process::ExitCode;
use weir::cli::{self, Verb};
use weir::config::Environment;
use weir::exit::Exit;

fn main() -> ExitCode {
    let args = match cli::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    match args.verb {
        // These start a process of their own, with a runtime and a log; the composition fills them in.
        Verb::Run(_) | Verb::Demo(_) | Verb::CompileModule(_) => Exit::Failed.into(),
        _ => cli::execute(args, &Environment::of_process()).into(),
    }
}
