//! Evaluation of a compiled condition on a message, and the sub-expression that decided it.
//!
//! Both use [`Evaluation::value`], so an explanation cannot say anything else than the decision. It
//! never panics and never fails; a property comparison allocates nothing.

use std::cell::OnceCell;

use compact_str::CompactString;
use smallvec::SmallVec;

use super::ast::Literal;
use super::body::{self, BodyProblem, BodyValue, BodyValues};
use super::facts::Facts;
use super::functions::Args;
use super::json_path::{BodyPlan, Slot};
use super::program::{Node, NodeIndex, Program};
use super::value::{Truth, Value, calculate, compare};

/// One message under evaluation; its body is read at most once, however many routes query it.
pub(crate) struct Evaluation<'e, F: ?Sized> {
    facts: &'e F,
    plan: &'e BodyPlan,
    body: OnceCell<Result<BodyValues, BodyProblem>>,
}

/// A value that was seen in a sub-expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Witness {
    pub(crate) node: NodeIndex,
    pub(crate) seen: Seen,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// The property does not exist.
    NotSet,
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(CompactString),
    /// The first bytes of a longer text.
    LongText(CompactString),
    /// Nothing stands at the body path.
    Missing,
    /// An object or a list stands at the body path.
    Structure,
    Date,
    Unreadable(BodyProblem),
}

/// Values that are kept of one condition.
pub(crate) const MAX_WITNESSES: usize = 2;
/// A longer text is cut in a witness: enough to recognise it.
const MAX_WITNESS_BYTES: usize = 64;

pub(crate) type Witnesses = SmallVec<[Witness; MAX_WITNESSES]>;

impl<'e, F: Facts + ?Sized> Evaluation<'e, F> {
    pub(crate) fn new(facts: &'e F, plan: &'e BodyPlan) -> Self {
        Self { facts, plan, body: OnceCell::new() }
    }

    pub(crate) fn truth(&'e self, program: &'e Program) -> Truth {
        self.value(program, program.root()).truth()
    }

