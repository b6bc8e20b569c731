//! The command line: what can be asked, and how the answer leaves.
//!
//! `main` reads [`Args`], runs what starts a hub itself, and gives every other verb to [`execute`].
//! Verbs that talk to a hub speak only its REST API. Invariants: an answer goes to standard output and
//! everything else to standard error; no secret is taken from the command line, where other users of
//! the machine can read it.

mod artifact;
mod check;
mod clients;
mod command;
mod completions;
mod connection_string;
mod device;
mod dlq;
mod edge_environment;
mod error;
mod events;
mod explain;
mod method;
mod module;
mod operation;
mod queue;
mod route;
mod routes_file;
mod sample;
mod start;
mod status;
mod token;
mod twin;
mod upstream;
mod verdict;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use start::{CompileModuleArgs, DemoArgs, RunArgs};

use crate::client::{Client, Target, Wanted};
use crate::config::Environment;
use crate::exit::{self, Exit};
use crate::output::{Console, Format};
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// An edge hub in one binary: routes, durable queues, hot-loaded WebAssembly modules
#[derive(Debug, Parser)]
#[command(name = "weir", version, subcommand_required = true, arg_required_else_help = true)]
#[command(before_help = "\
Examples:
  weir demo                                    see it work; needs nothing
  weir run --config weir.toml                  start a hub
  weir status                                  how it is
  weir route put all 'FROM /messages/* INTO $upstream'
  weir module swap filter filter.wasm          exchange a module while messages flow
  weir explain last                            where did the last message go, and why?")]
pub struct Args {
    /// Print for people, or the hub's own JSON
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM",
        display_order = 900
    )]
    pub output: Format,
    /// What is asked.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a hub in the foreground
    Run(RunArgs),
    /// Show a hub at work: two sensors, a filter that is swapped, an upstream that is cut
    Demo(DemoArgs),
    /// Check a configuration or routes without a hub
    Check(check::CheckArgs),
    /// Say how the hub is
    Status(status::StatusArgs),
    /// Say where a message went, and why
    Explain(explain::ExplainArgs),
    /// Routes: list, put, delete, test
    Route(route::RouteArgs),
    /// Wasm modules: put, swap, look at
    Module(module::ModuleArgs),
    /// Uploaded components
    Artifact(artifact::ArtifactArgs),
    /// Identities of devices and their modules
    Device(device::DeviceArgs),
    /// Print one connection string
    ConnectionString(connection_string::ConnectionStringArgs),
    /// Twins: desired and reported properties, tags, history
    Twin(twin::TwinArgs),
    /// Print the variables that IoT Edge sets for a module
    EdgeEnvironment(edge_environment::EdgeEnvironmentArgs),
    /// Who is connected
    Client(clients::ClientArgs),
    /// Direct methods: call one
    Method(method::MethodArgs),
    /// Cloud-to-device messages: send, list, purge
    Command(command::CommandArgs),
    /// Queues and the messages in them
    Queue(queue::QueueArgs),
    /// Dead letters: messages that could not be delivered
    Dlq(dlq::DlqArgs),
    /// The link to the upstream
    Upstream(upstream::UpstreamArgs),
    /// Follow what happens in the hub
    Events(events::EventsArgs),
    /// Work that outlives the call that began it
    Operation(operation::OperationArgs),
    /// Tokens of the REST API
    Token(token::TokenArgs),
    /// Print the completions of a shell
    Completions(completions::CompletionsArgs),
    /// Compile a component (the hub calls this itself)
    #[command(hide = true)]
    CompileModule(CompileModuleArgs),
}

/// Which hub.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which hub (else WEIR_HOST and WEIR_TOKEN; else ./weir-data)")]
pub struct HubArgs {
    /// The hub's configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The hub's data folder
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl HubArgs {
    fn connect(&self, environment: &Environment) -> Result<Client, Error> {
        let (config, data_dir) = (self.config.as_deref(), self.data_dir.as_deref());
        let target = Target::find(Wanted { config, data_dir }, environment)?;
        Ok(Client::new(&target)?)
    }
}

/// Reads the command line; prints help, version and usage errors itself.
///
/// # Errors
/// How the process is to end, when there is nothing to run.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, Exit> {
    let parsed = command().try_get_matches_from(words).and_then(|m| Args::from_arg_matches(&m));
    parsed.map_err(|error| {
        // Nothing can be said where even this cannot be printed.
        drop(error.print());
        if error.use_stderr() { Exit::Usage } else { Exit::Fine }
    })
}

/// The whole command, with examples and exit codes in the help of each verb.
#[must_use]
pub fn command() -> Command {
    dress(Args::command(), "weir", "")
}

/// Gives a verb its form of help; one without examples of its own gets those of the verb above that
/// begin with its `line`.
fn dress(command: Command, line: &str, above: &str) -> Command {
    const TEMPLATE: &str = "\
{about-with-newline}
{before-help}{usage-heading} {usage}

{all-args}{after-help}";
    let own = command.get_before_help().map(ToString::to_string);
    let examples = own.unwrap_or_else(|| {
        let ours = above.lines().filter(|example| {
            example
                .split_once(line)
                .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(' '))
        });
        ours.fold("Example:".to_owned(), |all, example| all + "\n" + example)
    });
    let dressed = command.help_template(TEMPLATE).after_help(exit::HELP);
    let dressed = dressed.before_help(examples.clone());
    dressed.mut_subcommands(|verb| {
        let line = format!("{line} {}", verb.get_name());
        dress(verb, &line, &examples).disable_help_subcommand(true)
    })
}

/// Runs a verb that needs no hub in this process, and says how the process is to end.
pub fn execute(args: Args, environment: &Environment) -> Exit {
    let (mut out, mut notes) = (std::io::stdout().lock(), std::io::stderr().lock());
    let redraw = std::io::stderr().is_terminal();
    let colour = redraw && environment.get("NO_COLOR").is_none();
    let mut console = Console::new(args.output, &mut out, &mut notes, redraw);
    perform(args.verb, environment, &mut console, colour)
}

fn perform(verb: Verb, environment: &Environment, console: &mut Console<'_>, colour: bool) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(verb, environment, console)),
        Err(cause) => Err(Error::Input { doing: "start".to_owned(), cause }),
    };
    match outcome {
        Ok(()) => Exit::Fine,
        Err(error) => error.show(console, colour),
    }
}

async fn run(
    verb: Verb,
    environment: &Environment,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    match verb {
        Verb::Check(args) => args.run(environment, console),
        Verb::Completions(args) => args.run(console),
        Verb::Status(args) => args.run(environment, console).await,
        Verb::Explain(args) => args.run(&args.hub.connect(environment)?, console).await,
        Verb::Route(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Module(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Artifact(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Device(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::ConnectionString(args) => args.run(&args.hub.connect(environment)?, console).await,
        Verb::Twin(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::EdgeEnvironment(args) => args.run(&args.hub.connect(environment)?, console).await,
        Verb::Client(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Method(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Command(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Queue(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Dlq(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Upstream(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Events(args) => args.run(&args.hub.connect(environment)?, console).await,
        Verb::Operation(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Token(args) => args.verb.run(&args.hub.connect(environment)?, console).await,
        Verb::Run(_) | Verb::Demo(_) | Verb::CompileModule(_) => {
            Err(Error::Usage("this verb starts a process of its own".to_owned()))
        }
    }
}
