//! The nearest known name to one that nobody knows.
//!
//! Does: edit distance over a list of names. Does not: accept anything by guessing.
//! Apart because it is the one piece of the loader that is an algorithm.

/// The known name that takes the fewest edits to reach, if it is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters: `log.retention.hour` finds its neighbour, `foo` finds nothing.
    let limit = name.chars().count() / 3;
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(edits, _)| *edits <= limit)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements between two texts (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["log.retention.hours", "log.retention.minutes", "num.partitions"];

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert_eq!(nearest("log.retension.hours", KNOWN.into_iter()), Some("log.retention.hours"));
        assert_eq!(nearest("num.partition", KNOWN.into_iter()), Some("num.partitions"));
    }

    #[test]
    fn something_else_altogether_gets_no_advice() {
        assert_eq!(nearest("favourite.colour", KNOWN.into_iter()), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
