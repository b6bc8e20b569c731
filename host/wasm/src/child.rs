//! The compiling child: reads a component, checks and compiles it, writes the result, under limits
//! that it sets on itself before it reads a byte.
//!
//! It runs in a process of its own because compiling what a stranger wrote may take any amount of
//! time and memory. Its answer on stdout is `u32` length (little-endian) of the facts, the facts as
//! JSON, and the code; a refusal is one line on stderr and exit code [`REFUSED`].

use crate::capability;
use crate::component;
use crate::engine;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use wasmtime::component::Component;
use weir_core::limits::{ARTIFACT_BYTES, COMPILE_MEMORY_BYTES, COMPILE_SECONDS};

/// Exit code for a component that is refused, with the reason on stderr.
pub(crate) const REFUSED: u8 = 3;
/// Exit code for a fault of the child itself.
const FAILED: u8 = 1;

/// The whole life of the compiling child: the hub's binary calls it for its hidden verb and does
/// nothing else in that process.
///
/// Reads a component from `input` up to its end and writes the compiled form to `output`. Refusals
/// and errors go to `errors` as one line. The limits hold for the whole process and cannot be undone.
pub fn compile_child(input: impl Read, mut output: impl Write, mut errors: impl Write) -> ExitCode {
    let result = limit_process().map_err(Failure::Host).and_then(|()| compile(input, &mut output));
    let (line, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Refused(why)) => (why, REFUSED),
        Err(Failure::Host(error)) => (error.to_string(), FAILED),
    };
    // Without the other end there is nobody left to tell.
    drop(writeln!(errors, "{}", line.replace('\n', " ")));
    ExitCode::from(code)
}

enum Failure {
    Refused(String),
    Host(io::Error),
}

fn limit_process() -> io::Result<()> {
    let limits = [
        (Resource::As, COMPILE_MEMORY_BYTES),
        (Resource::Cpu, COMPILE_SECONDS),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn compile(input: impl Read, output: &mut impl Write) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    // The hub holds its ceiling; this bound is for whoever else might start the verb.
    input.take(ARTIFACT_BYTES as u64 * 4).read_to_end(&mut bytes).map_err(Failure::Host)?;
    let facts = component::inspect(&bytes).map_err(Failure::Refused)?;
    let engine = engine::engine().map_err(host)?;
    let component = Component::from_binary(&engine, &bytes)
        .map_err(|error| Failure::Refused(format!("it is no valid component: {error:#}")))?;
    let linker = capability::linker(&engine).map_err(host)?;
    linker
        .instantiate_pre(&component)
        .map_err(|error| Failure::Refused(format!("an import does not fit: {error:#}")))?;
    let code = component.serialize().map_err(host)?;
    let facts = serde_json::to_vec(&facts).map_err(|error| Failure::Host(error.into()))?;
    let length = u32::try_from(facts.len()).map_err(host)?;
    output.write_all(&length.to_le_bytes()).map_err(Failure::Host)?;
    output.write_all(&facts).map_err(Failure::Host)?;
    output.write_all(&code).map_err(Failure::Host)?;
    output.flush().map_err(Failure::Host)
}

fn host(error: impl std::fmt::Display) -> Failure {
    Failure::Host(io::Error::other(format!("{error:#}")))
}
