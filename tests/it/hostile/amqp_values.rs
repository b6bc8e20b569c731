//! Values that are no values: sizes, counts, constructors, texts and nesting, in the places where a client
//! can put any value.

use super::amqp::{
    ATTACH, Bytes, OPEN, Openings, TRANSFER, attach, binary, bool, described, frame, list, map,
    null, performative, string, symbol, uint,
};
use super::{Case, End, Said};

fn closed() -> End {
    End::Closed(Said::That(|_| true))
}

pub(crate) fn cases(o: &Openings) -> Vec<Case> {
    let mut cases = Vec::new();
    let rule = "AMQP 1.6, 1.2";
    for (name, value) in values() {
        let properties = map(&[symbol("p"), value.clone()]);
        let fields =
            [&vec![string("x"); 1][..], &vec![null(); 8], std::slice::from_ref(&properties)]
                .concat();
        let bytes = performative(0, OPEN, &fields);
        cases.push(Case::new(format!("{name} in an open"), rule, &o.header, bytes, closed()));
        let fields = [&[string("x"), uint(0), bool(false)][..], &vec![null(); 10], &[properties]];
        let bytes = performative(0, ATTACH, &fields.concat());
        cases.push(Case::new(format!("{name} in an attach"), rule, &o.begun, bytes, closed()));
    }
    for (name, body) in bodies() {
        let before = Case::new(
            format!("{name} as the first frame"),
            rule,
            &o.header,
            frame(0, &body),
            closed(),
        );
        cases.push(before);
        cases.push(Case::new(
            format!("{name} in a session"),
            rule,
            &o.begun,
            frame(0, &body),
            closed(),
        ));
    }
    // The attach is right, and then a transfer is not.
    for (name, body) in [
        ("a transfer whose list is cut", vec![0x00, 0x53, TRANSFER, 0xc0, 0x20, 0x05]),
        ("a transfer that is a map", described(TRANSFER, map(&[]))),
        (
            "a transfer whose descriptor is a string",
            [vec![0x00], string("amqp:transfer:list"), list(&[])].concat(),
        ),
    ] {
        let bytes = [attach("x", 0, false, "$cbs"), frame(0, &body)].concat();
        cases.push(Case::new(name, rule, &o.begun, bytes, closed()));
    }
    cases
}

/// As many of these one inside the other.
fn nested(depth: usize, wrap: impl Fn(Bytes) -> Bytes) -> Bytes {
    (0..depth).fold(null(), |inner, _| wrap(inner))
}

