//! The log: lines for people on a terminal, JSON for machines, on standard error. Lines of modules
//! are also kept for the API.

use crate::config::LogFormat;
use anyhow::{Context as _, Result};
use std::fmt;
use std::io::IsTerminal;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use weir_core::clock::Clock;
use weir_hub::ModuleLogs;

/// Target of the lines that modules write.
const MODULE_TARGET: &str = "weir::module";

/// Starts the log; gives the last lines of the modules. `level` is a level or a filter such as
/// `info,weir_hub=debug`.
///
/// # Errors
/// When `level` is no filter, or the log was started before.
pub fn start(format: LogFormat, level: &str) -> Result<ModuleLogs> {
    let filter = EnvFilter::try_new(level).with_context(|| format!("{level:?} is no log level"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let logs = ModuleLogs::default();
    let keep = Keep { logs: logs.clone(), clock: Clock::system() };
    let registry = tracing_subscriber::registry().with(filter).with(keep);
    let started = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
    started.map_err(|cause| anyhow::anyhow!("the log could not be started: {cause}"))?;
    Ok(logs)
}

/// Keeps the lines of modules.
struct Keep {
    logs: ModuleLogs,
    clock: Clock,
}

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != MODULE_TARGET {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        self.logs.push(&line.module, level, line.message, self.clock.now());
    }
}

/// What a line of a module has in it.
#[derive(Default)]
struct Line {
    module: String,
    message: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "module" => self.module = format!("{value:?}"),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "module" {
            value.clone_into(&mut self.module);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_modules_are_kept_and_others_are_not() {
        let logs = ModuleLogs::default();
        let keep = Keep { logs: logs.clone(), clock: Clock::system() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(keep), || {
            let module = "filter";
            tracing::warn!(target: "weir::module", module, "{}", "threshold \"25\"");
            tracing::warn!(target: "weir::module", module = %module, dropped = 3, "too many");
            tracing::warn!(module, "not a module's");
        });
        let kept = logs.after("filter", 0, 10);
        let lines: Vec<_> = kept.iter().map(|line| (line.level, line.message.as_str())).collect();
        assert_eq!(lines, [("warn", "threshold \"25\""), ("warn", "too many")]);
    }
}
