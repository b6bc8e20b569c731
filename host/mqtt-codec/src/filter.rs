//! Topic filters: their syntax, and which topics they match (MQTT 3.1.1, section 4.7).

use bytes::Bytes;

use crate::text::checked_text;
use crate::{Error, Text};

/// A topic filter with correct wildcards: `+` for one level, `#` for all that follow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Text);

impl TopicFilter {
    /// Checks the bytes of a field that begins at byte `at` of its packet.
    pub(crate) fn from_field(field: Bytes, at: usize) -> Result<Self, Error> {
        let text = Text::from_field(field, at)?;
        check(text.as_bytes(), at)?;
        Ok(Self(text))
    }
}

/// Whether `filter` matches `topic`, byte for byte, level by level.
///
/// `sport/#` matches `sport` too (section 4.7.1.2). A filter that begins with a wildcard matches no
/// topic that begins with `$` [MQTT-4.7.2-1]. Arguments are taken to be a correct filter and name;
/// for others the answer means nothing.
#[must_use]
pub fn matches(filter: impl AsRef<[u8]>, topic: impl AsRef<[u8]>) -> bool {
    let (filter, topic) = (filter.as_ref(), topic.as_ref());
    if topic.starts_with(b"$") && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let mut levels = topic.split(|byte| *byte == b'/');
    for wanted in filter.split(|byte| *byte == b'/') {
        if wanted == b"#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == b"+" || wanted == level => {}
            Some(_) | None => return false,
        }
    }
    levels.next().is_none()
}

fn check(filter: &[u8], at: usize) -> Result<(), Error> {
    if filter.is_empty() {
        return Err(Error::FilterEmpty);
    }
    let mut begin = 0;
    for level in filter.split(|byte| *byte == b'/') {
        let end = begin + level.len();
        match level.iter().position(|byte| matches!(byte, b'+' | b'#')) {
            Some(place) if level[place] == b'+' && level.len() > 1 => {
                return Err(Error::FilterPlus { at: at + begin + place });
            }
            Some(place) if level[place] == b'#' && (level.len() > 1 || end < filter.len()) => {
                return Err(Error::FilterHash { at: at + begin + place });
            }
            Some(_) | None => {}
        }
        begin = end + 1;
    }
    Ok(())
}

checked_text!(TopicFilter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_standard_match_as_it_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/#", "sport", true),
            ("sport/#", "spor", false),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/a", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/a", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/#", "a/$b", true),
            ("ACCOUNTS", "Accounts", false),
            ("/finance", "finance", false),
            ("a/b", "a/b/", false),
            ("+/+/#", "a", false),
            ("é/+", "é/ü", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn misplaced_wildcards_are_refused_where_they_stand() {
        for (filter, error) in [
            ("", Error::FilterEmpty),
            ("sport/tennis#", Error::FilterHash { at: 12 }),
            ("sport/tennis/#/ranking", Error::FilterHash { at: 13 }),
            ("#/", Error::FilterHash { at: 0 }),
            ("##", Error::FilterHash { at: 0 }),
            ("a/+#", Error::FilterPlus { at: 2 }),
            ("a/#+", Error::FilterHash { at: 2 }),
            ("sport+", Error::FilterPlus { at: 5 }),
            ("++/a", Error::FilterPlus { at: 0 }),
            ("a/\0", Error::NullCharacter { at: 2 }),
        ] {
            assert_eq!(filter.parse::<TopicFilter>().unwrap_err(), error, "{filter:?}");
        }
    }

    #[test]
    fn correct_filters_are_taken() {
        for filter in ["#", "+", "/", "+/tennis/#", "sport/+/player1", "/+", "$SYS/#", "a//b"] {
            assert_eq!(filter.parse::<TopicFilter>().unwrap().as_str(), filter);
        }
    }
}
