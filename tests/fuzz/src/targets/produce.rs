//! Produce, taken apart without copying.
//!
//! Oracle: our splitter and the generic decoder accept the same bytes, but for what each pays for
//! memory, and read the same out of them; ours takes no more memory than it says.

use bytes::{Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::hot::agreement::produce_agrees;
use flumen_protocol::hot::produce::ProduceRequest;
use flumen_protocol::layout;
use flumen_protocol::layout::sample::{self, Filling};
use flumen_protocol::limits::{HOT_BYTES_SLACK, PRODUCE_BYTES_PER_BODY_BYTE};
use flumen_protocol::messages;
use flumen_protocol::wire::read::DecodeErrorKind;

use crate::draw::Draw;
use crate::meter;

/// What sharing a buffer costs, once.
const SHARING_BYTES: usize = 256;

/// A version, then the body.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let served = ApiKey::Produce.row().served;
    let version = served.min + draw.below((served.max - served.min) as usize + 1) as i16;
    let body = draw.rest();
    let frame = BytesMut::from(body);
    let (ours, spent) = meter::spent(|| ProduceRequest::parse(frame, 0, version));
    let paid = PRODUCE_BYTES_PER_BODY_BYTE * body.len() + HOT_BYTES_SLACK + SHARING_BYTES;
    assert!(spent <= paid, "{spent} bytes for a body of {}", body.len());
    match (ours, layout::check(ApiKey::Produce, version, body)) {
        (Ok(ours), Ok(())) => {
            let mut body = Bytes::copy_from_slice(body);
            let theirs = messages::decode_request(ApiKey::Produce, version, &mut body);
            produce_agrees(&ours, &theirs.expect("what passes the check is read"), version);
        }
        (Err(error), Ok(())) | (Ok(_), Err(error)) => {
            assert!(is_about_memory(error.kind), "v{version}: {error}: {body:?}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// Whether a request was refused for what it would cost: each reader has prices of its own.
pub fn is_about_memory(kind: DecodeErrorKind) -> bool {
    matches!(kind, DecodeErrorKind::TooMuchMemory | DecodeErrorKind::TooManyElements)
}

/// A full and a random request of every version.
pub fn seeds() -> Vec<Vec<u8>> {
    of_all_versions(ApiKey::Produce)
}

/// A full and a random request of every version of an API, behind a byte for the version.
pub fn of_all_versions(key: ApiKey) -> Vec<Vec<u8>> {
    let served = key.row().served;
    let body = |version: i16, filling, seed| {
        let place = (version - served.min) as u8;
        [vec![place], sample::body(key, version, filling, seed)].concat()
    };
    let two = |version| [body(version, Filling::Full, 1), body(version, Filling::Random, 5)];
    (served.min..=served.max).flat_map(two).collect()
}
