//! JSON pointers read out of a body in one pass, without building a tree.
//!
//! The pointers of a specification become a small tree of names once; reading walks the body and that
//! tree together and skips everything else. A body that is not JSON to its last byte has no fields.
//! Of a name that occurs twice in an object the last counts, as in most JSON parsers.

use crate::json::Scanner;
use std::borrow::Cow;

/// What stands at a pointer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Value<'a> {
    #[default]
    Absent,
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(Cow<'a, str>),
    /// An object or array, as it stands in the body.
    Json(&'a str),
}

/// The pointers of a specification, ready for reading.
#[derive(Debug)]
pub(crate) struct FieldReader {
    root: Node,
    count: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Places in the list of fields that take this value.
    wanted: Vec<usize>,
    below: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    name: String,
    /// The name as an index into an array.
    index: Option<usize>,
    node: Node,
}

impl FieldReader {
    /// `pointers` are well-formed (RFC 6901); the specification's check has seen to it.
    pub(crate) fn new(pointers: &[String]) -> Self {
        let mut root = Node::default();
        for (at, pointer) in pointers.iter().enumerate() {
            let names = pointer.split('/').skip(1);
            let node = names.fold(&mut root, |node, name| node.child(&unescape(name)));
            node.wanted.push(at);
        }
        Self { root, count: pointers.len() }
    }

    /// Appends one value for each pointer, in their order.
    pub(crate) fn read<'a>(&self, body: &'a [u8], found: &mut Vec<Value<'a>>) {
        let start = found.len();
        found.resize(start + self.count, Value::Absent);
        if self.count == 0 {
            return;
        }
        let mut json = Scanner::new(body);
        let read = self.root.read(&mut json, &mut found[start..]).and_then(|()| json.end());
        if read.is_none() {
            found[start..].fill(Value::Absent);
        }
    }
}

fn unescape(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

impl Node {
    fn child(&mut self, name: &str) -> &mut Self {
        let at = match self.below.iter().position(|child| child.name == name) {
            Some(at) => at,
            None => {
                let digits = name.bytes().all(|digit| digit.is_ascii_digit());
                let leading_zero = name.len() > 1 && name.starts_with('0');
                let index = if digits && !leading_zero { name.parse().ok() } else { None };
                self.below.push(Child { name: name.to_owned(), index, node: Self::default() });
                self.below.len() - 1
            }
        };
        &mut self.below[at].node
    }

    /// Reads one value; `None` when the body is no JSON. The depth of recursion is that of the
    /// pointers, and the scanner limits it once more.
    fn read<'a>(&self, json: &mut Scanner<'a>, found: &mut [Value<'a>]) -> Option<()> {
        let start = json.start();
        match json.peek()? {
            b'{' if !self.below.is_empty() => self.read_object(json, found)?,
            b'[' if !self.below.is_empty() => self.read_array(json, found)?,
            _ => json.skip()?,
        }
        let text = json.since(start);
        if let Some((first, others)) = self.wanted.split_first() {
            found[*first] = value(text)?;
            for at in others {
                found[*at] = found[*first].clone();
            }
        }
        Some(())
    }

    fn read_object<'a>(&self, json: &mut Scanner<'a>, found: &mut [Value<'a>]) -> Option<()> {
        json.enter()?;
        let mut seen = 0u64;
        let mut more = json.open(b'}')?;
        while more {
            let key = json.key()?;
            match self.below.iter().position(|child| is_name(key, &child.name)) {
                Some(at) => {
                    let node = &self.below[at].node;
                    if seen & 1 << at != 0 {
                        node.forget(found);
                    }
                    seen |= 1 << at;
                    node.read(json, found)?;
                }
                None => json.skip()?,
            }
            more = json.next(b'}')?;
        }
        json.leave();
        Some(())
    }

    fn read_array<'a>(&self, json: &mut Scanner<'a>, found: &mut [Value<'a>]) -> Option<()> {
        json.enter()?;
        let mut more = json.open(b']')?;
        let mut index = 0;
        while more {
            match self.below.iter().find(|child| child.index == Some(index)) {
                Some(child) => child.node.read(json, found)?,
                None => json.skip()?,
            }
            index += 1;
            more = json.next(b']')?;
        }
        json.leave();
        Some(())
    }

    fn forget(&self, found: &mut [Value<'_>]) {
        for at in &self.wanted {
            found[*at] = Value::Absent;
        }
        for child in &self.below {
            child.node.forget(found);
        }
    }
}

/// Compares a key between its quotes with a name.
fn is_name(key: &[u8], name: &str) -> bool {
    if key == name.as_bytes() {
        return true;
    }
    // A key with escapes is longer than the name it stands for.
    let escaped = key.len() > name.len() && key.contains(&b'\\');
    escaped && text(key).is_some_and(|key| key == name)
}

/// A sound value as it stands; `None` when it is not UTF-8.
fn value(bytes: &[u8]) -> Option<Value<'_>> {
    Some(match bytes.first()? {
        b'n' => Value::Null,
        b't' => Value::Boolean(true),
        b'f' => Value::Boolean(false),
        b'"' => Value::Text(text(&bytes[1..bytes.len() - 1])?),
        b'{' | b'[' => Value::Json(std::str::from_utf8(bytes).ok()?),
        _ => number(std::str::from_utf8(bytes).ok()?),
    })
}

/// A number that no `f64` can hold is no field.
fn number(text: &str) -> Value<'_> {
    if let Ok(integer) = text.parse() {
        return Value::Integer(integer);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::Number(number),
        Ok(_) | Err(_) => Value::Absent,
    }
}

