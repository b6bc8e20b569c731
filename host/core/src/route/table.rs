//! The table of all routes: which endpoints a message goes to, and why.
//!
//! Immutable; a changed set of routes is a new table. [`RouteTable::select`] is on the path of every
//! message: it allocates nothing for up to four endpoints. A selection and its explanation come from
//! one run.

use std::collections::BTreeSet;
use std::time::Duration;

use smallvec::SmallVec;

use super::compile;
use super::error::ParseError;
use super::eval::Evaluation;
use super::explain::{self, ConditionText, Reason, RouteVerdict};
use super::facts::{Facts, Source};
use super::json_path::BodyPlan;
use super::priority::Priority;
use super::program::{CompileOptions, Program};
use super::sink::Sink;
use super::statement::Route;
use super::trace::{Outcome, SourceSeen, Trace};
use super::value::Truth;
use super::{MAX_ROUTES, program};

/// A route with its name and delivery settings.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRoute {
    pub name: String,
    pub route: Route,
    pub priority: Priority,
    /// How long a message may wait; `None` for the hub's own setting.
    pub time_to_live: Option<Duration>,
}

/// Number of an endpoint in a table: an index into [`RouteTable::sinks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkIndex(pub u16);

/// One copy of a message to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub sink: SinkIndex,
    pub priority: Priority,
    pub time_to_live: Option<Duration>,
    /// The route that decided priority and time to live: an index into [`RouteTable::routes`].
    pub route: u16,
}

/// The endpoints that get a message, each once.
pub type Selection = SmallVec<[Target; 4]>;

