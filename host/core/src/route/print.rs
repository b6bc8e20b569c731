//! Canonical text of conditions: keywords in capitals, as few parentheses as mean the same.
//!
//! Law (tested): parsing what is printed gives the same expression.

use std::fmt::{self, Display, Formatter};

use super::ast::{BinaryOp, Expr, ExprKind, Literal, binding};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Literal(literal) => literal.fmt(f),
            ExprKind::Property(name) | ExprKind::Dollar(name) => f.write_str(name),
            ExprKind::Braced(name) => write!(f, "{{{name}}}"),
            ExprKind::Call { name, args, .. } => {
                write!(f, "{}(", name.to_ascii_lowercase())?;
                list(f, args, ", ", 0)?;
                f.write_str(")")
            }
            // The space keeps `- x` from being the name `-x`.
            ExprKind::Negate(operand) => {
                f.write_str("- ")?;
                part(f, operand, binding::NEGATE)
            }
            ExprKind::Not(operand) => {
                f.write_str("NOT ")?;
                part(f, operand, binding::NOT)
            }
            ExprKind::Binary { op, left, right } => {
                part(f, left, op.binding())?;
                write!(f, " {} ", op.symbol())?;
                part(f, right, op.binding() + 1)
            }
            ExprKind::And(operands) => list(f, operands, " AND ", binding::AND + 1),
            ExprKind::Or(operands) => list(f, operands, " OR ", binding::OR + 1),
        }
    }
}

fn list(f: &mut Formatter<'_>, parts: &[Expr], between: &str, least: u8) -> fmt::Result {
    for (i, expr) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        part(f, expr, least)?;
    }
    Ok(())
}

fn part(f: &mut Formatter<'_>, expr: &Expr, least: u8) -> fmt::Result {
    if expr.binding() < least { write!(f, "({expr})") } else { expr.fmt(f) }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Undefined => f.write_str("undefined"),
            Literal::Null => f.write_str("null"),
            Literal::Bool(value) => value.fmt(f),
            // The language has no word for infinity; such a number comes from `1e999`.
            Literal::Number(value) if value.is_infinite() => {
                f.write_str(if *value > 0.0 { "1e999" } else { "-1e999" })
            }
            Literal::Number(value) => value.fmt(f),
            Literal::Text(text) => quoted(f, text),
        }
    }
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("'")?;
    let mut last = '\0';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => f.write_str("\\'")?,
            // `\\u0041` would be read as `\A`: the reader looks for `\uXXXX` first.
            '\\' if matches!(chars.peek(), Some('u' | 'U')) => f.write_str("\\u005C\\u005C")?,
            '\\' => f.write_str("\\\\")?,
            // `*/` would end a comment that a source `/*` seems to begin.
            '/' if last == '*' => f.write_str("\\u002F")?,
            _ => write!(f, "{c}")?,
        }
        last = c;
    }
    f.write_str("'")
}
