//! Parser of conditions: operator precedence by binding strength.
//!
//! Called for a condition alone and for the `WHERE` part of a route ([`super::statement`]). It never
//! recurses deeper than [`super::MAX_NESTING`], and what it returns is not higher than that, so
//! whoever walks the result may recurse too.

use super::ast::{BinaryOp, Expr, ExprKind, Literal, Place, binding};
use super::error::{ErrorKind, ParseError, Span};
use super::lexer::{Lexer, Token, Words};
use super::{MAX_NESTING, MAX_TEXT_BYTES, suggest};

pub(crate) struct Parser<'t> {
    pub(crate) text: &'t str,
    lexer: Lexer<'t>,
    pub(crate) token: Token,
    pub(crate) span: Span,
    /// End of the word before the present one.
    pub(crate) last: Span,
}

/// Parse a condition that stands alone. An empty one is undefined, as in the original.
pub(crate) fn condition(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, Words::Condition)?;
    if parser.token == Token::End {
        return Ok(Expr::new(ExprKind::Literal(Literal::Undefined), parser.span));
    }
    let expr = parser.condition()?;
    if parser.token != Token::End {
        return Err(parser.after_operand(&["an operator", "the end"]));
    }
    Ok(expr)
}

impl<'t> Parser<'t> {
    pub(crate) fn new(text: &'t str, words: Words) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("the text is longer than {MAX_TEXT_BYTES} bytes");
            return Err(ParseError::new(ErrorKind::TooLong, "", Span::default(), message));
        }
        let mut lexer = Lexer::new(text, words);
        let (token, span) = lexer.next();
        Ok(Self { text, lexer, token, span, last: Span::default() })
    }

    pub(crate) fn advance(&mut self) {
        self.last = self.span;
        (self.token, self.span) = self.lexer.next();
    }

    pub(crate) fn word(&self) -> &'t str {
        self.span.of(self.text)
    }

    pub(crate) fn condition(&mut self) -> Result<Expr, ParseError> {
        self.expr(0, 0)
    }

    fn expr(&mut self, least: u8, nesting: u16) -> Result<Expr, ParseError> {
        if nesting > MAX_NESTING {
            return Err(self.too_deep(self.span));
        }
        let mut left = self.prefix(nesting)?;
        while let Some(operator) = Operator::of(self.token) {
            let binding = operator.binding();
            if binding < least {
                break;
            }
            self.advance();
            let right = self.expr(binding + 1, nesting + 1)?;
            let span = left.span.to(right.span);
            left = match operator {
                Operator::And => Expr::and(left, right),
                Operator::Or => Expr::or(left, right),
                Operator::Binary(op) => {
                    let (left, right) = (Box::new(left), Box::new(right));
                    Expr::new(ExprKind::Binary { op, left, right }, span)
                }
            };
            if left.height > MAX_NESTING {
                return Err(self.too_deep(span));
            }
        }
        Ok(left)
    }

    fn prefix(&mut self, nesting: u16) -> Result<Expr, ParseError> {
        let start = self.span;
        let (least, wrap): (u8, fn(Box<Expr>) -> ExprKind) = match self.token {
            Token::Minus => (binding::NEGATE, ExprKind::Negate),
            Token::Not => (binding::NOT, ExprKind::Not),
            _ => return self.primary(nesting),
        };
        self.advance();
        let operand = self.expr(least, nesting + 1)?;
        let span = start.to(operand.span);
        let expr = Expr::new(wrap(Box::new(operand)), span);
        if expr.height > MAX_NESTING { Err(self.too_deep(span)) } else { Ok(expr) }
    }

    fn primary(&mut self, nesting: u16) -> Result<Expr, ParseError> {
        let span = self.span;
        let word = self.word();
        let kind = match self.token {
            Token::OpenParen => return self.parenthesised(nesting),
            Token::OpenBrace => return self.braced(),
            Token::Name => {
                self.advance();
                if self.token == Token::OpenParen {
                    return self.call(word, span, nesting);
                }
                return Ok(Expr::new(ExprKind::Property(word.to_owned()), span));
            }
            Token::SystemName => ExprKind::Dollar(word.to_owned()),
            Token::True => ExprKind::Literal(Literal::Bool(true)),
            Token::False => ExprKind::Literal(Literal::Bool(false)),
            Token::Null => ExprKind::Literal(Literal::Null),
            Token::Undefined => ExprKind::Literal(Literal::Undefined),
            Token::Text => ExprKind::Literal(Literal::Text(unescape(&word[1..word.len() - 1]))),
            Token::Integer | Token::Real | Token::Hex => ExprKind::Literal(number(word)),
            _ => return Err(self.no_operand()),
        };
        self.advance();
        Ok(Expr::new(kind, span))
    }

    fn parenthesised(&mut self, nesting: u16) -> Result<Expr, ParseError> {
        let open = self.span;
        self.advance();
        let mut expr = self.expr(0, nesting + 1)?;
        if self.token != Token::CloseParen {
            return Err(self.unclosed(open));
        }
        expr.span = open.to(self.span);
        self.advance();
        Ok(expr)
    }

    fn braced(&mut self) -> Result<Expr, ParseError> {
        let open = self.span;
        self.advance();
        if self.token != Token::SystemName {
            let error = self.error("expected a system property after '{'", &["$name"]);
            return Err(error.with_help("write {$name}".to_owned()));
        }
        let name = self.word().to_owned();
        self.advance();
        if self.token != Token::CloseBrace {
            return Err(self.error("expected '}'", &["}"]));
        }
        let span = open.to(self.span);
        self.advance();
        Ok(Expr::new(ExprKind::Braced(name), span))
    }

    fn call(&mut self, name: &str, name_span: Span, nesting: u16) -> Result<Expr, ParseError> {
        let open = self.span;
        self.advance();
        let mut args = Vec::new();
        while self.token != Token::CloseParen || !args.is_empty() {
            args.push(self.expr(0, nesting + 1)?);
            match self.token {
                Token::Comma => self.advance(),
                Token::CloseParen => break,
                _ => return Err(self.unclosed(open)),
            }
        }
        let span = name_span.to(self.span);
        self.advance();
        let expr = Expr::new(
            ExprKind::Call { name: name.to_owned(), place: Place(name_span), args },
            span,
        );
        if expr.height > MAX_NESTING { Err(self.too_deep(span)) } else { Ok(expr) }
    }

    pub(crate) fn error(&self, message: &str, expected: &[&'static str]) -> ParseError {
        match self.token {
            Token::UnterminatedText => {
                let message = "unterminated string: its closing quote is missing";
                ParseError::new(ErrorKind::UnterminatedString, self.text, self.span, message)
            }
            Token::Unknown => {
                let message = format!("invalid symbol '{}'", self.word());
                ParseError::new(ErrorKind::UnknownSymbol, self.text, self.span, message)
            }
            Token::End => {
                // Behind the last word, not behind blanks.
                let end = if self.last.end == 0 { self.span } else { self.last };
                let span = Span { start: end.end, end: end.end };
                ParseError::new(ErrorKind::Syntax, self.text, span, message).expecting(expected)
            }
            _ => ParseError::new(ErrorKind::Syntax, self.text, self.span, message)
                .expecting(expected),
        }
    }

    fn no_operand(&self) -> ParseError {
        let expected =
            &["a literal", "a property", "$name", "{$name}", "a function", "(", "NOT", "-"];
        let message = match self.token {
            Token::End => "expected a value, the condition ends here".to_owned(),
            _ => format!("expected a value, found '{}'", self.word()),
        };
        let help = match self.token {
            Token::Equal => Some("equality is written with one '='"),
            Token::BracketedName => Some("brackets are for $body paths: $body.list[0]"),
            _ => None,
        };
        self.error(&message, expected).with_help(help.map(str::to_owned))
    }

    /// Something follows a complete operand that is neither an operator nor an end.
    pub(crate) fn after_operand(&self, expected: &[&'static str]) -> ParseError {
        let word = self.word();
        let help = match word {
            "&&" | "&" => Some("write AND".to_owned()),
            "|" => Some("write OR".to_owned()),
            _ if self.token == Token::CloseParen => Some("this ')' closes nothing".to_owned()),
            // `3 -4` reads as two numbers.
            _ if word.starts_with(['-', '+', '*', '%']) && word.len() > 1 => {
                Some("an operator needs a space on both sides".to_owned())
            }
            _ => suggest::closest(word, ["AND", "OR"]).map(|word| format!("did you mean {word}?")),
        };
        let message = format!("expected {}, found '{word}'", expected.join(" or "));
        self.error(&message, expected).with_help(help)
    }

    fn unclosed(&self, open: Span) -> ParseError {
        let column = self.text[..open.start()].chars().count() + 1;
        let message = match self.token {
            Token::End => "missing closing ')'".to_owned(),
            _ => format!("expected an operator or ')', found '{}'", self.word()),
        };
        self.error(&message, &["an operator", ")"])
            .with_help(format!("'(' at column {column} is not closed"))
    }

    fn too_deep(&self, span: Span) -> ParseError {
        let message = format!("the condition is nested deeper than {MAX_NESTING} levels");
        ParseError::new(ErrorKind::TooDeep, self.text, span, message)
    }
}

#[derive(Clone, Copy)]
enum Operator {
    And,
    Or,
    Binary(BinaryOp),
}

impl Operator {
    fn of(token: Token) -> Option<Self> {
        Some(match token {
            Token::And => Operator::And,
            Token::Or => Operator::Or,
            Token::Star => Operator::Binary(BinaryOp::Multiply),
            Token::Slash => Operator::Binary(BinaryOp::Divide),
            Token::Percent => Operator::Binary(BinaryOp::Modulo),
            Token::Plus => Operator::Binary(BinaryOp::Add),
            Token::Minus => Operator::Binary(BinaryOp::Subtract),
            Token::Concat => Operator::Binary(BinaryOp::Concat),
            Token::Less => Operator::Binary(BinaryOp::Less),
            Token::LessOrEqual => Operator::Binary(BinaryOp::LessOrEqual),
            Token::Greater => Operator::Binary(BinaryOp::Greater),
            Token::GreaterOrEqual => Operator::Binary(BinaryOp::GreaterOrEqual),
            Token::Equal => Operator::Binary(BinaryOp::Equal),
            Token::NotEqual => Operator::Binary(BinaryOp::NotEqual),
            Token::Coalesce => Operator::Binary(BinaryOp::Coalesce),
            _ => return None,
        })
    }

    fn binding(self) -> u8 {
        match self {
            Operator::And => binding::AND,
            Operator::Or => binding::OR,
            Operator::Binary(op) => op.binding(),
        }
    }
}

/// Every number is a double. A form without a value (`e5`, a hexadecimal number above 64 bits) is
/// undefined, and hexadecimal numbers are signed 64-bit ones, as in the original.
fn number(word: &str) -> Literal {
    let value = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        #[expect(clippy::cast_precision_loss, reason = "numbers of the language are doubles")]
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|bits| bits.cast_signed() as f64),
        None => word.parse().ok(),
    };
    value.map_or(Literal::Undefined, Literal::Number)
}

