//! Fetch, read by hand.
//!
//! Oracle: what both our parser and the layout check accept means the same to the generic decoder; ours
//! refuses besides only what would cost too much, and isolation levels nobody knows; it takes no more
//! memory than it says.

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::hot::agreement::fetch_agrees;
use flumen_protocol::hot::fetch::FetchRequest;
use flumen_protocol::layout;
use flumen_protocol::limits::{FETCH_BYTES_PER_BODY_BYTE, HOT_BYTES_SLACK};
use flumen_protocol::messages;

use super::produce::{is_about_memory, of_all_versions};
use crate::draw::Draw;
use crate::meter;

/// A version, then the body.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let served = ApiKey::Fetch.row().served;
    let version = served.min + draw.below((served.max - served.min) as usize + 1) as i16;
    let body = draw.rest();
    let (ours, spent) = meter::spent(|| FetchRequest::parse(body, version));
    let paid = FETCH_BYTES_PER_BODY_BYTE * body.len() + HOT_BYTES_SLACK;
    assert!(spent <= paid, "{spent} bytes for a body of {}", body.len());
    // The walk is stricter where followers' tagged fields are malformed.
    if layout::check(ApiKey::Fetch, version, body).is_err() {
        return;
    }
    match ours {
        Ok(ours) => {
            let mut body = Bytes::copy_from_slice(body);
            let theirs = messages::decode_request(ApiKey::Fetch, version, &mut body);
            fetch_agrees(&ours, &theirs.expect("what passes the check is read"), version);
        }
        Err(error) => {
            let expected = is_about_memory(error.kind) || error.what == "isolation_level";
            assert!(expected, "v{version}: {error}: {body:?}");
        }
    }
}

/// A full and a random request of every version.
pub fn seeds() -> Vec<Vec<u8>> {
    of_all_versions(ApiKey::Fetch)
}