/// All that is wrong with a set of routes; none of them is used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} of the routes cannot be used", errors.len())]
pub struct TableError {
    /// By name of the route.
    pub errors: Vec<(String, RouteError)>,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RouteError {
    #[error(transparent)]
    Text(#[from] ParseError),
    #[error("there are two routes of this name")]
    DuplicateName,
    #[error("there are more than {MAX_ROUTES} routes")]
    TooMany,
}

#[derive(Debug)]
pub struct RouteTable {
    id: u64,
    entries: Vec<Entry>,
    sinks: Vec<Sink>,
    plan: BodyPlan,
}

#[derive(Debug)]
struct Entry {
    named: NamedRoute,
    /// `None` where every message from the source is taken.
    program: Option<Program>,
    sink: SinkIndex,
}

impl RouteTable {
    /// Check and compile a set of routes. Their order has no meaning; the table sorts them by name.
    ///
    /// # Errors
    /// Every route that cannot be used; the set is refused as a whole.
    pub fn build(
        routes: impl IntoIterator<Item = NamedRoute>,
        options: CompileOptions,
    ) -> Result<Self, TableError> {
        let mut routes: Vec<NamedRoute> = routes.into_iter().collect();
        routes.sort_by(|a, b| a.name.cmp(&b.name));
        let sinks: BTreeSet<&Sink> = routes.iter().map(|named| named.route.sink()).collect();
        let sinks: Vec<Sink> = sinks.into_iter().cloned().collect();
        let mut errors = Vec::new();
        if routes.len() > MAX_ROUTES {
            errors.push((routes[MAX_ROUTES].name.clone(), RouteError::TooMany));
            routes.truncate(MAX_ROUTES);
        }
        let mut plan = BodyPlan::default();
        let mut entries: Vec<Entry> = Vec::with_capacity(routes.len());
        for named in routes {
            if entries.last().is_some_and(|last| last.named.name == named.name) {
                errors.push((named.name, RouteError::DuplicateName));
                continue;
            }
            let compile = |expr| compile::compile(expr, named.route.text(), options, &mut plan);
            let program = match named.route.condition().map(compile).transpose() {
                Ok(program) => program,
                Err(error) => {
                    errors.push((named.name.clone(), error.into()));
                    None
                }
            };
            let sink = sinks.iter().position(|sink| sink == named.route.sink());
            let sink = sink.and_then(|index| u16::try_from(index).ok()).unwrap_or(u16::MAX);
            entries.push(Entry { named, program, sink: SinkIndex(sink) });
        }
        if !errors.is_empty() {
            return Err(TableError { errors });
        }
        Ok(Self { id: identity(&entries), entries, sinks, plan })
    }

    /// A table without routes: every message is accepted and goes nowhere.
    pub fn empty() -> Self {
        Self {
            id: identity(&[]),
            entries: Vec::new(),
            sinks: Vec::new(),
            plan: BodyPlan::default(),
        }
    }

    /// Identity of the table's content; equal routes and settings give an equal one.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Routes in the order of their names.
    pub fn routes(&self) -> impl ExactSizeIterator<Item = &NamedRoute> {
        self.entries.iter().map(|entry| &entry.named)
    }

    /// Endpoints that some route leads to, each once; a [`SinkIndex`] counts them.
    pub fn sinks(&self) -> &[Sink] {
        &self.sinks
    }

    pub fn sink(&self, index: SinkIndex) -> Option<&Sink> {
        self.sinks.get(usize::from(index.0))
    }

    /// The endpoints that get this message: one copy each, however many routes lead there; the
    /// lowest priority number decides priority and time to live (of equal ones the first name).
    pub fn select<F: Facts + ?Sized>(&self, facts: &F) -> Selection {
        self.run(facts, None)
    }

    /// As [`RouteTable::select`], and write into `trace` what [`RouteTable::explain`] needs.
    pub fn select_traced<F: Facts + ?Sized>(&self, facts: &F, trace: &mut Trace) -> Selection {
        trace.clear(self.id);
        self.run(facts, Some(trace))
    }

    fn run<F: Facts + ?Sized>(&self, facts: &F, mut trace: Option<&mut Trace>) -> Selection {
        let mut selection = Selection::new();
        let source = facts.source();
        let evaluation = Evaluation::new(facts, &self.plan);
        for (index, entry) in self.entries.iter().enumerate() {
            let outcome = entry.outcome(source, &evaluation);
            if let Some(trace) = trace.as_deref_mut() {
                entry.trace(outcome, source, &evaluation, trace);
            }
            if outcome.truth() == Truth::True {
                entry.add_to(&mut selection, index);
            }
        }
        selection
    }

    /// What every route did with the message that `trace` was written for, in words and values.
    ///
    /// `None` when the trace was written by another table.
    pub fn explain(&self, trace: &Trace) -> Option<Vec<RouteVerdict>> {
        if trace.table != self.id || trace.steps.len() != self.entries.len() {
            return None;
        }
        let mut witnesses = trace.witnesses.as_slice();
        let mut verdicts = Vec::with_capacity(self.entries.len());
        for (entry, step) in self.entries.iter().zip(&trace.steps) {
            let (own, rest) = witnesses.split_at_checked(usize::from(step.witnesses))?;
            witnesses = rest;
            let reason = match (&entry.program, step.outcome) {
                (Some(program), Outcome::Condition(_)) => {
                    explain::condition_reason(program, entry.condition_text(), step.node, own)
                }
                (_, Outcome::SourceDiffers) => Reason::SourceDiffers {
                    expected: entry.named.route.source().to_string(),
                    actual: trace.source.as_ref()?.as_source().to_string(),
                },
                _ => Reason::Unconditional { source: entry.named.route.source().to_string() },
            };
            verdicts.push(RouteVerdict {
                name: entry.named.name.clone(),
                route: entry.named.route.text().to_owned(),
                sink: entry.named.route.sink().to_string(),
                matched: step.outcome.truth(),
                text: explain::words(step.outcome, &reason),
                reason,
            });
        }
        Some(verdicts)
    }
}

impl Entry {
    fn outcome<F: Facts + ?Sized>(
        &self,
        source: Source<'_>,
        evaluation: &Evaluation<'_, F>,
    ) -> Outcome {
        if !self.named.route.source().matches(source) {
            return Outcome::SourceDiffers;
        }
        match &self.program {
            None => Outcome::Unconditional,
            Some(program) => Outcome::Condition(evaluation.truth(program)),
        }
    }

    fn trace<F: Facts + ?Sized>(
        &self,
        outcome: Outcome,
        source: Source<'_>,
        evaluation: &Evaluation<'_, F>,
        trace: &mut Trace,
    ) {
        let before = trace.witnesses.len();
        let mut node: program::NodeIndex = 0;
        match (outcome, &self.program) {
            (Outcome::Condition(truth), Some(program)) => {
                node = evaluation.decide(program, truth, &mut trace.witnesses);
            }
            (Outcome::SourceDiffers, _) if trace.source.is_none() => {
                trace.source = Some(SourceSeen::of(source));
            }
            _ => {}
        }
        trace.record(outcome, node, before);
    }

    fn add_to(&self, selection: &mut Selection, index: usize) {
        let target = Target {
            sink: self.sink,
            priority: self.named.priority,
            time_to_live: self.named.time_to_live,
            route: u16::try_from(index).unwrap_or(u16::MAX),
        };
        match selection.iter_mut().find(|known| known.sink == self.sink) {
            Some(known) if target.priority < known.priority => *known = target,
            Some(_) => {}
            None => selection.push(target),
        }
    }

    fn condition_text(&self) -> ConditionText<'_> {
        let start = self.named.route.condition().map_or(0, |expr| expr.span.start());
        ConditionText { text: self.named.route.text(), start }
    }
}

/// FNV-1a over all that the table's decisions and explanations depend on.
fn identity(entries: &[Entry]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut mix = |bytes: &[u8]| {
        for byte in bytes.iter().chain([&0xFF]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for Entry { named, .. } in entries {
        mix(named.name.as_bytes());
        mix(named.route.text().as_bytes());
        mix(&named.priority.get().to_le_bytes());
        mix(&named.time_to_live.map_or(0, |ttl| ttl.as_secs()).to_le_bytes());
    }
    hash
}
