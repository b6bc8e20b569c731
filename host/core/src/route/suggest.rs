//! The likely right word for a misspelt one, for error messages and warnings.

/// System properties that a condition can use (`$name`): what clients set and what the hub stamps.
pub const SYSTEM_PROPERTIES: [&str; 18] = [
    "connectionDeviceId",
    "connectionModuleId",
    "connectionDeviceGenerationId",
    "connectionAuthMethod",
    "contentType",
    "contentEncoding",
    "messageId",
    "correlationId",
    "userId",
    "enqueuedTime",
    "inputName",
    "outputName",
    "edgeMessageId",
    "edgeHubOriginInterface",
    "modelId",
    "componentName",
    "messageType",
    "messageSchema",
];

/// The candidate nearest to `word`, when it is near enough to be a slip of the hand.
///
/// Case is ignored; a word of one character suggests nothing. A word that is equal but for its case is returned too.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length < 2 {
        return None;
    }
    // One slip in a short word, up to three in a long one.
    let allowed = (length / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate, allowed), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance with transposition (optimal string alignment), or more than `limit`.
fn distance(left: &str, right: &str, limit: usize) -> usize {
    let left: Vec<char> = left.chars().flat_map(char::to_lowercase).collect();
    let right: Vec<char> = right.chars().flat_map(char::to_lowercase).collect();
    if left.len().abs_diff(right.len()) > limit {
        return limit + 1;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_corrected_and_a_different_word_is_not() {
        let words = ["FROM", "WHERE", "INTO", "starts_with"];
        assert_eq!(closest("FORM", words), Some("FROM"));
        assert_eq!(closest("inot", words), Some("INTO"));
        assert_eq!(closest("start_with", words), Some("starts_with"));
        assert_eq!(closest("temperature", words), None);
        assert_eq!(closest("", words), None);
        assert_eq!(closest("x", ["y"]), None);
    }
}