/// No value, each wrong in one way.
fn values() -> Vec<(String, Bytes)> {
    let mut rows: Vec<(String, Bytes)> = [
        0x01u8, 0x3f, 0x46, 0x4f, 0x58, 0x5f, 0x62, 0x75, 0x86, 0x99, 0xa2, 0xa4, 0xb2, 0xb4, 0xc2,
        0xd2, 0xe1, 0xf1, 0xff,
    ]
    .map(|constructor| {
        (format!("the constructor {constructor:#04x}"), vec![constructor, 0, 0, 0, 0])
    })
    .into();
    let more: Vec<(&str, Bytes)> = vec![
        ("a string longer than its frame", vec![0xa1, 200, b'x']),
        ("a string of 4 GiB", vec![0xb1, 255, 255, 255, 255, b'x']),
        ("a string that is not UTF-8", string(b"a\xff")),
        ("a string with a surrogate", string(b"\xed\xa0\x80")),
        ("a string with an overlong slash", string(b"\xc0\xaf")),
        ("a symbol that is not ASCII", symbol("ü")),
        ("a symbol of 4 GiB", vec![0xb3, 255, 255, 255, 255]),
        ("bytes of 4 GiB", vec![0xb0, 255, 255, 255, 255, 1]),
        ("bytes of 2 GiB", vec![0xb0, 127, 255, 255, 255, 1]),
        ("a list larger than its frame", vec![0xc0, 200, 1, 0x40]),
        ("a list of 4 G items", vec![0xd0, 0, 0, 0, 5, 255, 255, 255, 255, 0x40]),
        ("a list of 4 GiB", vec![0xd0, 255, 255, 255, 255, 0, 0, 0, 1, 0x40]),
        ("a list with fewer items than it says", vec![0xc0, 2, 3, 0x40]),
        ("a list with more items than it says", vec![0xc0, 3, 1, 0x40, 0x40]),
        ("a list smaller than its count", vec![0xd0, 0, 0, 0, 2, 0, 0, 0, 1]),
        ("a map of 4 G pairs", vec![0xd1, 0, 0, 0, 5, 255, 255, 255, 254, 0x40]),
        ("a map with half a pair", vec![0xc1, 2, 1, 0x40]),
        ("a map larger than its frame", vec![0xc1, 250, 2, 0x40, 0x40]),
        ("an array of 4 G nulls", vec![0xf0, 0, 0, 0, 5, 255, 255, 255, 255, 0x40]),
        ("an array of 4 G empty lists", vec![0xf0, 0, 0, 0, 5, 255, 255, 255, 255, 0x45]),
        ("an array of 255 numbers in a byte", vec![0xe0, 3, 255, 0x50, 1]),
        ("an array of an unknown type", vec![0xe0, 3, 1, 0x0f, 1]),
        ("an array without a constructor", vec![0xe0, 1, 1]),
        ("an array of described nothing", vec![0xe0, 2, 1, 0x00]),
        ("an array larger than its frame", vec![0xf0, 0, 1, 0, 0, 0, 0, 0, 1, 0x50, 1]),
        ("a number cut short", vec![0x70, 1]),
        ("a uuid cut short", vec![0x98, 1, 2, 3]),
        ("a decimal cut short", vec![0x94, 1]),
        ("a descriptor and nothing", vec![0x00]),
        ("a descriptor without a value", vec![0x00, 0x53, 0x70]),
        ("a descriptor of 4 GiB", vec![0x00, 0xb3, 255, 255, 255, 255]),
    ];
    rows.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    for depth in [33, 100, 1_000] {
        rows.push((format!("{depth} lists in each other"), nested(depth, |inner| list(&[inner]))));
        rows.push((
            format!("{depth} maps in each other"),
            nested(depth, |inner| map(&[null(), inner])),
        ));
        rows.push((
            format!("{depth} described values in each other"),
            nested(depth, |inner| described(1, inner)),
        ));
    }
    rows.push(("12,000 descriptors of descriptors".to_owned(), vec![0x00; 12_000]));
    rows.push(("3,000 arrays in each other".to_owned(), [0xe0, 200, 1].repeat(3_000)));
    rows
}

/// What is no performative.
fn bodies() -> Vec<(String, Bytes)> {
    let mut rows: Vec<(String, Bytes)> = [0x00u8, 0x09, 0x0f, 0x19, 0x1d, 0x24, 0x41, 0x70, 0xff]
        .map(|code| (format!("the code {code:#04x}"), described(code, list(&[string("x")]))))
        .into();
    let open = |value: Bytes| described(OPEN, value);
    let more: Vec<(&str, Bytes)> = vec![
        ("a null", null()),
        ("a list", list(&[string("x")])),
        ("a string", string("x")),
        ("an open that is a map", open(map(&[]))),
        ("an open that is a string", open(string("x"))),
        ("an open that is null", open(null())),
        ("an open that is an array", open(vec![0xe0, 3, 1, 0xa1, 0])),
        ("a code of 64 bits", [vec![0x00, 0x80], vec![0xff; 8], list(&[])].concat()),
        (
            "a code of another vendor",
            [vec![0x00, 0x80, 0, 0, 0, 1, 0, 0, 0, OPEN], list(&[string("x")])].concat(),
        ),
        (
            "a code that is a symbol unknown to all",
            [vec![0x00], symbol("amqp:nonsense:list"), list(&[])].concat(),
        ),
        (
            "a code that is text",
            [vec![0x00], string("amqp:open:list"), list(&[string("x")])].concat(),
        ),
        ("a code that is bytes", [vec![0x00], binary([OPEN]), list(&[string("x")])].concat()),
        ("a code that is negative", [vec![0x00, 0x55, 0xf0], list(&[string("x")])].concat()),
        ("a code that is a list", [vec![0x00], list(&[]), list(&[string("x")])].concat()),
        ("a code that is described", [vec![0x00], described(OPEN, null()), list(&[])].concat()),
        (
            "two performatives in a frame",
            [open(list(&[string("x")])), open(list(&[string("x")]))].concat(),
        ),
        ("noise", (0..200u8).map(|n| n.wrapping_mul(37) ^ 0xa5).collect()),
    ];
    rows.extend(more.into_iter().map(|(name, body)| (name.to_owned(), body)));
    rows
}
