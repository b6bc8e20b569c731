//! A scanner that knows where JSON values begin and end, and whether they are JSON, and no more.
//!
//! It is what makes fields cheap: a parser that hands every skipped key and value to somebody takes
//! half as long again. Grammar of RFC 8259; that a text is UTF-8 is looked at by who takes it.
//! Values may be nested 128 deep. Nothing here recurses or allocates.

/// Deepest nesting; a body beyond it counts as no JSON.
const DEPTH: u32 = 128;

/// A place in a body. Every function that gives `None` has met something that is not JSON.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Containers that were entered.
    depth: u32,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// The place where the next value begins.
    pub(crate) fn start(&mut self) -> usize {
        self.space();
        self.at
    }

    /// The bytes from a place up to here.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Nothing may follow.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.space();
        (self.at == self.bytes.len()).then_some(())
    }

    /// Goes into a container, of whose bracket only the kind was looked at.
    pub(crate) fn enter(&mut self) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        (self.depth <= DEPTH).then_some(())
    }

    /// Leaves a container whose closing bracket was taken.
    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// After an opening bracket: true when the container has a first element.
    pub(crate) fn open(&mut self, close: u8) -> Option<bool> {
        self.space();
        let empty = self.peek()? == close;
        self.at += usize::from(empty);
        Some(!empty)
    }

    /// After an element: true when another follows.
    pub(crate) fn next(&mut self, close: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            _ if byte == close => Some(false),
            _ => None,
        }
    }

    /// A key with its colon: what stands between the quotes.
    pub(crate) fn key(&mut self) -> Option<&'a [u8]> {
        self.space();
        let start = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        let key = &self.bytes[start + 1..self.at - 1];
        self.space();
        self.take(b':')?;
        Some(key)
    }

    /// Passes over one whole value.
    pub(crate) fn skip(&mut self) -> Option<()> {
        // One bit for each open container, the innermost lowest: 1 is an object.
        let mut open = 0u128;
        let outside = self.depth;
        loop {
            self.space();
            match self.peek()? {
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                bracket @ (b'{' | b'[') => {
                    self.enter()?;
                    let is_object = bracket == b'{';
                    // The depth is at most 128, so the bit that leaves at the top is unused.
                    open = open << 1 | u128::from(is_object);
                    if self.open(bracket + 2)? {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                    open >>= 1;
                    self.leave();
                }
                _ => return None,
            }
            // A value has ended; so may the containers around it.
            loop {
                if self.depth == outside {
                    return Some(());
                }
                let is_object = open & 1 == 1;
                if self.next(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.key()?;
                    }
                    break;
                }
                open >>= 1;
                self.leave();
            }
        }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let rest = &self.bytes[self.at..];
        rest.starts_with(word).then(|| self.at += word.len())
    }

    /// A string; here stands its first quote.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            while let Some(eight) = self.bytes[self.at..].first_chunk() {
                let plain = plain_bytes(u64::from_le_bytes(*eight));
                self.at += plain;
                if plain < 8 {
                    break;
                }
            }
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let hex = self.bytes.get(self.at..self.at + 4)?;
                self.at += 4;
                hex.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    /// One digit at least.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// How many of eight bytes of a string come before a quote, a backslash or a control character.
fn plain_bytes(eight: u64) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // A byte below `least` borrows into its high bit, which it had not set. A borrow reaches higher
    // bytes too, but the lowest byte that is marked is marked rightly.
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & HIGH;
    let equal = |byte: u8| below(eight ^ (ONES * u64::from(byte)), 1);
    let marks = below(eight, 0x20) | equal(b'"') | equal(b'\\');
    marks.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_json(bytes: &[u8]) -> bool {
        let mut json = Scanner::new(bytes);
        json.skip().and_then(|()| json.end()).is_some()
    }

    fn serde_says(bytes: &[u8]) -> bool {
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
    }

    #[test]
    fn nesting_is_limited_and_costs_no_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(nested(128).as_bytes()));
        assert!(!is_json(nested(129).as_bytes()));
        assert!(!is_json(nested(1_000_000).as_bytes()));
    }

    #[test]
    fn brackets_close_what_they_opened() {
        for text in ["{]", "[}", "[{]}", "{\"a\":[}]", "]", "[[]", "[1}"] {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn numbers_strings_and_words_are_those_of_the_grammar() {
        for text in [
            "0",
            "-0",
            "01",
            "1.",
            ".5",
            "1.5e",
            "1e+",
            "-",
            "1E-7",
            "+1",
            "0x1",
            "truth",
            "true",
            "nul",
            "\"",
            "\"\\",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u00e4\"",
            "\"\\x\"",
            "\"\n\"",
            "\"12345678\n\"",
            "\"1234567\"",
            "{\"a\" : 1 , \"b\":[ ]}",
            "{\"a\":1,}",
            "[1,]",
            "[,1]",
            "{,}",
            "{1:2}",
            "{\"a\"}",
            "1 2",
            "",
        ] {
            assert_eq!(is_json(text.as_bytes()), serde_says(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_full_parser_on_what_is_json(text in r#"[\[\]{},:"\\ 0-2eE.+-truefalsn]{0,14}"#) {
            prop_assert_eq!(is_json(text.as_bytes()), serde_says(text.as_bytes()));
        }

        #[test]
        fn plain_bytes_are_counted_to_the_first_that_is_not(bytes: [u8; 8]) {
            let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let first = bytes.iter().position(special).unwrap_or(8);
            prop_assert_eq!(plain_bytes(u64::from_le_bytes(bytes)), first);
        }
    }
}
