//! Where a key stands in the text of a TOML file.

use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Places of one entry, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its key; of an item of a list, the item.
    pub(super) key: Range<usize>,
    /// Its value.
    pub(super) value: Range<usize>,
}

/// The place of `path`, or of the nearest table above it that stands in the text.
pub(super) fn locate(text: &str, path: &[String]) -> Option<Place> {
    let table = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut at: Option<&DeTable<'_>> = Some(table.get_ref());
    let mut list: Option<&toml::de::DeArray<'_>> = None;
    for name in path {
        let entry = match (at, list) {
            (Some(table), _) => {
                table.iter().find(|(key, _)| key.get_ref() == name).map(|(k, v)| (k.span(), v))
            }
            (None, Some(list)) => {
                name.parse().ok().and_then(|at: usize| list.get(at)).map(|v| (v.span(), v))
            }
            (None, None) => None,
        };
        let Some((key, value)) = entry else { break };
        found = Some(Place { key, value: value.span() });
        (at, list) = match value.get_ref() {
            DeValue::Table(table) => (Some(table), None),
            DeValue::Array(items) => (None, Some(items)),
            _ => (None, None),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_every_way_toml_writes_it() {
        let text = "a.b = 1\nlist = ['x', 'yy']\n[t]\nc = { d = true }\n[t.u]\n'e' = 'é'\n";
        let words = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            locate(text, &path).map(|place| (&text[place.key], &text[place.value]))
        };
        assert_eq!(words(&["a", "b"]), Some(("b", "1")));
        assert_eq!(words(&["list", "1"]), Some(("'yy'", "'yy'")));
        assert_eq!(words(&["t", "c", "d"]), Some(("d", "true")));
        assert_eq!(words(&["t", "u", "e"]), Some(("'e'", "'é'")));
        assert_eq!(words(&["t", "c", "missing"]).unwrap().0, "c");
        assert_eq!(words(&["missing"]), None);
    }
}
