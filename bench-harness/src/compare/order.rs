//! Who runs when.
//!
//! Does: put the runs of all pairs into an order that no steady drift of the machine favours.
//! Does not: run anything.
//! Invariants: every pair holds every system once; with two systems the order is ABBA BAAB.
//! Apart because fairness is worth proving without a clock.

/// The systems of each pair, by their place, in the order in which they run: every second pair is
/// the mirror image of the one before, and each such couple begins one system further. `first` says
/// which system begins, so that of many comparisons with one pair not all begin with the same.
#[must_use]
pub fn order(systems: usize, pairs: u32, first: usize) -> Vec<Vec<usize>> {
    (0..pairs as usize)
        .map(|pair| {
            let mut row: Vec<usize> = (0..systems).collect();
            row.rotate_left((first + pair / 2) % systems.max(1));
            if pair % 2 == 1 {
                row.reverse();
            }
            row
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(systems: usize, pairs: u32) -> String {
        written_from(systems, pairs, 0)
    }

    fn written_from(systems: usize, pairs: u32, first: usize) -> String {
        let word = |row: Vec<usize>| row.into_iter().map(|s| (b'A' + s as u8) as char).collect();
        let words: Vec<String> = order(systems, pairs, first).into_iter().map(word).collect();
        words.join(" ")
    }

    #[test]
    fn two_systems_alternate_in_mirrors() {
        assert_eq!(written(2, 4), "AB BA BA AB");
        assert_eq!(written(2, 8), "AB BA BA AB AB BA BA AB");
    }

    #[test]
    fn more_systems_rotate_and_none_is_favoured() {
        assert_eq!(written(3, 4), "ABC CBA BCA ACB");
        for systems in 2..6 {
            let rows = order(systems, 2 * systems as u32, 1);
            for system in 0..systems {
                let places: usize =
                    rows.iter().filter_map(|row| row.iter().position(|s| *s == system)).sum();
                assert_eq!(places, systems * (systems - 1), "{systems} systems, {system}");
            }
        }
    }

    #[test]
    fn another_system_may_begin() {
        assert_eq!(written_from(4, 1, 2), "CDAB");
        assert_eq!(written_from(2, 2, 3), "BA AB");
    }

    #[test]
    fn a_system_may_run_against_itself() {
        assert_eq!(written(1, 2), "A A");
        assert!(order(2, 0, 0).is_empty());
    }
}
