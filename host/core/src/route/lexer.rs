//! Words of the route language.
//!
//! The longest word wins, as in the original's lexer; among words of one length the order is
//! keyword, text, number, literal, operator, name. Names may hold almost every character, so an
//! operator that is to be one needs a space: `a-b`, `3+4` and `'a'||'b'` are names. This is the
//! original's behaviour, and manifests depend on it (names such as `my-alert` are common).

use super::error::Span;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Select,
    From,
    Where,
    Into,
    Text,
    UnterminatedText,
    Integer,
    Hex,
    Real,
    True,
    False,
    Null,
    Undefined,
    OpenParen,
    CloseParen,
    OpenBrace,
    CloseBrace,
    Comma,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    And,
    Or,
    Not,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
    Less,
    Concat,
    Coalesce,
    /// `$name`, `$body.path[0]`.
    SystemName,
    Name,
    /// A name with brackets, which stands nowhere but after `$`.
    BracketedName,
    Unknown,
    End,
}

/// Which words are keywords besides those of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// `SELECT`, `FROM`, `WHERE` and `INTO` are keywords, in the condition too.
    Route,
    /// A condition alone: they are names.
    Condition,
}

#[derive(Debug, Clone)]
pub(crate) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    words: Words,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t str, words: Words) -> Self {
        Self { text, at: 0, words }
    }

    /// The next word; `End` for ever after the last one.
    pub(crate) fn next(&mut self) -> (Token, Span) {
        self.skip_blanks_and_comments();
        let rest = &self.text[self.at..];
        let (token, length) = self.longest(rest);
        let span = Span::new(self.at, self.at + length);
        self.at += length;
        (token, span)
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
            // `/*` is a comment only when it is closed later: it is also how a source ends.
            let comment =
                rest[blank..].strip_prefix("/*").and_then(|open| Some(open.find("*/")? + 4));
            self.at += blank + comment.unwrap_or(0);
            if comment.is_none() {
                return;
            }
        }
    }

    fn longest(&self, rest: &str) -> (Token, usize) {
        let Some(first) = rest.chars().next() else { return (Token::End, 0) };
        let second = rest[first.len_utf8()..].chars().next();
        match (first, second) {
            ('"', _) => text_literal(rest, '"'),
            ('(', _) => (Token::OpenParen, 1),
            (')', _) => (Token::CloseParen, 1),
            ('{', _) => (Token::OpenBrace, 1),
            ('}', _) => (Token::CloseBrace, 1),
            (',', _) => (Token::Comma, 1),
            ('/', _) => (Token::Slash, 1),
            ('=', _) => (Token::Equal, 1),
            ('<', Some('=')) => (Token::LessOrEqual, 2),
            ('<', Some('>')) => (Token::NotEqual, 2),
            ('<', _) => (Token::Less, 1),
            ('>', Some('=')) => (Token::GreaterOrEqual, 2),
            ('>', _) => (Token::Greater, 1),
            ('?', Some('?')) => (Token::Coalesce, 2),
            _ if is_path_char(first) => self.word(rest),
            _ => (Token::Unknown, first.len_utf8()),
        }
    }

    fn word(&self, rest: &str) -> (Token, usize) {
        let path = run(rest, is_path_char);
        if rest.starts_with('\'') {
            let (token, length) = text_literal(rest, '\'');
            if length >= path {
                return (token, length);
            }
        }
        if rest.starts_with('$') && path > 1 {
            return (Token::SystemName, path);
        }
        let name = run(rest, is_name_char);
        if path > name {
            return (Token::BracketedName, path);
        }
        if &rest[..name] == "!" && rest[name..].starts_with('=') {
            return (Token::NotEqual, 2);
        }
        (self.classify(&rest[..name]), name)
    }

    fn classify(&self, word: &str) -> Token {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if self.words == Words::Route {
            match () {
                () if is("SELECT") => return Token::Select,
                () if is("FROM") => return Token::From,
                () if is("WHERE") => return Token::Where,
                () if is("INTO") => return Token::Into,
                () => {}
            }
        }
        match word {
            "true" => Token::True,
            "false" => Token::False,
            "null" => Token::Null,
            "undefined" => Token::Undefined,
            "+" => Token::Plus,
            "-" => Token::Minus,
            "*" => Token::Star,
            "%" => Token::Percent,
            "||" => Token::Concat,
            _ if is("AND") => Token::And,
            _ if is("OR") => Token::Or,
            _ if is("NOT") => Token::Not,
            _ => number(word).unwrap_or(Token::Name),
        }
    }
}

/// Characters of a name.
pub(crate) fn is_name_char(c: char) -> bool {
    is_path_char(c) && c != '[' && c != ']'
}

fn is_path_char(c: char) -> bool {
    !matches!(
        c,
        '(' | ')'
            | '<'
            | '>'
            | '@'
            | ','
            | ';'
            | ':'
            | '\\'
            | '"'
            | '/'
            | '?'
            | '='
            | '{'
            | '}'
            | ' '
            | '\t'
            | '\n'
            | '\r'
    )
}

