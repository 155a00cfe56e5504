//! Requests that lie, made from the tables that say what requests look like.
//!
//! Does: write sound requests of every API and version, and damage each in every place where it can lie.
//! Does not: know which damage matters; a lie is written over every byte, counts and lengths among them.
//! Invariants: a frame says its own length rightly; only what is inside lies.
//! Apart because a test that tries all of them and an attack that repeats them need the same.

use flumen_protocol::api_table::ApiRow;
use flumen_protocol::layout::sample::{self, Filling};

use crate::wire::framed;

/// What is written over a place: counts and lengths of both encodings that are negative, largest, or never end.
pub const LIES: [&[u8]; 8] = [
    &[0xff, 0xff, 0xff, 0xfe],       // -2 in 32 bits
    &[0x7f, 0xff, 0xff, 0xff],       // largest in 32 bits
    &[0x80, 0, 0, 0],                // smallest in 32 bits
    &[0xff, 0xfe],                   // -2 in 16 bits
    &[0x7f, 0xff],                   // largest in 16 bits, as of a text
    &[0xff, 0xff, 0xff, 0xff, 0x0f], // largest compact count
    &[0xff, 0xff, 0xff, 0xff, 0x07], // compact, one less than 2^31
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // a number that never ends
];

/// The body of a sound request, with everything in it that may be there.
#[must_use]
pub fn full(row: &ApiRow, version: i16) -> Vec<u8> {
    sample::body(row.key, version, Filling::Full, 1)
}

/// The body of a sound request, with as little in it as may be there.
#[must_use]
pub fn bare(row: &ApiRow, version: i16) -> Vec<u8> {
    sample::body(row.key, version, Filling::Bare, 1)
}

/// A whole frame with the header that this version has, and this body.
#[must_use]
pub fn frame(row: &ApiRow, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let key = row.key.code().to_be_bytes();
    let mut inner = [&key[..], &version.to_be_bytes(), &correlation.to_be_bytes()].concat();
    inner.extend([0, 0]); // an empty client id
    if row.request_is_flexible(version) {
        inner.push(0); // no tagged fields
    }
    inner.extend(body);
    framed(&inner)
}

/// The body cut short, followed by what nobody asked for, and with each of the [`LIES`] in it, at every place that is a
/// multiple of `every`, from `first` on.
pub fn damaged(body: &[u8], first: usize, every: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    let places = move || (first..body.len()).step_by(every);
    let cut = places().map(move |length| body[..length].to_vec());
    let lied = places().flat_map(move |place| LIES.iter().map(move |lie| told(body, place, lie)));
    let longer = [[body, &[0xff; 9]].concat(), body.repeat(3)];
    cut.chain(lied).chain(longer)
}

/// The body with a lie written over a place of it.
fn told(body: &[u8], place: usize, lie: &[u8]) -> Vec<u8> {
    let after = (place + lie.len()).min(body.len());
    [&body[..place], lie, &body[after..]].concat()
}

#[cfg(test)]
mod tests {
    use super::{LIES, bare, damaged, frame, full};
    use flumen_protocol::api_table::TABLE;
    use flumen_protocol::layout::check;

    #[test]
    fn sound_requests_are_sound_and_short_ones_are_not() {
        for row in TABLE {
            for version in row.served.min..=row.served.max {
                for body in [full(row, version), bare(row, version)] {
                    assert_eq!(check(row.key, version, &body), Ok(()), "{} {version}", row.name);
                }
                let body = full(row, version);
                let short = body.len().saturating_sub(1);
                assert!(body.is_empty() || check(row.key, version, &body[..short]).is_err());
            }
        }
    }

    #[test]
    fn every_place_is_lied_about() {
        let body = [1; 12];
        assert_eq!(damaged(&body, 0, 1).count(), 12 * (1 + LIES.len()) + 2);
        assert_eq!(damaged(&body, 3, 4).count(), 3 * (1 + LIES.len()) + 2);
        let told: Vec<Vec<u8>> = damaged(&body, 11, 1).collect();
        assert_eq!(told[1][..11], body[..11]);
        assert_eq!(told[1][11..], *LIES[0], "beyond the end, if need be");
    }

    #[test]
    fn a_frame_says_its_length() {
        let row = &TABLE[0];
        assert_eq!(frame(row, 3, 7, &[9])[..4], 11_i32.to_be_bytes());
        assert_eq!(frame(row, 9, 7, &[9])[..4], 12_i32.to_be_bytes());
    }
}
