//! The binary: reads the command line and the environment, and ends with the right code.

use std::io::IsTerminal;
use std::process::ExitCode;
use weir::cli::{self, DemoArgs, RunArgs, Verb};
use weir::config::{Environment, Loaded, LogFormat, Sources};
use weir::exit::Exit;
use weir::{demo, run, telemetry};

fn main() -> ExitCode {
    let args = match cli::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(exit) => return exit.into(),
    };
    match &args.verb {
        Verb::Run(run) => hub(run),
        Verb::Demo(demo) => show(demo),
        Verb::CompileModule(_) => {
            weir_wasm::compile_child(std::io::stdin(), std::io::stdout(), std::io::stderr())
        }
        _ => cli::execute(args, &Environment::of_process()).into(),
    }
}

fn hub(args: &RunArgs) -> ExitCode {
    let environment = Environment::of_process();
    let sources = Sources {
        file: args.config.as_deref(),
        environment: &environment,
        data_dir: args.data_dir.as_deref(),
    };
    let loaded = Loaded::from(sources).and_then(|loaded| loaded.look_around().map(|()| loaded));
    match loaded {
        Ok(loaded) => ended(serve(run::run(&loaded))),
        Err(error) => {
            complain(&format!(
                "error: {}",
                error.report(std::io::stderr().is_terminal()).trim_end()
            ));
            Exit::Failed.into()
        }
    }
}

fn show(args: &DemoArgs) -> ExitCode {
    if let Err(error) = telemetry::start(LogFormat::Text, "error") {
        return ended(Err(error));
    }
    ended(serve(demo::run(demo::Wish {
        data_dir: args.data_dir.clone(),
        port: args.port,
        duration: args.duration,
    })))
}

/// Two threads wait for sockets and the disk; modules and the database have their own.
fn serve<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}

fn ended(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => Exit::Failed.into(),
        Err(error) => {
            complain(&format!("error: {error:#}"));
            Exit::Failed.into()
        }
    }
}

/// The one place that writes to standard error before there is a log.
#[expect(clippy::print_stderr, reason = "the answer of a program that could not start")]
fn complain(text: &str) {
    eprintln!("{text}");
}
