//! Which JSON texts the original's reader takes for dates.
//!
//! Such texts are undefined in a condition there, and so here: `$body.time <> 'x'` never passes.

/// ISO 8601 with seconds (`2017-03-09T00:00:00.000Z`) or `/Date(1489017600000)/`.
pub(crate) fn is_date(text: &str) -> bool {
    match text.as_bytes() {
        [b'/', ..] => is_slash_date(text),
        bytes if (19..=40).contains(&bytes.len()) && bytes[10] == b'T' => is_iso(bytes).is_some(),
        _ => false,
    }
}

fn is_slash_date(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("/Date(").and_then(|t| t.strip_suffix(")/")) else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (sign, rest) = inner.split_at(usize::from(inner.starts_with(['-', '+'])));
    let (number, offset) = rest.split_at(rest.find(['+', '-']).unwrap_or(rest.len()));
    format!("{sign}{number}").parse::<i64>().is_ok()
        && (offset.is_empty() || offset.len() == 5 && digits(&offset[1..]))
}

fn is_iso(text: &[u8]) -> Option<()> {
    let number = |from: usize, length: usize| {
        let digits = text.get(from..from + length)?;
        digits
            .iter()
            .try_fold(0_u16, |n, b| b.is_ascii_digit().then(|| n * 10 + u16::from(b - b'0')))
    };
    let is = |at: usize, byte: u8| (text.get(at) == Some(&byte)).then_some(());
    let within = |n: u16, from: u16, to: u16| (from..=to).contains(&n).then_some(());

    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    is(4, b'-')?;
    is(7, b'-')?;
    is(13, b':')?;
    is(16, b':')?;
    within(year, 1, 9999)?;
    within(month, 1, 12)?;
    within(day, 1, days_in_month(year, month))?;
    within(hour, 0, 24)?;
    within(minute, 0, 59)?;
    within(second, 0, 59)?;
    let midnight = hour != 24 || minute == 0 && second == 0;
    midnight.then_some(())?;

    let mut at = 19;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let digits = text[at..].iter().take(7).take_while(|b| b.is_ascii_digit()).count();
        (digits > 0).then_some(())?;
        let zero = text[at..at + digits].iter().all(|b| *b == b'0');
        (hour != 24 || zero).then_some(())?;
        at += digits;
    }
    at += zone_length(&text[at..]);
    (at == text.len()).then_some(())
}

/// Length of `Z`, `+hh`, `+hhmm` or `+hh:mm`.
fn zone_length(text: &[u8]) -> usize {
    let two_digits = |at: usize| {
        text.get(at..at + 2).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
    };
    match text.first() {
        Some(b'Z' | b'z') => 1,
        Some(b'+' | b'-') if two_digits(1) => match text.get(3) {
            Some(b':') if two_digits(4) => 6,
            Some(b':') => 4,
            Some(_) if two_digits(3) => 5,
            _ => 3,
        },
        _ => 0,
    }
}

fn days_in_month(year: u16, month: u16) -> u16 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_recognised_as_the_original_does() {
        for text in [
            "2017-03-09T00:00:00.000Z",
            "2017-03-09T00:00:00",
            "2024-02-29T24:00:00",
            "2017-03-09T10:20:30.1234567+01:00",
            "2017-03-09T10:20:30-0130",
            "2017-03-09T10:20:30+01",
            "/Date(1489017600000)/",
            "/Date(-62135596800000+0100)/",
        ] {
            assert!(is_date(text), "{text}");
        }
        for text in [
            "",
            "2017-03-09",
            "2017-03-09 00:00:00",
            "2023-02-29T00:00:00",
            "2017-13-09T00:00:00",
            "2017-03-09T25:00:00",
            "2017-03-09T24:00:00.5",
            "2017-03-09T10:20:30.12345678",
            "2017-03-09T10:20:30 ",
            "2017-03-09T10:20:30.",
            "ééééééééééTéééééééééé",
            "/Date(x)/",
            "/Date()/",
            "/messages",
        ] {
            assert!(!is_date(text), "{text}");
        }
    }
}