/// Replace `\uXXXX`, then `\"`, `\'` and `\\`: two passes, as in the original (`\\u0041` is `\A`).
fn unescape(raw: &str) -> String {
    if !raw.contains('\\') {
        return raw.to_owned();
    }
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let code = rest
            .strip_prefix("\\u")
            .or_else(|| rest.strip_prefix("\\U"))
            .and_then(|hex| hex.get(..4))
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u16::from_str_radix(hex, 16).ok());
        match code {
            Some(unit) => {
                units.push(unit);
                rest = &rest[6..];
            }
            None => {
                units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    let once = String::from_utf16_lossy(&units);
    let mut out = String::with_capacity(once.len());
    let mut chars = once.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some('"' | '\'' | '\\') if c == '\\' => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        condition(text).unwrap().to_string()
    }

    #[test]
    fn operators_bind_as_in_the_original() {
        for (text, meaning) in [
            ("a = b AND c = d OR e = f", "a = b AND c = d OR e = f"),
            ("(a = b AND (c = d)) OR (e = f)", "a = b AND c = d OR e = f"),
            ("a and (b or c)", "a AND (b OR c)"),
            ("not a = b", "NOT a = b"),
            ("not (a = b)", "NOT (a = b)"),
            ("- 1 * 2", "- 1 * 2"),
            ("-(1 * 2)", "- (1 * 2)"),
            ("a - (b - c)", "a - (b - c)"),
            ("(a - b) - c", "a - b - c"),
            ("a < b = c", "a < b = c"),
            ("a < (b = c)", "a < (b = c)"),
            ("a ?? b = c", "a ?? b = c"),
            ("(a ?? b) = c", "(a ?? b) = c"),
            ("a || b + c", "a || b + c"),
        ] {
            assert_eq!(printed(text), meaning, "{text}");
        }
    }

    #[test]
    fn texts_are_unescaped_in_two_passes() {
        let value = |text: &str| match condition(text).unwrap().kind {
            ExprKind::Literal(Literal::Text(value)) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(value(r#""he said, \"Tch\u00FCss!\"""#), "he said, \"Tchüss!\"");
        assert_eq!(value(r"'\uD83D\uDE00'"), "😀");
        assert_eq!(value(r"'\\u0041'"), r"\A");
        assert_eq!(value(r"'\\x'"), r"\x");
    }

    #[test]
    fn hexadecimal_numbers_are_signed_64_bit() {
        let value = |text: &str| condition(text).unwrap().kind;
        assert_eq!(value("0x10"), ExprKind::Literal(Literal::Number(16.0)));
        assert_eq!(value("0xFFFFFFFFFFFFFFFF"), ExprKind::Literal(Literal::Number(-1.0)));
        assert_eq!(value("0x1FFFFFFFFFFFFFFFF"), ExprKind::Literal(Literal::Undefined));
        assert_eq!(value("e5"), ExprKind::Literal(Literal::Undefined));
    }

    #[test]
    fn errors_name_the_place_and_the_likely_word() {
        for (text, column, message, help) in [
            ("temp == 100", 7, "expected a value, found '='", "equality is written with one '='"),
            ("(true && key1)", 7, "expected an operator or ')'", "'(' at column 1 is not closed"),
            ("a = 'b' && c = 'd'", 9, "expected an operator", "write AND"),
            ("a = 'b' ADN c = 'd'", 9, "expected an operator", "did you mean AND?"),
            ("3 -4", 3, "expected an operator", "an operator needs a space on both sides"),
            ("(a = 'b'", 9, "missing closing ')'", "'(' at column 1 is not closed"),
            ("a = 'b')", 8, "expected an operator", "this ')' closes nothing"),
            ("a =   ", 4, "expected a value, the condition ends here", ""),
            ("x = \"open", 5, "unterminated string", ""),
            ("@32 = 32", 1, "invalid symbol '@'", ""),
            ("length('a',) = 1", 12, "expected a value, found ')'", ""),
        ] {
            let error = condition(text).unwrap_err();
            assert!(error.message().starts_with(message), "{text}: {error}");
            assert_eq!(error.column(), column, "{text}: {error}");
            assert_eq!(error.help().unwrap_or_default(), help, "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}true{}", "(".repeat(3000), ")".repeat(3000));
        assert_eq!(condition(&deep).unwrap_err().kind(), ErrorKind::TooDeep);
        let minus = format!("{}1", "- ".repeat(3000));
        assert_eq!(condition(&minus).unwrap_err().kind(), ErrorKind::TooDeep);
        let sum = vec!["1"; 2000].join(" + ");
        assert_eq!(condition(&sum).unwrap_err().kind(), ErrorKind::TooDeep);
        let long = format!("a = '{}'", "x".repeat(MAX_TEXT_BYTES));
        assert_eq!(condition(&long).unwrap_err().kind(), ErrorKind::TooLong);
        // A long list of alternatives is not deep.
        let list = vec!["a = 'b'"; 500].join(" OR ");
        assert!(condition(&list).is_ok());
    }
}
