//! The type system of AMQP 1.0 as this head reads and writes it: borrowed, without building trees.
//!
//! [`Reader`] walks bytes that came from a peer; [`check_value`] says whether a value is whole, however
//! it is nested, before anyone else looks at it. Invariants:
//!
//! 1. A declared size that is larger than what is there, or a declared count that is larger than the
//!    bytes that could hold it, is an error; nothing is allocated by either.
//! 2. Values nest no deeper than [`MAX_DEPTH`].
//! 3. The work is bounded by the number of bytes.

mod write;

pub(crate) use write::Writer;

/// Deepest nesting of values: IoT Hub's messages need three.
pub(crate) const MAX_DEPTH: usize = 16;

/// Bytes that are no value of AMQP 1.0, or not the one expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Sizes that do not fit into each other, or too few bytes.
    #[error("a value is cut off or larger than what holds it")]
    Size,
    /// An unknown constructor.
    #[error("{0:#04x} is not a constructor of AMQP 1.0")]
    Constructor(u8),
    /// More than [`MAX_DEPTH`].
    #[error("values are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// A string that is not UTF-8, or a symbol that is not ASCII.
    #[error("a text is not in its encoding")]
    Text,
    /// Not the type that the standard asks for at this place.
    #[error("{0} is missing or has another type")]
    Expected(&'static str),
}

/// One value; compound ones are not looked into.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    Float(f32),
    Double(f64),
    Decimal(&'a [u8]),
    Char(u32),
    /// Milliseconds since 1970.
    Timestamp(i64),
    Uuid([u8; 16]),
    Binary(&'a [u8]),
    String(&'a str),
    Symbol(&'a str),
    List(Compound<'a>),
    Map(Compound<'a>),
    /// Elements of one type; nothing here reads them.
    Array,
    /// A described value; its parts as bytes.
    Described(&'a [u8]),
}

/// Items of a list, or keys and values of a map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Compound<'a> {
    items: &'a [u8],
    count: usize,
}

impl<'a> Compound<'a> {
    /// A reader of the items.
    pub(crate) fn reader(self) -> Reader<'a> {
        Reader(self.items)
    }

    /// How many items it declares; no more than it has bytes.
    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// Walks over the pairs of a map.
    pub(crate) fn pairs(
        self,
        mut each: impl FnMut(Value<'a>, Value<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut reader = self.reader();
        for _ in 0..self.count / 2 {
            let key = reader.value()?;
            each(key, reader.value()?)?;
        }
        Ok(())
    }
}

/// Reads values one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Size)?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    /// A size of one or four bytes, no larger than what is left.
    fn size(&mut self, wide: bool) -> Result<usize, Malformed> {
        let size = match wide {
            true => usize::try_from(u32::from_be_bytes(self.fixed()?)).unwrap_or(usize::MAX),
            false => usize::from(self.take(1)?[0]),
        };
        Ok(size)
    }

    fn variable(&mut self, wide: bool) -> Result<&'a [u8], Malformed> {
        let size = self.size(wide)?;
        self.take(size)
    }

    fn text(&mut self, wide: bool) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.variable(wide)?).map_err(|_| Malformed::Text)
    }

    fn symbol(&mut self, wide: bool) -> Result<&'a str, Malformed> {
        let text = self.text(wide)?;
        if text.is_ascii() { Ok(text) } else { Err(Malformed::Text) }
    }

    fn compound(&mut self, wide: bool) -> Result<Compound<'a>, Malformed> {
        let mut body = Reader(self.variable(wide)?);
        let count = body.size(wide)?;
        match count <= body.0.len() {
            true => Ok(Compound { items: body.0, count }),
            false => Err(Malformed::Size),
        }
    }

    /// The next value.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.0;
        let constructor = self.take(1)?[0];
        if constructor == 0 {
            skip(self, 0)?;
            skip(self, 0)?;
            return Ok(Value::Described(&start[..start.len() - self.0.len()]));
        }
        self.plain(constructor)
    }

    fn plain(&mut self, constructor: u8) -> Result<Value<'a>, Malformed> {
        let wide = constructor & 0x10 != 0;
        Ok(match constructor {
            0x40 => Value::Null,
            0x41 => Value::Bool(true),
            0x42 => Value::Bool(false),
            0x56 => Value::Bool(self.take(1)?[0] != 0),
            0x43 | 0x44 => Value::Unsigned(0),
            0x50 | 0x52 | 0x53 => Value::Unsigned(self.take(1)?[0].into()),
            0x60 => Value::Unsigned(u16::from_be_bytes(self.fixed()?).into()),
            0x70 => Value::Unsigned(u32::from_be_bytes(self.fixed()?).into()),
            0x80 => Value::Unsigned(u64::from_be_bytes(self.fixed()?)),
            0x51 | 0x54 | 0x55 => Value::Signed(i8::from_be_bytes(self.fixed()?).into()),
            0x61 => Value::Signed(i16::from_be_bytes(self.fixed()?).into()),
            0x71 => Value::Signed(i32::from_be_bytes(self.fixed()?).into()),
            0x81 => Value::Signed(i64::from_be_bytes(self.fixed()?)),
            0x72 => Value::Float(f32::from_be_bytes(self.fixed()?)),
            0x82 => Value::Double(f64::from_be_bytes(self.fixed()?)),
            0x73 => Value::Char(u32::from_be_bytes(self.fixed()?)),
            0x74 => Value::Decimal(self.take(4)?),
            0x84 => Value::Decimal(self.take(8)?),
            0x94 => Value::Decimal(self.take(16)?),
            0x83 => Value::Timestamp(i64::from_be_bytes(self.fixed()?)),
            0x98 => Value::Uuid(self.fixed()?),
            0xa0 | 0xb0 => Value::Binary(self.variable(wide)?),
            0xa1 | 0xb1 => Value::String(self.text(wide)?),
            0xa3 | 0xb3 => Value::Symbol(self.symbol(wide)?),
            0x45 => Value::List(Compound { items: &[], count: 0 }),
            0xc0 | 0xd0 => Value::List(self.compound(wide)?),
            0xc1 | 0xd1 => match self.compound(wide)? {
                pairs if pairs.count % 2 == 0 => Value::Map(pairs),
                _ => return Err(Malformed::Size),
            },
            0xe0 | 0xf0 => {
                self.variable(wide)?;
                Value::Array
            }
            other => return Err(Malformed::Constructor(other)),
        })
    }

    /// The numeric descriptor of a described value, which then follows.
    pub(crate) fn descriptor(&mut self) -> Result<u64, Malformed> {
        match (self.take(1)?, self.value()?) {
            ([0], Value::Unsigned(code)) => Ok(code),
            _ => Err(Malformed::Expected("a descriptor")),
        }
    }

    /// A list.
    pub(crate) fn list(&mut self) -> Result<Compound<'a>, Malformed> {
        match self.value()? {
            Value::List(list) => Ok(list),
            _ => Err(Malformed::Expected("a list")),
        }
    }
}

