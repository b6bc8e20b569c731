//! The text of a route: `[SELECT *] FROM <source> [WHERE <condition>] INTO <sink>`.
//!
//! Keywords in any case, white space free, block comments skipped. A semicolon at the end is
//! tolerated. Any other text behind the sink is refused: the original ignores it silently, and a
//! `WHERE` put behind `INTO` would send everything.

use std::fmt;

use super::ast::Expr;
use super::error::{ErrorKind, ParseError, Span};
use super::lexer::{Token, Words};
use super::parse::Parser;
use super::sink::{Sink, SinkError};
use super::source::SourcePattern;
use super::suggest;

/// A route that follows the grammar; its types are checked when a table is built of it.
#[derive(Debug, Clone)]
pub struct Route {
    text: String,
    source: SourcePattern,
    condition: Option<Expr>,
    sink: Sink,
}

/// Two routes are equal when they mean the same, however they are written.
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.condition == other.condition && self.sink == other.sink
    }
}

impl Route {
    /// # Errors
    /// The first place where the text leaves the grammar.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser::new(text, Words::Route)?;
        if parser.token == Token::Select {
            parser.advance();
            parser.expect(Token::Star, "*", "after SELECT only '*' is supported")?;
        }
        parser.expect_keyword(Token::From, "FROM", &["SELECT * FROM", "FROM"])?;
        let source = parser.source()?;
        let condition = if parser.token == Token::Where {
            parser.advance();
            Some(parser.condition()?)
        } else {
            None
        };
        if condition.is_some() && parser.token != Token::Into {
            return Err(parser.after_operand(&["an operator", "INTO"]).or_keyword("INTO"));
        }
        parser.expect_keyword(Token::Into, "INTO", &["WHERE", "INTO"])?;
        let sink = parser.sink()?;
        while parser.word() == ";" {
            parser.advance();
        }
        if parser.token != Token::End {
            return Err(parser.after_sink());
        }
        Ok(Self { text: text.to_owned(), source, condition, sink })
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn source(&self) -> &SourcePattern {
        &self.source
    }

    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// The parsed condition; `None` for a route without `WHERE`.
    pub fn condition(&self) -> Option<&Expr> {
        self.condition.as_ref()
    }

    /// The condition as it was written; `true` for a route without `WHERE`.
    pub fn condition_text(&self) -> &str {
        self.condition.as_ref().map_or("true", |condition| condition.span.of(&self.text))
    }
}

impl Parser<'_> {
    fn source(&mut self) -> Result<SourcePattern, ParseError> {
        if self.token != Token::Slash {
            let help = "a source begins with '/': /messages/*".to_owned();
            return Err(self.error("expected a source", &["/"]).with_help(help));
        }
        let mut path = String::new();
        while self.token == Token::Slash {
            path.push('/');
            self.advance();
            match self.token {
                // Words that the original takes for numbers or literals are names too.
                Token::Star
                | Token::Name
                | Token::Integer
                | Token::Real
                | Token::Hex
                | Token::True
                | Token::False
                | Token::Null
                | Token::Undefined
                | Token::And
                | Token::Or
                | Token::Not => {
                    path.push_str(self.word());
                    self.advance();
                }
                Token::Where | Token::Into | Token::End => break,
                _ => return Err(self.error("expected a name or '*' after '/'", &["a name", "*"])),
            }
        }
        Ok(SourcePattern::new(&path))
    }

    fn sink(&mut self) -> Result<Sink, ParseError> {
        let (name, span) = (self.word(), self.span);
        match self.token {
            Token::SystemName => {
                let sink = Sink::from_system_name(name);
                let sink = sink.map_err(|error| self.sink_error(&error, span))?;
                self.advance();
                Ok(sink)
            }
            Token::Name => {
                self.advance();
                self.expect(Token::OpenParen, "(", "expected '(' after the endpoint function")?;
                let (address, address_span) = (self.word(), self.span);
                let missing = "expected the address of a module input in quotes";
                self.expect(Token::Text, "\"/modules/m/inputs/i\"", missing)?;
                self.expect(Token::CloseParen, ")", "expected ')' after the address")?;
                let sink = Sink::from_function(name, &address[1..address.len() - 1]);
                sink.map_err(|error| match error {
                    SinkError::Address => self.sink_error(&error, address_span),
                    _ => self.sink_error(&error, span),
                })
            }
            _ => Err(self.error("expected an endpoint", &["$upstream", "BrokeredEndpoint"])),
        }
    }

    fn sink_error(&self, error: &SinkError, span: Span) -> ParseError {
        ParseError::new(ErrorKind::UnknownSink, self.text, span, error.to_string())
            .with_help(error.help())
    }

    fn expect(
        &mut self,
        token: Token,
        word: &'static str,
        missing: &str,
    ) -> Result<(), ParseError> {
        if self.token != token {
            return Err(self.error(missing, &[word]));
        }
        self.advance();
        Ok(())
    }

    fn expect_keyword(
        &mut self,
        token: Token,
        keyword: &'static str,
        expected: &[&'static str],
    ) -> Result<(), ParseError> {
        if self.token == token {
            self.advance();
            return Ok(());
        }
        let found = match self.token {
            Token::End => "the route ends here".to_owned(),
            _ => format!("found '{}'", self.word()),
        };
        let message = format!("expected {}, {found}", expected.join(" or "));
        let words = expected.iter().flat_map(|words| words.split(' ')).chain([keyword]);
        let help = suggest::closest(self.word(), words).map(|word| format!("did you mean {word}?"));
        Err(self.error(&message, expected).with_help(help))
    }

    fn after_sink(&self) -> ParseError {
        let help = match self.token {
            Token::Where => Some("the condition stands before INTO: FROM … WHERE … INTO …".into()),
            _ => None,
        };
        let message = format!("expected the end of the route, found '{}'", self.word());
        self.error(&message, &["the end"]).with_help(help)
    }
}

