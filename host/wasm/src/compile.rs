//! The parent's side of compilation: starts the child, feeds it, bounds what comes back, and says
//! what went wrong in words.

use crate::child::REFUSED;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use weir_core::limits::{COMPILE_MEMORY_BYTES, COMPILE_SECONDS};
use weir_core::port::{ComponentFacts, RuntimeError};

/// Wall-clock time of a compilation: twice its processor time, for a loaded machine.
const WALL: Duration = Duration::from_secs(2 * COMPILE_SECONDS);
/// Compiled code is two to three times the component.
const OUTPUT_BYTES: u64 = 128 * 1024 * 1024;
/// What is read of the child's stderr.
const ERROR_BYTES: u64 = 4 * 1024;

/// The program that ends in [`crate::compile_child`], and its arguments.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// The program; the hub's own binary.
    pub program: PathBuf,
    /// What makes it the compiling child.
    pub args: Vec<OsString>,
}

/// A compiled component.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) facts: ComponentFacts,
    pub(crate) code: Vec<u8>,
}

impl Compiler {
    /// Compiles a component in a child process.
    pub(crate) async fn compile(&self, component: &[u8]) -> Result<Compiled, RuntimeError> {
        match tokio::time::timeout(WALL, self.run(component)).await {
            Ok(Ok((status, output, errors))) => read(status, &output, &errors),
            Ok(Err(error)) => Err(host(&error)),
            Err(_) => Err(RuntimeError::Compile(format!("not done after {} s", WALL.as_secs()))),
        }
    }

    async fn run(&self, component: &[u8]) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let errors = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let feed = async move {
            // A child that refuses early closes its end; its exit code says the rest.
            drop(input.write_all(component).await);
            drop(input);
        };
        let ((), output, errors) =
            tokio::join!(feed, bounded(output, OUTPUT_BYTES), bounded(errors, ERROR_BYTES));
        Ok((child.wait().await?, output?, errors?))
    }
}

async fn bounded(pipe: impl AsyncRead + Unpin, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    pipe.take(bytes).read_to_end(&mut read).await?;
    Ok(read)
}

fn read(status: ExitStatus, output: &[u8], errors: &[u8]) -> Result<Compiled, RuntimeError> {
    let said = crate::log::escaped(String::from_utf8_lossy(errors).trim(), &[]);
    match (status.code(), status.signal()) {
        (Some(0), _) => split(output)
            .ok_or_else(|| RuntimeError::Compile("the compiler's answer is cut off".to_owned())),
        (Some(code), _) if code == i32::from(REFUSED) => Err(RuntimeError::Refused(said)),
        (Some(code), _) => Err(RuntimeError::Compile(format!("exit code {code}: {said}"))),
        (None, Some(SIGXCPU | SIGKILL)) => Err(RuntimeError::Compile(format!(
            "it needs more than {COMPILE_SECONDS} s of processor time"
        ))),
        (None, _) => Err(RuntimeError::Compile(format!(
            "it needs more than {} MiB of memory, or the compiler failed: {said}",
            COMPILE_MEMORY_BYTES >> 20
        ))),
    }
}

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

fn split(output: &[u8]) -> Option<Compiled> {
    let (length, rest) = output.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (facts, code) = rest.split_at_checked(length)?;
    let facts = serde_json::from_slice(facts).ok()?;
    Some(Compiled { facts, code: code.to_vec() })
}

fn host(error: &io::Error) -> RuntimeError {
    RuntimeError::Host(format!("the compiler could not be run: {error}"))
}