/// Checks that the next value is whole, and steps over it.
///
/// # Errors
/// [`Malformed`].
pub(crate) fn check_value(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    skip(reader, 0)
}

fn skip(reader: &mut Reader<'_>, depth: usize) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::Depth);
    }
    let constructor = reader.take(1)?[0];
    match constructor {
        0 => {
            skip(reader, depth + 1)?;
            skip(reader, depth + 1)
        }
        0xe0 | 0xf0 => skip_array(reader, constructor == 0xf0, depth),
        _ => match reader.plain(constructor)? {
            Value::List(items) | Value::Map(items) => {
                let mut reader = items.reader();
                for _ in 0..items.count {
                    skip(&mut reader, depth + 1)?;
                }
                ended(&reader)
            }
            _ => Ok(()),
        },
    }
}

/// Elements share one constructor. Those that take no bytes may still not be more than the array has.
fn skip_array(reader: &mut Reader<'_>, wide: bool, depth: usize) -> Result<(), Malformed> {
    let Compound { items, count } = reader.compound(wide)?;
    let mut reader = Reader(items);
    let mut constructor = reader.take(1)?[0];
    if constructor == 0 {
        skip(&mut reader, depth + 1)?;
        constructor = reader.take(1)?[0];
    }
    for _ in 0..count {
        match constructor {
            // An array of described values within an array: nobody needs it.
            0 => return Err(Malformed::Depth),
            0xe0 | 0xf0 if depth >= MAX_DEPTH => return Err(Malformed::Depth),
            0xe0 | 0xf0 => skip_array(&mut reader, constructor == 0xf0, depth + 1)?,
            _ => match reader.plain(constructor)? {
                Value::List(items) | Value::Map(items) => {
                    let mut reader = items.reader();
                    for _ in 0..items.count {
                        skip(&mut reader, depth + 2)?;
                    }
                    ended(&reader)?;
                }
                _ => {}
            },
        }
    }
    ended(&reader)
}

