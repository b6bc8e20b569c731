//! WASI `cli`: no environment, no arguments, no terminal; stdout and stderr go to the module's log.

use crate::bindings::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use crate::capability::wasi_io::{Input, Output};
use crate::guest::{Guest, Stop};
use crate::log::Stream;
use wasmtime::Result;
use wasmtime::component::Resource;

/// Never made: nothing is a terminal.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Terminal;

impl environment::Host for Guest {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        self.enter()?;
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> Result<Vec<String>> {
        self.enter()?;
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> Result<Option<String>> {
        self.enter()?;
        Ok(None)
    }
}

impl exit::Host for Guest {
    fn exit(&mut self, _status: Result<(), ()>) -> Result<()> {
        Err(Stop::Exit.into())
    }
}

impl stdin::Host for Guest {
    fn get_stdin(&mut self) -> Result<Resource<Input>> {
        self.enter()?;
        self.push(Input)
    }
}

impl stdout::Host for Guest {
    fn get_stdout(&mut self) -> Result<Resource<Output>> {
        self.enter()?;
        self.push(Output(Stream::Out))
    }
}

impl stderr::Host for Guest {
    fn get_stderr(&mut self) -> Result<Resource<Output>> {
        self.enter()?;
        self.push(Output(Stream::Err))
    }
}

impl terminal_input::Host for Guest {}

impl terminal_input::HostTerminalInput for Guest {
    fn drop(&mut self, terminal: Resource<Terminal>) -> Result<()> {
        self.delete(terminal)
    }
}

impl terminal_output::Host for Guest {}

impl terminal_output::HostTerminalOutput for Guest {
    fn drop(&mut self, terminal: Resource<Terminal>) -> Result<()> {
        self.delete(terminal)
    }
}

impl terminal_stdin::Host for Guest {
    fn get_terminal_stdin(&mut self) -> Result<Option<Resource<Terminal>>> {
        self.enter()?;
        Ok(None)
    }
}

impl terminal_stdout::Host for Guest {
    fn get_terminal_stdout(&mut self) -> Result<Option<Resource<Terminal>>> {
        self.enter()?;
        Ok(None)
    }
}

impl terminal_stderr::Host for Guest {
    fn get_terminal_stderr(&mut self) -> Result<Option<Resource<Terminal>>> {
        self.enter()?;
        Ok(None)
    }
}