/// What stands between two quotes, its escapes undone.
fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    if !raw.contains(&b'\\') {
        return std::str::from_utf8(raw).ok().map(Cow::Borrowed);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice(&quoted).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'a>(pointers: &[&str], body: &'a str) -> Vec<Value<'a>> {
        let pointers: Vec<String> = pointers.iter().map(|text| (*text).to_owned()).collect();
        let mut found = Vec::new();
        FieldReader::new(&pointers).read(body.as_bytes(), &mut found);
        found
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let body = r#"{"n":null,"b":true,"i":-7,"f":2.5,"big":18446744073709551615,"t":"x","e":"a\nb","o":{"k":[1, 2]},"a":[3]}"#;
        let found = read(&["/n", "/b", "/i", "/f", "/big", "/t", "/e", "/o", "/a", "/no"], body);
        assert_eq!(
            found,
            [
                Value::Null,
                Value::Boolean(true),
                Value::Integer(-7),
                Value::Number(2.5),
                Value::Number(18_446_744_073_709_551_615.0),
                Value::Text("x".into()),
                Value::Text("a\nb".into()),
                Value::Json(r#"{"k":[1, 2]}"#),
                Value::Json("[3]"),
                Value::Absent,
            ]
        );
    }

    #[test]
    fn pointers_go_into_objects_and_arrays_and_may_lie_below_each_other() {
        let body = r#"{"a":{"b":[10,{"c/d":1,"~":2}]}}"#;
        let found =
            read(&["/a/b/1/c~1d", "/a/b/0", "/a/b", "/a/b/1/~0", "/a/b/00", "/a/b/2"], body);
        assert_eq!(found[0], Value::Integer(1));
        assert_eq!(found[1], Value::Integer(10));
        assert_eq!(found[2], Value::Json(r#"[10,{"c/d":1,"~":2}]"#));
        assert_eq!(found[3], Value::Integer(2));
        assert_eq!(found[4..], [Value::Absent, Value::Absent]);
    }

    #[test]
    fn the_empty_pointer_is_the_whole_body() {
        assert_eq!(read(&[""], " 42 "), [Value::Integer(42)]);
        assert_eq!(read(&["", "/a"], r#"{"a":1}"#)[1], Value::Integer(1));
    }

    #[test]
    fn a_body_that_is_not_json_to_its_end_has_no_fields() {
        for body in
            ["", "hello", r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":1,}"#, "{\"a\":1,\"b\":\"\u{1}\"}"]
        {
            assert_eq!(read(&["/a"], body), [Value::Absent], "{body:?}");
        }
    }

    #[test]
    fn of_a_name_that_occurs_twice_the_last_counts() {
        assert_eq!(read(&["/a"], r#"{"a":1,"a":2}"#), [Value::Integer(2)]);
        assert_eq!(read(&["/a/b"], r#"{"a":{"b":1},"a":3}"#), [Value::Absent]);
    }

    #[test]
    fn deep_nesting_is_absent_and_not_a_stack_overflow() {
        let body = |depth: usize| {
            let deep = "[".repeat(depth) + &"]".repeat(depth);
            format!(r#"{{"a":1,"deep":{deep}}}"#)
        };
        assert_eq!(read(&["/a"], &body(100)), [Value::Integer(1)]);
        assert_eq!(read(&["/a"], &body(100_000)), [Value::Absent]);
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        let pointer = "/0".repeat(500);
        assert_eq!(read(&[&pointer], &deep), [Value::Absent]);
    }

    proptest! {
        #[test]
        fn what_a_tree_finds_is_found_without_one(members in proptest::collection::btree_map("[a-c]", any::<i32>(), 0..4), name in "[a-c]") {
            let body = serde_json::to_string(&members).unwrap();
            let expected = members.get(&name).map_or(Value::Absent, |n| Value::Integer(i64::from(*n)));
            prop_assert_eq!(read(&[&format!("/{name}")], &body), vec![expected]);
        }

        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            FieldReader::new(&["/a/0".to_owned(), "".to_owned()]).read(&body, &mut Vec::new());
        }
    }
}
