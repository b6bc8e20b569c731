//! `telemetry`: log lines and metrics. Never fails and never waits; what is dropped is counted.

use crate::bindings::weir::module::telemetry::{Host, Kind, Level};
use crate::guest::Guest;
use crate::metrics::MetricKind;
use std::sync::PoisonError;
use wasmtime::Result;

fn level(level: Level) -> tracing::Level {
    match level {
        Level::Trace => tracing::Level::TRACE,
        Level::Debug => tracing::Level::DEBUG,
        Level::Info => tracing::Level::INFO,
        Level::Warn => tracing::Level::WARN,
        Level::Error => tracing::Level::ERROR,
    }
}

impl Host for Guest {
    fn enabled(&mut self, asked: Level) -> Result<bool> {
        self.enter()?;
        Ok(self.log.enabled(level(asked)))
    }

    fn log(&mut self, asked: Level, text: String, fields: Vec<(String, String)>) -> Result<()> {
        self.enter()?;
        self.log.line(level(asked), &text, &fields);
        Ok(())
    }

    fn metric(&mut self, name: String, kind: Kind, labels: Vec<(String, String)>) -> Result<u32> {
        self.enter()?;
        let kind = match kind {
            Kind::Counter => MetricKind::Counter,
            Kind::Gauge => MetricKind::Gauge,
            Kind::Histogram => MetricKind::Histogram,
        };
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(metrics.declare(name, kind, labels))
    }

    fn record_value(&mut self, metric: u32, value: f64) -> Result<()> {
        self.enter()?;
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).record(metric, value);
        Ok(())
    }
}
