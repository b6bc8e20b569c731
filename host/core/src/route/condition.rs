//! A condition alone, compiled: what a route test evaluates.

use super::compile;
use super::error::ParseError;
use super::eval::{Evaluation, Witnesses};
use super::explain::{self, ConditionText, ConditionVerdict};
use super::facts::Facts;
use super::json_path::BodyPlan;
use super::parse;
use super::program::{CompileOptions, Program};
use super::trace::Outcome;
use super::value::Truth;

/// A condition with checked types.
#[derive(Debug, Clone)]
pub struct Condition {
    text: String,
    program: Program,
    plan: BodyPlan,
}

impl Condition {
    /// # Errors
    /// The first place that does not follow the grammar, or whose types do not go together.
    pub fn compile(text: &str, options: CompileOptions) -> Result<Self, ParseError> {
        let expr = parse::condition(text)?;
        let mut plan = BodyPlan::default();
        let program = compile::compile(&expr, text, options, &mut plan)?;
        Ok(Self { text: text.to_owned(), program, plan })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The condition on a message; it passes only on `True`.
    pub fn evaluate<F: Facts + ?Sized>(&self, facts: &F) -> Truth {
        Evaluation::new(facts, &self.plan).truth(&self.program)
    }

    /// The same result as [`Condition::evaluate`], with what decided it.
    pub fn explain<F: Facts + ?Sized>(&self, facts: &F) -> ConditionVerdict {
        let evaluation = Evaluation::new(facts, &self.plan);
        let result = evaluation.truth(&self.program);
        let mut witnesses = Witnesses::new();
        let node = evaluation.decide(&self.program, result, &mut witnesses);
        let text = ConditionText { text: &self.text, start: 0 };
        let reason = explain::condition_reason(&self.program, text, node, &witnesses);
        let text = explain::words(Outcome::Condition(result), &reason);
        ConditionVerdict { result, reason, text }
    }
}
