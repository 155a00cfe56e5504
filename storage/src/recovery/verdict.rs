//! The verdict table: what to make of the place where the next frame of the journal should be.
//!
//! Does: turn one observation into one verdict, row by row (table in the decision notes).
//! Does not: look at bytes or move on; the scan does both.
//! Invariants: nothing that was durable is ever cut; nothing that was not is ever called damaged.
//! Apart because this table is where committed data is lost when it is wrong: it has to be read
//! and tested as a table.

/// What stands where the header should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A header with a right checksum.
    Readable,
    /// Bytes that are no header.
    Unreadable,
    /// Nothing but zeros.
    Zeros,
    /// The file ends before.
    Missing,
}

/// Whether a readable header belongs where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belonging {
    /// This use, this position, the expected sequence, the right predecessor.
    Here,
    /// An earlier use of the file, or another sequence or predecessor than expected: older bytes.
    Older,
    /// Another position or another file.
    Elsewhere,
}

/// One observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What stands there.
    pub header: Header,
    /// Whether it belongs there; only looked at for a readable header.
    pub belonging: Belonging,
    /// Whether the payload is what the header says; only looked at for a header that belongs.
    pub payload_ok: bool,
    /// Whether some watermark proves that the expected frame was durable once.
    pub was_durable: bool,
    /// Whether all traces beyond the place can stem from commits that were under way at the end.
    pub in_flight: bool,
}

/// Why a range is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The header was readable, the payload is not what was written.
    PayloadRot,
    /// The header is unreadable.
    HeaderRot,
    /// Zeros where something durable was.
    LostWrite,
    /// Something older where something durable was.
    StaleWrite,
    /// A frame of another place.
    Misdirected,
    /// The file ends before something durable, or is missing.
    Truncated,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take the frame.
    Accept,
    /// The journal ends here, and nothing of what follows was ever acknowledged.
    End,
    /// As [`Verdict::End`], and something under way left traces: they are cut.
    CutTail,
    /// Acknowledged data is gone: set the range aside, look for the next good frame.
    Damaged(Reason),
    /// Not proven durable, but more than what can have been under way: an operator decides.
    Suspicious,
}

/// The table of FORMAT.md, from top to bottom.
#[must_use]
pub fn judge(place: Observation) -> Verdict {
    let Observation { header, belonging, payload_ok, was_durable, in_flight } = place;
    let unless_durable = |otherwise: Verdict, reason: Reason| {
        if was_durable {
            Verdict::Damaged(reason)
        } else if in_flight {
            otherwise
        } else {
            Verdict::Suspicious
        }
    };
    match (header, belonging) {
        (Header::Readable, Belonging::Here) if payload_ok => Verdict::Accept,
        (Header::Readable, Belonging::Here) => unless_durable(Verdict::CutTail, Reason::PayloadRot),
        (Header::Readable, Belonging::Older) => unless_durable(Verdict::End, Reason::StaleWrite),
        (Header::Readable, Belonging::Elsewhere) => {
            unless_durable(Verdict::CutTail, Reason::Misdirected)
        }
        (Header::Unreadable, _) => unless_durable(Verdict::CutTail, Reason::HeaderRot),
        (Header::Zeros, _) => unless_durable(Verdict::End, Reason::LostWrite),
        (Header::Missing, _) => unless_durable(Verdict::End, Reason::Truncated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// header, belonging, payload ok, was durable, in flight → verdict: every row of the table.
    const TABLE: &[(Header, Belonging, bool, bool, bool, Verdict)] = {
        use Belonging::{Elsewhere, Here, Older};
        use Header::{Missing, Readable, Unreadable, Zeros};
        use Verdict::{Accept, CutTail, Damaged, End, Suspicious};
        &[
            (Readable, Here, true, false, true, Accept),
            (Readable, Here, true, true, true, Accept),
            (Readable, Here, false, false, true, CutTail),
            (Readable, Here, false, true, true, Damaged(Reason::PayloadRot)),
            (Unreadable, Here, false, false, true, CutTail),
            (Unreadable, Here, false, false, false, Suspicious),
            (Unreadable, Here, false, true, false, Damaged(Reason::HeaderRot)),
            (Readable, Older, true, false, true, End),
            (Readable, Older, true, true, true, Damaged(Reason::StaleWrite)),
            (Readable, Elsewhere, true, true, true, Damaged(Reason::Misdirected)),
            (Readable, Elsewhere, true, false, true, CutTail),
            (Zeros, Here, false, false, true, End),
            (Zeros, Here, false, true, true, Damaged(Reason::LostWrite)),
            (Missing, Here, false, false, true, End),
            (Missing, Here, false, true, true, Damaged(Reason::Truncated)),
        ]
    };

    #[test]
    fn every_row_of_the_table_has_its_verdict() {
        for (header, belonging, payload_ok, was_durable, in_flight, verdict) in TABLE {
            let place = Observation {
                header: *header,
                belonging: *belonging,
                payload_ok: *payload_ok,
                was_durable: *was_durable,
                in_flight: *in_flight,
            };
            assert_eq!(judge(place), *verdict, "{place:?}");
        }
    }

    #[test]
    fn every_row_of_the_readme_names_a_test_that_exists() {
        let rows = include_str!("../../README.md").lines().filter(|line| line.starts_with("| "));
        let named = rows.filter_map(|row| row.strip_suffix("` |")?.rsplit('`').next());
        let named: Vec<&str> = named.collect();
        assert_eq!(named.len(), 16, "{named:?}");
        for name in named {
            let test = format!("#[test]\n    fn {name}()");
            assert!(include_str!("scan.rs").contains(&test), "there is no test {name}");
        }
    }

    #[test]
    fn nothing_durable_is_ever_cut() {
        let headers = [Header::Readable, Header::Unreadable, Header::Zeros, Header::Missing];
        for header in headers {
            for belonging in [Belonging::Here, Belonging::Older, Belonging::Elsewhere] {
                for payload_ok in [false, true] {
                    for in_flight in [false, true] {
                        let verdict = judge(Observation {
                            header,
                            belonging,
                            payload_ok,
                            was_durable: true,
                            in_flight,
                        });
                        let kept = matches!(verdict, Verdict::Accept | Verdict::Damaged(_));
                        assert!(kept, "{header:?} {belonging:?}");
                    }
                }
            }
        }
    }
}
