//! Functions of conditions: names, arguments and results.
//!
//! A function of an undefined argument is undefined, but for those that ask for types.

use smallvec::SmallVec;

use super::compile::Type;
use super::strings;
use super::suggest;
use super::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Exp,
    Power,
    Square,
    Ceiling,
    Floor,
    Sign,
    Sqrt,
    AsNumber,
    IsBool,
    IsDefined,
    IsNull,
    IsNumber,
    IsString,
    Concat,
    Length,
    Lower,
    Upper,
    Substring,
    IndexOf,
    StartsWith,
    EndsWith,
    Contains,
}

/// Its argument is a path and not an expression, so it is compiled apart.
pub(crate) const TWIN_CHANGE_INCLUDES: &str = "twin_change_includes";

const NAMES: [(&str, Function); 23] = [
    ("abs", Function::Abs),
    ("exp", Function::Exp),
    ("power", Function::Power),
    ("square", Function::Square),
    ("ceiling", Function::Ceiling),
    ("floor", Function::Floor),
    ("sign", Function::Sign),
    ("sqrt", Function::Sqrt),
    ("as_number", Function::AsNumber),
    ("is_bool", Function::IsBool),
    ("is_defined", Function::IsDefined),
    ("is_null", Function::IsNull),
    ("is_number", Function::IsNumber),
    ("is_string", Function::IsString),
    ("concat", Function::Concat),
    ("length", Function::Length),
    ("lower", Function::Lower),
    ("upper", Function::Upper),
    ("substring", Function::Substring),
    ("index_of", Function::IndexOf),
    ("starts_with", Function::StartsWith),
    ("ends_with", Function::EndsWith),
    ("contains", Function::Contains),
];

/// What a function takes and gives.
pub(crate) struct Signature {
    pub(crate) shown: &'static str,
    pub(crate) result: Type,
    /// Types of the arguments; `None` takes any.
    args: &'static [Option<Type>],
    least: usize,
    /// The last argument may be repeated.
    variadic: bool,
}

impl Signature {
    pub(crate) fn takes(&self, count: usize) -> bool {
        count >= self.least && (self.variadic || count <= self.args.len())
    }

    /// The type wanted at a place; `None` for any.
    pub(crate) fn argument(&self, place: usize) -> Option<Type> {
        self.args.get(place).or(self.args.last()).copied().flatten()
    }
}

