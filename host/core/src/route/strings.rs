//! Text operations as the original's runtime does them: lengths, places and order count UTF-16
//! units; upper and lower case map one character to one, independent of language.

use std::cmp::Ordering;

/// Ordinal order.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    // Bytes of UTF-8 have the order of UTF-16 but for characters beyond the basic plane.
    let beyond = |text: &str| text.bytes().any(|b| b >= 0xF0);
    if left == right {
        Ordering::Equal
    } else if beyond(left) || beyond(right) {
        left.encode_utf16().cmp(right.encode_utf16())
    } else {
        left.cmp(right)
    }
}

/// Length in UTF-16 units.
pub(crate) fn length(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

/// Place of the first occurrence in UTF-16 units.
pub(crate) fn index_of(text: &str, part: &str) -> Option<usize> {
    text.find(part).map(|at| length(&text[..at]))
}

/// The part from `start`, `length` units long; `None` outside of the text or inside a character.
///
/// Places are cut to whole numbers. Without `length` the start may be the end of the text; with it,
/// it must lie before.
pub(crate) fn substring(text: &str, start: f64, wanted: Option<f64>) -> Option<&str> {
    #[expect(clippy::cast_precision_loss, reason = "texts are far shorter than 2^53")]
    let total = length(text) as f64;
    let inside = match wanted {
        None => (0.0..=total).contains(&start),
        Some(wanted) => (0.0..total).contains(&start) && (0.0..=total - start).contains(&wanted),
    };
    if !inside {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie inside of the text"
    )]
    let (start, wanted) = (start as usize, wanted.map(|wanted| wanted as usize));
    let from = byte_at(text, start)?;
    let to = match wanted {
        Some(wanted) => byte_at(text, start + wanted)?,
        None => text.len(),
    };
    text.get(from..to)
}

/// Byte of the UTF-16 unit `unit`; `None` between the two units of one character.
fn byte_at(text: &str, unit: usize) -> Option<usize> {
    if text.is_ascii() {
        return Some(unit);
    }
    let mut units = 0;
    for (at, c) in text.char_indices() {
        if units >= unit {
            return (units == unit).then_some(at);
        }
        units += c.len_utf16();
    }
    (units == unit).then_some(text.len())
}

pub(crate) fn lower(text: &str) -> String {
    map_chars(text, char::to_lowercase)
}

pub(crate) fn upper(text: &str) -> String {
    map_chars(text, char::to_uppercase)
}

fn map_chars<I: Iterator<Item = char>>(text: &str, mapping: fn(char) -> I) -> String {
    text.chars()
        .map(|c| {
            let mut mapped = mapping(c);
            match (mapped.next(), mapped.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        })
        .collect()
}

/// Read a number as the original's `as_number` does: blanks, a sign before or behind, parentheses
/// for a negative number, commas between digits, a decimal point, an exponent, the neutral currency
/// sign, `Infinity` and `NaN`. A number too great becomes infinite.
pub(crate) fn as_number(text: &str) -> Option<f64> {
    let plain = |b: u8| b.is_ascii_digit() || b == b'.';
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(plain) {
        return text.parse().ok();
    }
    let text = text.trim_matches(|c: char| matches!(c, '\t'..='\r' | ' '));
    match text.to_ascii_lowercase().as_str() {
        "infinity" | "+infinity" => return Some(f64::INFINITY),
        "-infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    styled_number(text)
}

fn styled_number(text: &str) -> Option<f64> {
    let mut chars = text.chars().peekable();
    let (mut sign, mut open, mut currency) = (None, false, false);
    loop {
        match chars.peek()? {
            '\t'..='\r' | ' ' => {}
            c @ ('+' | '-') if sign.is_none() && !open => sign = Some(*c),
            '(' if sign.is_none() && !open => open = true,
            '¤' if !currency => currency = true,
            _ => break,
        }
        chars.next();
    }
    let mut digits = String::new();
    let mut point = false;
    while let Some(c) = chars.peek() {
        match c {
            '0'..='9' => digits.push(*c),
            '.' if !point => {
                point = true;
                digits.push('.');
            }
            ',' if !point && !digits.is_empty() => {}
            _ => break,
        }
        chars.next();
    }
    if !digits.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    if chars.next_if(|c| matches!(c, 'e' | 'E')).is_some() {
        digits.push('e');
        digits.extend(chars.next_if(|c| matches!(c, '+' | '-')));
        let before = digits.len();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if digits.len() == before {
            return None;
        }
    }
    let mut closed = false;
    for c in chars {
        match c {
            '\t'..='\r' | ' ' => {}
            '+' | '-' if sign.is_none() && !open => sign = Some(c),
            ')' if open && !closed => closed = true,
            '¤' if !currency => currency = true,
            _ => return None,
        }
    }
    let value: f64 = digits.parse().ok()?;
    let negative = open || sign == Some('-');
    (open == closed).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_utf16_units() {
        assert_eq!(length("aé😀"), 4);
        assert_eq!(index_of("é😀x", "x"), Some(3));
        assert_eq!(substring("é😀x", 1.0, Some(2.0)), Some("😀"));
        assert_eq!(substring("é😀x", 2.0, None), None, "inside a character");
        assert_eq!(compare("\u{FFFD}", "😀"), Ordering::Greater);
    }

    #[test]
    fn substring_keeps_to_the_text() {
        assert_eq!(substring("abc", 3.0, None), Some(""));
        assert_eq!(substring("abc", 4.0, None), None);
        assert_eq!(substring("abc", 3.0, Some(0.0)), None);
        assert_eq!(substring("abc", 1.9, Some(1.0)), Some("b"));
        assert_eq!(substring("abc", -1.0, None), None);
        assert_eq!(substring("abc", 1.0, Some(3.0)), None);
    }

    #[test]
    fn case_maps_one_character_to_one() {
        assert_eq!(upper("straße é"), "STRAßE É");
        assert_eq!(lower("ÀB"), "àb");
    }

    #[test]
    fn numbers_have_all_styles() {
        for (text, value) in [
            ("3", 3.0),
            (" -3.5 ", -3.5),
            ("+3", 3.0),
            ("3-", -3.0),
            ("(3)", -3.0),
            ("1,000.5", 1000.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("10e10", 10e10),
            ("1E-2", 0.01),
            ("10e1000", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("¤ 7", 7.0),
        ] {
            assert_eq!(as_number(text), Some(value), "{text}");
        }
        for text in ["", " ", "value1", "0x10", "1e", "1 2", "--1", "(1", "NaN", "inf", ".", "-"] {
            assert_eq!(as_number(text), None, "{text}");
        }
    }
}