fn run(text: &str, belongs: fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn text_literal(rest: &str, quote: char) -> (Token, usize) {
    let mut at = 1;
    while let Some(c) = rest[at..].chars().next() {
        if c == quote {
            return (Token::Text, at + 1);
        }
        if c == '\\' {
            match escape_length(&rest[at..]) {
                Some(length) => at += length,
                // Not an escape: the text ends here without its quote.
                None => break,
            }
        } else {
            at += c.len_utf8();
        }
    }
    (Token::UnterminatedText, at)
}

/// Length of `\"`, `\'`, `\\` or `\uXXXX` at the beginning of `rest`.
fn escape_length(rest: &str) -> Option<usize> {
    match rest.as_bytes() {
        [b'\\', b'"' | b'\'' | b'\\', ..] => Some(2),
        [b'\\', b'u', hex @ ..] if hex.len() >= 4 && hex[..4].iter().all(u8::is_ascii_hexdigit) => {
            Some(6)
        }
        _ => None,
    }
}

/// A whole word that is a number. `e5` counts as one (it has no value, and reads as undefined).
fn number(word: &str) -> Option<Token> {
    if let Some(hex) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"))
        && !hex.is_empty()
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Some(Token::Hex);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    if digits(unsigned) {
        return Some(Token::Integer);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent_is_good =
        exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
    let mantissa_is_good = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole.is_empty() || digits(whole)) && digits(fraction),
        None => exponent.is_some() && (mantissa.is_empty() || digits(mantissa)),
    };
    (exponent_is_good && mantissa_is_good).then_some(Token::Real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(Token, &str)> {
        let mut lexer = Lexer::new(text, Words::Condition);
        let mut found = Vec::new();
        loop {
            let (token, span) = lexer.next();
            if token == Token::End {
                return found;
            }
            found.push((token, span.of(text)));
        }
    }

    fn tokens(text: &str) -> Vec<Token> {
        words(text).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn the_longest_word_wins_so_operators_need_a_space() {
        for name in ["3+4", "a-b", "'a'||'b'", "-abs", "TRUE", "it's", "5.", "a!", "$"] {
            assert_eq!(words(name), [(Token::Name, name)]);
        }
        assert_eq!(tokens("3 + 4"), [Token::Integer, Token::Plus, Token::Integer]);
        assert_eq!(tokens("a!=3"), [Token::Name, Token::Equal, Token::Integer]);
        assert_eq!(tokens("a != 3"), [Token::Name, Token::NotEqual, Token::Integer]);
        assert_eq!(tokens("a<>-1"), [Token::Name, Token::NotEqual, Token::Integer]);
        assert_eq!(tokens("1 - -2"), [Token::Integer, Token::Minus, Token::Integer]);
        assert_eq!(tokens("3/0"), [Token::Integer, Token::Slash, Token::Integer]);
    }

    #[test]
    fn numbers_have_the_forms_of_the_original() {
        for (text, token) in [
            ("0100", Token::Integer),
            ("-7", Token::Integer),
            ("0xDeadBeef", Token::Hex),
            (".5", Token::Real),
            ("-1.5e+3", Token::Real),
            ("1e9", Token::Real),
            ("e5", Token::Real),
            ("0x", Token::Name),
            ("1.2.3", Token::Name),
            ("1e", Token::Name),
            ("e1e1", Token::Name),
        ] {
            assert_eq!(words(text), [(token, text)]);
        }
    }

    #[test]
    fn texts_end_at_their_quote_or_at_a_bad_escape() {
        assert_eq!(words(r#""a\"b" c"#), [(Token::Text, r#""a\"b""#), (Token::Name, "c")]);
        assert_eq!(words(r"'\u00fc'"), [(Token::Text, r"'\u00fc'")]);
        assert_eq!(words("'open x"), [(Token::UnterminatedText, "'open x")]);
        assert_eq!(tokens(r#""bad\q""#)[0], Token::UnterminatedText);
        assert_eq!(words("'a'b"), [(Token::Name, "'a'b")]);
    }

    #[test]
    fn brackets_belong_to_system_names_only() {
        assert_eq!(words("$body.a[0].b"), [(Token::SystemName, "$body.a[0].b")]);
        assert_eq!(words("[32]"), [(Token::BracketedName, "[32]")]);
        assert_eq!(words("a[0]"), [(Token::BracketedName, "a[0]")]);
    }

    #[test]
    fn a_comment_must_be_closed_to_be_one() {
        assert_eq!(words("a /* b */ c"), [(Token::Name, "a"), (Token::Name, "c")]);
        assert_eq!(tokens("/messages/*"), [Token::Slash, Token::Name, Token::Slash, Token::Star]);
        assert_eq!(tokens("'/*' /**/ '*/'"), [Token::Text, Token::Text]);
    }
}