impl ParseError {
    /// Suggest `keyword` where the wrong word is a slip of it.
    fn or_keyword(self, keyword: &'static str) -> Self {
        let likely = suggest::closest(self.word(), [keyword]).is_some();
        if likely { self.with_help(format!("did you mean {keyword}?")) } else { self }
    }
}

impl fmt::Display for Route {
    /// Canonical text. Parsing it gives an equal route.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = match &self.condition {
            Some(condition) => format!(" WHERE {condition}"),
            None => String::new(),
        };
        let rest = format!("{condition} INTO {}", self.sink);
        // A star at the end of the source would begin a comment if one seemed to end later.
        if rest.contains("*/") {
            write!(f, "FROM {}{rest}", self.source.path())
        } else {
            write!(f, "FROM {}{rest}", self.source)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> ParseError {
        Route::parse(text).unwrap_err()
    }

    #[test]
    fn a_route_has_source_condition_and_sink() {
        let text = "select * from / messages /* all */ WHERE a = 'b' /* c */ into $UpStream ; ";
        let route = Route::parse(text).unwrap();
        assert_eq!(route.source().path(), "/messages");
        assert_eq!(route.condition_text(), "a = 'b'");
        assert_eq!(route.sink(), &Sink::Upstream);
        assert_eq!(route.to_string(), "FROM /messages/* WHERE a = 'b' INTO $upstream");
    }

    #[test]
    fn names_of_a_source_may_look_like_numbers_or_literals() {
        let text = "FROM /messages/modules/123/outputs/and INTO $upstream";
        let route = Route::parse(text).unwrap();
        assert_eq!(route.source().path(), "/messages/modules/123/outputs/and");
        assert_eq!(Route::parse("FROM / INTO $upstream").unwrap().source().path(), "/");
        assert_eq!(
            Route::parse("FROM /messages/ INTO $upstream").unwrap().source().path(),
            "/messages"
        );
    }

    #[test]
    fn a_star_begins_a_comment_only_when_one_ends_later() {
        let route = Route::parse("FROM /* WHERE a = '*/' INTO $upstream");
        assert!(route.is_err(), "the original reads a comment up to the quote: {route:?}");
        let printed = Route::parse("FROM / WHERE a = '*/' INTO $upstream").unwrap().to_string();
        assert_eq!(printed, r"FROM /* WHERE a = '*\u002F' INTO $upstream");
        assert_eq!(
            Route::parse(&printed).unwrap(),
            Route::parse("FROM / WHERE a = '*/' INTO $upstream").unwrap()
        );
    }

    #[test]
    fn errors_show_the_wrong_word_and_the_likely_one() {
        for (text, column, help) in [
            ("FORM /messages/* INTO $upstream", 1, "did you mean FROM?"),
            ("FROM /messages/* INOT $upstream", 18, "did you mean INTO?"),
            ("FROM /messages/* WHER a = 'b' INTO $upstream", 18, "did you mean WHERE?"),
            ("FROM /messages/* WHERE a = 'b' INOT $upstream", 32, "did you mean INTO?"),
            ("FROM /messages/* INTO $upsteam", 23, "did you mean $upstream?"),
            ("FROM messages INTO $upstream", 6, "a source begins with '/': /messages/*"),
            (
                "FROM /* INTO $upstream WHERE a = 'b'",
                24,
                "the condition stands before INTO: FROM … WHERE … INTO …",
            ),
            ("FROM /*", 8, ""),
            ("", 1, ""),
            ("FROM /* INTO BrokeredEndpoint(\"/modules/m\")", 31, ""),
            ("FROM /* INTO BrokeredEndpoint(/modules/m)", 31, ""),
            ("SELECT a FROM /* INTO $upstream", 8, ""),
        ] {
            let error = error(text);
            assert_eq!(error.column(), column, "{text}\n{}", error.caret());
            assert_eq!(error.help().unwrap_or_default(), help, "{text}");
        }
        assert_eq!(
            error("FROM /messages/* INOT $upstream").caret(),
            "FROM /messages/* INOT $upstream\n\
             \x20                ^^^^ expected WHERE or INTO, found 'INOT'\n\
             \x20                help: did you mean INTO?"
        );
    }

    #[test]
    fn keywords_of_routes_are_no_names_in_a_route() {
        assert!(Route::parse("FROM /* WHERE from = 'a' INTO $upstream").is_err());
    }
}
