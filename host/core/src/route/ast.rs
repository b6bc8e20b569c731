//! The parsed form of a condition, before types are known.

use super::error::Span;

/// A condition or a part of one. Two are equal when they mean the same, wherever they stand.
#[derive(Debug, Clone)]
pub struct Expr {
    pub kind: ExprKind,
    /// The whole expression.
    pub span: Span,
    /// Levels of expressions, this one included.
    pub(crate) height: u16,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Literal(Literal),
    /// `name`: application property.
    Property(String),
    /// `$name`, with the `$`: application property of that very name, else body query or system
    /// property.
    Dollar(String),
    /// `{$name}`, with the `$`: body query or system property.
    Braced(String),
    Call {
        name: String,
        place: Place,
        args: Vec<Expr>,
    },
    Negate(Box<Expr>),
    Not(Box<Expr>),
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// Two or more operands; the first is not itself an `And`.
    And(Vec<Expr>),
    /// Two or more operands; the first is not itself an `Or`.
    Or(Vec<Expr>),
}

/// Where a name stands; it has no part in what an expression means, so all places are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place(pub Span);

impl PartialEq for Place {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    Multiply,
    Divide,
    Modulo,
    Add,
    Subtract,
    Concat,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Coalesce,
}

/// How tightly an operator holds its operands; more is tighter. All associate to the left.
pub(crate) mod binding {
    pub(crate) const COALESCE: u8 = 1;
    pub(crate) const OR: u8 = 2;
    pub(crate) const AND: u8 = 3;
    pub(crate) const EQUALITY: u8 = 4;
    pub(crate) const COMPARE: u8 = 5;
    pub(crate) const ADD: u8 = 6;
    pub(crate) const MULTIPLY: u8 = 7;
    /// `NOT` binds tighter than comparison: `NOT a = b` is `(NOT a) = b`, as in the original.
    pub(crate) const NOT: u8 = 8;
    pub(crate) const NEGATE: u8 = 9;
    pub(crate) const PRIMARY: u8 = 10;
}

impl BinaryOp {
    pub(crate) fn binding(self) -> u8 {
        match self {
            BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Modulo => binding::MULTIPLY,
            BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Concat => binding::ADD,
            BinaryOp::Less
            | BinaryOp::LessOrEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterOrEqual => binding::COMPARE,
            BinaryOp::Equal | BinaryOp::NotEqual => binding::EQUALITY,
            BinaryOp::Coalesce => binding::COALESCE,
        }
    }

    pub(crate) fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Multiply => "*",
            BinaryOp::Divide => "/",
            BinaryOp::Modulo => "%",
            BinaryOp::Add => "+",
            BinaryOp::Subtract => "-",
            BinaryOp::Concat => "||",
            BinaryOp::Less => "<",
            BinaryOp::LessOrEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterOrEqual => ">=",
            BinaryOp::Equal => "=",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Coalesce => "??",
        }
    }
}

impl Expr {
    pub(crate) fn new(kind: ExprKind, span: Span) -> Self {
        let highest = |exprs: &[Expr]| exprs.iter().map(|e| e.height).max().unwrap_or(0);
        let below = match &kind {
            ExprKind::Literal(_)
            | ExprKind::Property(_)
            | ExprKind::Dollar(_)
            | ExprKind::Braced(_) => 0,
            ExprKind::Call { args, .. } => highest(args),
            ExprKind::Negate(operand) | ExprKind::Not(operand) => operand.height,
            ExprKind::Binary { left, right, .. } => left.height.max(right.height),
            ExprKind::And(operands) | ExprKind::Or(operands) => highest(operands),
        };
        Self { kind, span, height: below.saturating_add(1) }
    }

    /// `left AND right`; a chain becomes one expression, so that long ones are not deep.
    pub fn and(left: Expr, right: Expr) -> Expr {
        let span = left.span.to(right.span);
        let operands = match left.kind {
            ExprKind::And(mut operands) => {
                operands.push(right);
                operands
            }
            _ => vec![left, right],
        };
        Expr::new(ExprKind::And(operands), span)
    }

    /// `left OR right`, as [`Expr::and`].
    pub fn or(left: Expr, right: Expr) -> Expr {
        let span = left.span.to(right.span);
        let operands = match left.kind {
            ExprKind::Or(mut operands) => {
                operands.push(right);
                operands
            }
            _ => vec![left, right],
        };
        Expr::new(ExprKind::Or(operands), span)
    }

    pub(crate) fn binding(&self) -> u8 {
        match &self.kind {
            ExprKind::Literal(_)
            | ExprKind::Property(_)
            | ExprKind::Dollar(_)
            | ExprKind::Braced(_)
            | ExprKind::Call { .. } => binding::PRIMARY,
            ExprKind::Negate(_) => binding::NEGATE,
            ExprKind::Not(_) => binding::NOT,
            ExprKind::Binary { op, .. } => op.binding(),
            ExprKind::And(_) => binding::AND,
            ExprKind::Or(_) => binding::OR,
        }
    }
}
