//! Every request at every version, from bytes.
//!
//! Oracle: the layout check takes no heap; what passes it the generic decoder reads, with no more
//! memory than was paid for; what was read and is written again passes the check to its last byte
//! and is read back equal.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use flumen_protocol::api_table::{ApiKey, TABLE};
use flumen_protocol::layout;
use flumen_protocol::layout::sample::{self, Filling};
use flumen_protocol::limits::{
    DECODED_BYTES_MAX, DECODED_BYTES_PER_BODY_BYTE, DECODED_BYTES_SLACK,
};
use flumen_protocol::messages::{self, Request};
use flumen_protocol::wire::read::DecodeErrorKind;

use crate::draw::Draw;
use crate::{meter, typed};

/// An API and a version, then the body.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (key, version) = draw.api();
    let body = draw.rest();
    let (verdict, spent) = meter::spent(|| layout::check(key, version, body));
    assert_eq!(spent, 0, "the walk takes no heap");
    match verdict {
        Ok(()) => typed!(key, is_read_and_written(key, version, body)),
        Err(error) => assert!(error.at <= body.len(), "{error}"),
    }
}

fn is_read_and_written<T: Request + PartialEq + Debug>(key: ApiKey, version: i16, body: &[u8]) {
    let mut rest = Bytes::copy_from_slice(body);
    let (read, spent) = meter::spent(|| messages::decode_request::<T>(key, version, &mut rest));
    let request = read.expect("what passes the check is read");
    let paid = DECODED_BYTES_PER_BODY_BYTE * body.len() + DECODED_BYTES_SLACK;
    assert!(spent <= paid.min(DECODED_BYTES_MAX), "{spent} bytes for a body of {}", body.len());
    let mut again = BytesMut::new();
    request.encode(&mut again, version).expect("what was read can be written");
    // The codec counts unknown tags beyond 2^31 and does not write them; no broker writes requests.
    if request.compute_size(version).ok() != Some(again.len()) {
        return;
    }
    if is_walked_to_its_end(key, version, &again) {
        let read = messages::decode_request::<T>(key, version, &mut again.freeze());
        // A number that is none, as a quota may be, equals nothing but what is printed alike.
        let is_equal = read.as_ref() == Ok(&request)
            || format!("{read:?}") == format!("{:?}", Ok::<_, ()>(&request));
        assert!(is_equal, "{key:?} v{version}: {request:?} is read back as {read:?}");
    }
}

/// Whether the check can say: a body written anew may be shorter than the one it was read from, and
/// pay for less.
///
/// # Panics
/// When the check refuses it, or would pass a part of it.
pub fn is_walked_to_its_end(key: ApiKey, version: i16, body: &[u8]) -> bool {
    match layout::check(key, version, body) {
        Ok(()) => {}
        Err(error) if error.kind == DecodeErrorKind::TooMuchMemory => return false,
        Err(error) => panic!("{key:?} v{version}: {error}: {body:?}"),
    }
    if let Some((_, part)) = body.split_last() {
        let verdict = layout::check(key, version, part);
        assert!(verdict.is_err(), "{key:?} v{version} ends before its last byte: {body:?}");
    }
    true
}

/// A full request of every API at its highest version.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |(place, row): (usize, &flumen_protocol::api_table::ApiRow)| {
        let version = (row.served.max - row.served.min) as u8;
        let body = sample::body(row.key, row.served.max, Filling::Random, 3 + place as u64);
        [vec![place as u8, version], body].concat()
    };
    TABLE.iter().enumerate().map(seed).collect()
}