impl Function {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(n, _)| name.eq_ignore_ascii_case(n)).map(|(_, function)| *function)
    }

    pub(crate) fn closest(name: &str) -> Option<&'static str> {
        suggest::closest(name, NAMES.iter().map(|(name, _)| *name).chain([TWIN_CHANGE_INCLUDES]))
    }

    pub(crate) fn signature(self) -> Signature {
        use Type::{Bool, Number, Text};
        const NUM: Option<Type> = Some(Number);
        const TEXT: Option<Type> = Some(Text);
        let of = |shown, result, args: &'static [Option<Type>]| Signature {
            shown,
            result,
            args,
            least: args.len(),
            variadic: false,
        };
        match self {
            Function::Abs => of("abs(number)", Number, &[NUM]),
            Function::Exp => of("exp(number)", Number, &[NUM]),
            Function::Power => of("power(number, number)", Number, &[NUM, NUM]),
            Function::Square => of("square(number)", Number, &[NUM]),
            Function::Ceiling => of("ceiling(number)", Number, &[NUM]),
            Function::Floor => of("floor(number)", Number, &[NUM]),
            Function::Sign => of("sign(number)", Number, &[NUM]),
            Function::Sqrt => of("sqrt(number)", Number, &[NUM]),
            // Also takes a number, which the compiler checks.
            Function::AsNumber => of("as_number(text)", Number, &[TEXT]),
            Function::IsBool => of("is_bool(value)", Bool, &[None]),
            Function::IsDefined => of("is_defined(value)", Bool, &[None]),
            Function::IsNull => of("is_null(value)", Bool, &[None]),
            Function::IsNumber => of("is_number(value)", Bool, &[None]),
            Function::IsString => of("is_string(value)", Bool, &[None]),
            Function::Concat => {
                Signature { variadic: true, ..of("concat(text, text, …)", Text, &[TEXT, TEXT]) }
            }
            Function::Length => of("length(text)", Number, &[TEXT]),
            Function::Lower => of("lower(text)", Text, &[TEXT]),
            Function::Upper => of("upper(text)", Text, &[TEXT]),
            Function::Substring => Signature {
                least: 2,
                ..of("substring(text, start[, length])", Text, &[TEXT, NUM, NUM])
            },
            Function::IndexOf => of("index_of(text, part)", Number, &[TEXT, TEXT]),
            Function::StartsWith => of("starts_with(text, part)", Bool, &[TEXT, TEXT]),
            Function::EndsWith => of("ends_with(text, part)", Bool, &[TEXT, TEXT]),
            Function::Contains => of("contains(text, part)", Bool, &[TEXT, TEXT]),
        }
    }

    /// Result for arguments that were checked by the compiler; body values may still have any type.
    ///
    /// `dynamic` tells that the first argument comes from a body.
    pub(crate) fn call<'v>(self, args: &Args<'v>, dynamic: bool) -> Value<'v> {
        let first = args.first().unwrap_or(&Value::Undefined);
        match self {
            Function::Abs => math(first, f64::abs),
            Function::Exp => math(first, f64::exp),
            Function::Square => math(first, |n| n * n),
            Function::Ceiling => math(first, f64::ceil),
            Function::Floor => math(first, f64::floor),
            Function::Sign => math(first, |n| if n == 0.0 { 0.0 } else { n.signum() }),
            Function::Sqrt => math(first, f64::sqrt),
            Function::Power => match args.as_slice() {
                [Value::Number(base), Value::Number(exponent)] => {
                    Value::number(base.powf(*exponent))
                }
                _ => Value::Undefined,
            },
            Function::AsNumber => match first {
                Value::Text(text) => {
                    strings::as_number(text).map_or(Value::Undefined, Value::number)
                }
                Value::Number(value) => Value::Number(*value),
                _ => Value::Undefined,
            },
            Function::IsBool => match first {
                Value::Undefined => Value::Undefined,
                value => Value::Bool(matches!(value, Value::Bool(_))),
            },
            Function::IsDefined => Value::Bool(*first != Value::Undefined),
            Function::IsNull => match first {
                // An undefined text is simply not null; an undefined body value cannot be told.
                Value::Undefined if dynamic => Value::Undefined,
                value => Value::Bool(matches!(value, Value::Null | Value::NullText)),
            },
            Function::IsNumber => {
                Value::Bool(matches!(first, Value::Number(value) if value.is_finite()))
            }
            Function::IsString => Value::Bool(matches!(first, Value::Text(_))),
            Function::Concat => concat(args),
            Function::Length => text(first, |text| count(strings::length(text))),
            Function::Lower => text(first, |text| Value::Text(strings::lower(text).into())),
            Function::Upper => text(first, |text| Value::Text(strings::upper(text).into())),
            Function::Substring => substring(args),
            Function::IndexOf => texts(args, |text, part| {
                strings::index_of(text, part).map_or(Value::Number(-1.0), count)
            }),
            Function::StartsWith => texts(args, |text, part| Value::Bool(text.starts_with(part))),
            Function::EndsWith => texts(args, |text, part| Value::Bool(text.ends_with(part))),
            Function::Contains => texts(args, |text, part| Value::Bool(text.contains(part))),
        }
    }
}

/// The longest text that `concat` makes: four times the largest message of IoT Hub (256 KiB), so that
/// a route that repeats a large property cannot exhaust memory.
const MAX_JOINED_BYTES: usize = 1024 * 1024;

/// Arguments of a call; no function but `concat` takes more than three.
pub(crate) type Args<'v> = SmallVec<[Value<'v>; 3]>;

fn math<'v>(value: &Value<'_>, function: impl Fn(f64) -> f64) -> Value<'v> {
    match value {
        Value::Number(value) => Value::number(function(*value)),
        _ => Value::Undefined,
    }
}

#[expect(clippy::cast_precision_loss, reason = "texts are far shorter than 2^53")]
fn count<'v>(length: usize) -> Value<'v> {
    Value::Number(length as f64)
}

fn text<'v>(value: &Value<'_>, function: impl Fn(&str) -> Value<'v>) -> Value<'v> {
    match value {
        Value::Text(text) => function(text),
        _ => Value::Undefined,
    }
}

fn texts<'v>(args: &Args<'_>, function: impl Fn(&str, &str) -> Value<'v>) -> Value<'v> {
    match args.as_slice() {
        [Value::Text(text), Value::Text(part)] => function(text, part),
        _ => Value::Undefined,
    }
}

/// Null texts are empty here. A result longer than [`MAX_JOINED_BYTES`] is undefined.
fn concat<'v>(args: &Args<'_>) -> Value<'v> {
    let mut out = String::new();
    for arg in args {
        match arg {
            Value::Text(text) if out.len() + text.len() <= MAX_JOINED_BYTES => out.push_str(text),
            Value::NullText => {}
            _ => return Value::Undefined,
        }
    }
    Value::Text(out.into())
}

fn substring<'v>(args: &Args<'v>) -> Value<'v> {
    let (text, start, length) = match args.as_slice() {
        [Value::Text(text), Value::Number(start)] => (text, *start, None),
        [Value::Text(text), Value::Number(start), Value::Number(length)] => {
            (text, *start, Some(*length))
        }
        _ => return Value::Undefined,
    };
    match strings::substring(text, start, length) {
        Some(part) => Value::Text(part.to_owned().into()),
        None => Value::Undefined,
    }
}
