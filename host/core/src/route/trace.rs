//! What routing one message came to, in a form small enough to keep for thousands of messages.
//!
//! Written while routes are evaluated; [`super::table::RouteTable::explain`] turns it into words. It
//! holds node numbers and short values, no text of routes, and belongs to the table that wrote it.

use compact_str::CompactString;
use smallvec::SmallVec;

use super::eval::Witnesses;
use super::facts::Source;
use super::program::NodeIndex;
use super::value::Truth;

/// Record of one message's way through a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// [`super::table::RouteTable::id`] of the table that wrote it.
    pub(crate) table: u64,
    /// One for each route of the table, in its order.
    pub(crate) steps: SmallVec<[Step; 4]>,
    /// Of all routes, in their order.
    pub(crate) witnesses: Witnesses,
    /// Kept when a route did not take the message because of its source.
    pub(crate) source: Option<SourceSeen>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) outcome: Outcome,
    /// How many of the witnesses are this route's.
    pub(crate) witnesses: u8,
    /// The deciding node of the condition.
    pub(crate) node: NodeIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The route has no condition, and its source fits.
    Unconditional,
    SourceDiffers,
    Condition(Truth),
}

impl Outcome {
    pub(crate) fn truth(self) -> Truth {
        match self {
            Outcome::Unconditional => Truth::True,
            Outcome::SourceDiffers => Truth::False,
            Outcome::Condition(truth) => truth,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SourceSeen {
    TwinChange,
    Device,
    Module { module: CompactString, output: Option<CompactString> },
    Path(CompactString),
}

impl SourceSeen {
    pub(crate) fn of(source: Source<'_>) -> Self {
        match source {
            Source::TwinChange => SourceSeen::TwinChange,
            Source::Device => SourceSeen::Device,
            Source::Module { module, output } => {
                SourceSeen::Module { module: module.into(), output: output.map(Into::into) }
            }
            Source::Path(path) => SourceSeen::Path(path.into()),
        }
    }

    pub(crate) fn as_source(&self) -> Source<'_> {
        match self {
            SourceSeen::TwinChange => Source::TwinChange,
            SourceSeen::Device => Source::Device,
            SourceSeen::Module { module, output } => {
                Source::Module { module, output: output.as_deref() }
            }
            SourceSeen::Path(path) => Source::Path(path),
        }
    }
}

impl Trace {
    /// Identity of the table that wrote this trace, and can explain it.
    pub fn table(&self) -> u64 {
        self.table
    }

    /// Add a route's step; its witnesses are those from `before` on.
    pub(crate) fn record(&mut self, outcome: Outcome, node: NodeIndex, before: usize) {
        let witnesses = u8::try_from(self.witnesses.len() - before).unwrap_or(0);
        self.steps.push(Step { outcome, witnesses, node });
    }

    pub(crate) fn clear(&mut self, table: u64) {
        self.table = table;
        self.steps.clear();
        self.witnesses.clear();
        self.source = None;
    }
}
