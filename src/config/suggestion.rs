//! What an unknown key was probably meant to be.

/// The known word nearest to `word`, if one is near enough to be a slip of the keyboard.
pub(super) fn closest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    // Chosen: one slip in three letters; beyond that a suggestion is noise.
    let most = (word.chars().count() / 3).max(1);
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: inserted, removed and replaced letters.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (other, above) in to.chars().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(other != letter);
            left = replaced.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (from, to, expected) in
            [("", "", 0), ("abc", "abc", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["listen", "workers", "max_in_flight"];
        assert_eq!(closest("lisen", &known), Some("listen"));
        assert_eq!(closest("max_inflight", &known), Some("max_in_flight"));
        assert_eq!(closest("password", &known), None);
    }
}
