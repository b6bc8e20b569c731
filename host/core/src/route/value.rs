//! Values of conditions and how they compare.
//!
//! Every value may be undefined, which passes through everything but `is_defined` and the
//! three-valued logic. Not-a-number is undefined.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::ast::BinaryOp;
use super::facts::Lookup;
use super::strings;

/// Result of a condition. A message passes only on `True`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    True,
    False,
    Undefined,
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Truth::True => "true",
            Truth::False => "false",
            Truth::Undefined => "undefined",
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'v> {
    Undefined,
    Null,
    Bool(bool),
    /// Never not-a-number: use [`Value::number`].
    Number(f64),
    Text(Cow<'v, str>),
    /// A property that is there without a value: of the type of texts, defined, and null.
    NullText,
}

impl<'v> Value<'v> {
    pub(crate) fn number(value: f64) -> Self {
        if value.is_nan() { Value::Undefined } else { Value::Number(value) }
    }

    pub(crate) fn from_lookup(lookup: Lookup<'v>) -> Self {
        match lookup {
            Lookup::Absent => Value::Undefined,
            Lookup::Null => Value::NullText,
            Lookup::Text(text) => Value::Text(text),
        }
    }

    pub(crate) fn truth(&self) -> Truth {
        match self {
            Value::Bool(true) => Truth::True,
            // A condition that is null as a whole counts as false.
            Value::Bool(false) | Value::Null => Truth::False,
            Value::Undefined | Value::Number(_) | Value::Text(_) | Value::NullText => {
                Truth::Undefined
            }
        }
    }

    /// Order of types among body values: different types are never equal.
    fn rank(&self) -> u8 {
        match self {
            Value::Undefined => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::Text(_) | Value::NullText => 3,
            Value::Null => 4,
        }
    }
}

/// Compare two values; `dynamic` when one of them comes from a body.
///
/// Values of static type have the same type here, and a null property compares as undefined. Body
/// values of different types are ordered by type, and a null text is the least of texts.
pub(crate) fn compare(op: BinaryOp, left: &Value<'_>, right: &Value<'_>, dynamic: bool) -> Truth {
    let ordering = match (left, right) {
        (Value::Undefined, _) | (_, Value::Undefined) => return Truth::Undefined,
        (Value::NullText, _) | (_, Value::NullText) if !dynamic => return Truth::Undefined,
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => match a.partial_cmp(b) {
            Some(ordering) => ordering,
            None => return Truth::Undefined,
        },
        (Value::Text(a), Value::Text(b)) => strings::compare(a, b),
        (Value::NullText, Value::Text(_)) => Ordering::Less,
        (Value::Text(_), Value::NullText) => Ordering::Greater,
        (a, b) => a.rank().cmp(&b.rank()),
    };
    let holds = match op {
        BinaryOp::Equal => ordering.is_eq(),
        BinaryOp::NotEqual => ordering.is_ne(),
        BinaryOp::Less => ordering.is_lt(),
        BinaryOp::LessOrEqual => ordering.is_le(),
        BinaryOp::Greater => ordering.is_gt(),
        BinaryOp::GreaterOrEqual => ordering.is_ge(),
        BinaryOp::Multiply
        | BinaryOp::Divide
        | BinaryOp::Modulo
        | BinaryOp::Add
        | BinaryOp::Subtract
        | BinaryOp::Concat
        | BinaryOp::Coalesce => return Truth::Undefined,
    };
    if holds { Truth::True } else { Truth::False }
}

/// Arithmetic; anything but two numbers gives undefined.
pub(crate) fn calculate<'v>(op: BinaryOp, left: &Value<'_>, right: &Value<'_>) -> Value<'v> {
    let (Value::Number(a), Value::Number(b)) = (left, right) else { return Value::Undefined };
    Value::number(match op {
        BinaryOp::Multiply => a * b,
        BinaryOp::Divide => a / b,
        BinaryOp::Modulo => a % b,
        BinaryOp::Add => a + b,
        BinaryOp::Subtract => a - b,
        BinaryOp::Concat
        | BinaryOp::Coalesce
        | BinaryOp::Less
        | BinaryOp::LessOrEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterOrEqual
        | BinaryOp::Equal
        | BinaryOp::NotEqual => return Value::Undefined,
    })
}

impl From<Truth> for Value<'_> {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Value::Bool(true),
            Truth::False => Value::Bool(false),
            Truth::Undefined => Value::Undefined,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn body_values_of_different_types_are_ordered_by_type() {
        let ladder =
            [Value::Bool(true), Value::Number(0.0), Value::NullText, text(""), Value::Null];
        for (i, low) in ladder.iter().enumerate() {
            for (j, high) in ladder.iter().enumerate() {
                let expected = if i < j { Truth::True } else { Truth::False };
                assert_eq!(compare(BinaryOp::Less, low, high, true), expected, "{low:?} {high:?}");
            }
        }
    }

    #[test]
    fn a_null_property_compares_as_undefined_with_a_text() {
        let null = Value::NullText;
        assert_eq!(compare(BinaryOp::Equal, &null, &null, false), Truth::Undefined);
        assert_eq!(compare(BinaryOp::NotEqual, &text("a"), &null, false), Truth::Undefined);
        assert_eq!(compare(BinaryOp::NotEqual, &text("a"), &null, true), Truth::True);
    }
}