fn ended(reader: &Reader<'_>) -> Result<(), Malformed> {
    if reader.is_empty() { Ok(()) } else { Err(Malformed::Size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8]) -> Result<(), Malformed> {
        check_value(&mut Reader(bytes))
    }

    #[test]
    fn declared_sizes_and_counts_are_never_believed() {
        for bytes in [
            &[0xb0, 0xff, 0xff, 0xff, 0xff, 1][..],
            &[0xd0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
            &[0xc0, 2, 200, 0x40],
            &[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
            // A list of nulls that take no bytes at all.
            &[0xe0, 2, 200, 0x40],
            &[0xc0, 3, 1, 0x40, 0x40],
            &[0xa1, 3, b'a'],
            &[0x70, 0, 0],
            &[],
            &[0],
            &[0, 0x53, 0x10],
        ] {
            assert_eq!(check(bytes), Err(Malformed::Size), "{bytes:x?}");
        }
        assert_eq!(check(&[0xff]), Err(Malformed::Constructor(0xff)));
        assert_eq!(check(&[0xa1, 1, 0xff]), Err(Malformed::Text));
        assert_eq!(check(&[0xa3, 2, 0xc3, 0xa4]), Err(Malformed::Text));
    }

    #[test]
    fn depth_is_bounded_for_lists_maps_arrays_and_descriptors() {
        let lists = |depth: usize| {
            let mut bytes = vec![0x40];
            for _ in 0..depth {
                let size = u32::try_from(bytes.len() + 4).unwrap().to_be_bytes();
                bytes = [&[0xd0][..], &size, &[0, 0, 0, 1], &bytes].concat();
            }
            bytes
        };
        assert_eq!(check(&lists(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&lists(MAX_DEPTH + 1)), Err(Malformed::Depth));
        assert_eq!(check(&lists(1_000)), Err(Malformed::Depth));
        assert_eq!(check(&[0; 100_000]), Err(Malformed::Depth));
        let mut arrays = vec![0x40];
        for _ in 0..1_000 {
            let size = u32::try_from(arrays.len() + 4).unwrap().to_be_bytes();
            arrays = [&size[..], &[0, 0, 0, 1, 0xf0], &arrays].concat();
        }
        assert_eq!(check(&[&[0xf0][..], &arrays].concat()), Err(Malformed::Depth));
    }

    #[test]
    fn values_are_read_as_they_were_written() {
        let mut reader = Reader(&[
            0x40, 0x41, 0x42, 0x56, 1, 0x43, 0x52, 7, 0x70, 0, 0, 1, 0, 0x54, 0xff, 0xa1, 2, b'h',
            b'i', 0xa3, 1, b's', 0xa0, 1, 9, 0x45, 0xc1, 5, 2, 0xa3, 1, b'k', 0x41,
        ]);
        let expected = [
            Value::Null,
            Value::Bool(true),
            Value::Bool(false),
            Value::Bool(true),
            Value::Unsigned(0),
            Value::Unsigned(7),
            Value::Unsigned(256),
            Value::Signed(-1),
            Value::String("hi"),
            Value::Symbol("s"),
            Value::Binary(&[9]),
        ];
        for value in expected {
            assert_eq!(reader.value(), Ok(value));
        }
        assert!(matches!(reader.value(), Ok(Value::List(list)) if list.count() == 0));
        let Ok(Value::Map(map)) = reader.value() else { panic!() };
        let mut pairs = Vec::new();
        map.pairs(|key, value| {
            pairs.push((key, value));
            Ok(())
        })
        .unwrap();
        assert_eq!(pairs, [(Value::Symbol("k"), Value::Bool(true))]);
        assert!(reader.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_not_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let whole = check(&bytes).is_ok();
            let mut reader = Reader(&bytes);
            let read = reader.value().is_ok();
            // What was found whole can be read.
            prop_assert!(read || !whole);
        }
    }
}