    fn value(&'e self, program: &'e Program, index: NodeIndex) -> Value<'e> {
        match program.node(index) {
            Node::Literal(literal) => literal_value(literal),
            Node::Property(name) => Value::from_lookup(self.facts.property(name)),
            Node::Dollar(name) => match Value::from_lookup(self.facts.property(name)) {
                Value::Undefined => Value::from_lookup(self.facts.system_property(&name[1..])),
                value => value,
            },
            Node::System(name) => Value::from_lookup(self.facts.system_property(name)),
            Node::Body { slot, hidden_by } => {
                match hidden_by.as_ref().map(|name| Value::from_lookup(self.facts.property(name))) {
                    None | Some(Value::Undefined) => self.body_value(*slot),
                    Some(value) => value,
                }
            }
            Node::TwinIncludes(slot) => match self.body() {
                Ok(values) => Value::Bool(values[*slot] != BodyValue::Missing),
                Err(_) => Value::Undefined,
            },
            Node::Negate(operand) => match self.value(program, *operand) {
                Value::Number(value) => Value::Number(-value),
                _ => Value::Undefined,
            },
            Node::AsBool(operand) => match self.value(program, *operand) {
                value @ Value::Bool(_) => value,
                _ => Value::Undefined,
            },
            Node::Not(operand) => match self.value(program, *operand) {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Undefined,
            },
            Node::Calculate { op, left, right } => {
                calculate(*op, &self.value(program, *left), &self.value(program, *right))
            }
            Node::Compare { op, left, right, dynamic } => {
                let (left, right) = (self.value(program, *left), self.value(program, *right));
                compare(*op, &left, &right, *dynamic).into()
            }
            Node::And(operands) => self.logic(program, operands, Value::Bool(false)),
            Node::Or(operands) => self.logic(program, operands, Value::Bool(true)),
            Node::Coalesce(left, right) => match self.value(program, *left) {
                Value::Undefined => self.value(program, *right),
                value => value,
            },
            Node::Call { function, args, dynamic } => {
                let args: Args<'_> = args.iter().map(|arg| self.value(program, *arg)).collect();
                function.call(&args, *dynamic)
            }
        }
    }

    /// AND is false as soon as one operand is, OR true; else one undefined operand makes it so.
    fn logic(
        &'e self,
        program: &'e Program,
        operands: &[NodeIndex],
        decisive: Value<'e>,
    ) -> Value<'e> {
        let mut undefined = false;
        for operand in operands {
            let value = self.value(program, *operand);
            if value == decisive {
                return decisive;
            }
            undefined |= value == Value::Undefined;
        }
        match decisive {
            _ if undefined => Value::Undefined,
            Value::Bool(decisive) => Value::Bool(!decisive),
            _ => Value::Undefined,
        }
    }

    fn body(&self) -> &Result<BodyValues, BodyProblem> {
        self.body.get_or_init(|| body::read(self.facts, self.plan))
    }

    fn body_value(&'e self, slot: Slot) -> Value<'e> {
        match self.body().as_ref().map(|values| &values[slot]) {
            Ok(BodyValue::Missing | BodyValue::Null) => Value::Null,
            Ok(BodyValue::Bool(value)) => Value::Bool(*value),
            Ok(BodyValue::Number(value)) => Value::number(*value),
            Ok(BodyValue::Text(text)) => Value::Text(text.as_str().into()),
            Ok(BodyValue::Structure | BodyValue::Date) | Err(_) => Value::Undefined,
        }
    }

    /// The first sub-expression that made the condition what it is, which is `truth`, and the values
    /// seen in it: at most [`MAX_WITNESSES`] are added to `seen`.
    pub(crate) fn decide(
        &'e self,
        program: &'e Program,
        truth: Truth,
        seen: &mut Witnesses,
    ) -> NodeIndex {
        let mut seen = Gathered { before: seen.len(), all: seen };
        self.decide_at(program, program.root(), truth, &mut seen)
    }

    fn decide_at(
        &'e self,
        program: &'e Program,
        index: NodeIndex,
        truth: Truth,
        seen: &mut Gathered<'_>,
    ) -> NodeIndex {
        match program.node(index) {
            // All operands are alike: the whole expression decides.
            Node::And(operands) if truth == Truth::True => {
                self.decide_all(program, operands, truth, seen);
                index
            }
            Node::Or(operands) if truth == Truth::False => {
                self.decide_all(program, operands, truth, seen);
                index
            }
            Node::And(operands) | Node::Or(operands) => {
                let alike = |o: &&NodeIndex| self.value(program, **o).truth() == truth;
                let deciding = operands.iter().find(alike);
                deciding.map_or(index, |o| self.decide_at(program, *o, truth, seen))
            }
            Node::AsBool(operand) => self.decide_at(program, *operand, truth, seen),
            Node::Not(operand) => {
                let inner = match truth {
                    Truth::True => Truth::False,
                    Truth::False => Truth::True,
                    Truth::Undefined => Truth::Undefined,
                };
                self.decide_at(program, *operand, inner, seen);
                index
            }
            Node::Compare { left, right, .. } => {
                self.witness(program, *left, seen);
                self.witness(program, *right, seen);
                index
            }
            Node::Call { args, .. } => {
                for arg in args {
                    self.witness(program, *arg, seen);
                }
                index
            }
            _ => {
                self.witness(program, index, seen);
                index
            }
        }
    }

    fn decide_all(
        &'e self,
        program: &'e Program,
        operands: &[NodeIndex],
        truth: Truth,
        seen: &mut Gathered<'_>,
    ) {
        for operand in operands {
            if seen.is_full() {
                return;
            }
            self.decide_at(program, *operand, truth, seen);
        }
    }

    /// Keep the value of an operand; where that is undefined, the values that it is made of.
    fn witness(&'e self, program: &'e Program, index: NodeIndex, seen: &mut Gathered<'_>) {
        if seen.is_full() || seen.has(index) {
            return;
        }
        let pair;
        let parts: &[NodeIndex] = match program.node(index) {
            Node::Literal(_) | Node::TwinIncludes(_) => return,
            Node::Property(_) | Node::Dollar(_) | Node::System(_) | Node::Body { .. } => &[],
            Node::Negate(operand) | Node::AsBool(operand) | Node::Not(operand) => {
                std::slice::from_ref(operand)
            }
            Node::Calculate { left, right, .. }
            | Node::Compare { left, right, .. }
            | Node::Coalesce(left, right) => {
                pair = [*left, *right];
                &pair
            }
            Node::And(parts) | Node::Or(parts) | Node::Call { args: parts, .. } => parts,
        };
        let value = self.value(program, index);
        if value == Value::Undefined && !parts.is_empty() {
            for part in parts {
                self.witness(program, *part, seen);
            }
            return;
        }
        let kind = self.seen(program.node(index), value);
        seen.all.push(Witness { node: index, seen: kind });
    }

    fn seen(&self, node: &Node, value: Value<'_>) -> Seen {
        match (node, value) {
            (_, Value::Bool(value)) => Seen::Bool(value),
            (_, Value::Number(value)) => Seen::Number(value),
            (_, Value::Text(text)) if text.len() <= MAX_WITNESS_BYTES => {
                Seen::Text(text.as_ref().into())
            }
            (_, Value::Text(text)) => {
                let end = text.floor_char_boundary(MAX_WITNESS_BYTES);
                Seen::LongText(text[..end].into())
            }
            (Node::Body { slot, .. }, Value::Null | Value::Undefined) => match self.body() {
                Err(problem) => Seen::Unreadable(*problem),
                Ok(values) => match values[*slot] {
                    BodyValue::Missing => Seen::Missing,
                    BodyValue::Structure => Seen::Structure,
                    BodyValue::Date => Seen::Date,
                    _ => Seen::Null,
                },
            },
            (_, Value::Null | Value::NullText) => Seen::Null,
            (Node::Property(_) | Node::Dollar(_) | Node::System(_), Value::Undefined) => {
                Seen::NotSet
            }
            (_, Value::Undefined) => Seen::Undefined,
        }
    }
}

/// The witnesses of one condition behind those of others.
struct Gathered<'w> {
    all: &'w mut Witnesses,
    before: usize,
}

impl Gathered<'_> {
    fn is_full(&self) -> bool {
        self.all.len() - self.before >= MAX_WITNESSES
    }

    fn has(&self, node: NodeIndex) -> bool {
        self.all[self.before..].iter().any(|known| known.node == node)
    }
}

fn literal_value(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Undefined => Value::Undefined,
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Number(value) => Value::number(*value),
        Literal::Text(text) => Value::Text(text.as_str().into()),
    }
}
