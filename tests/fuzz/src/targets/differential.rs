//! What the generic codec writes, our tables walk to the last byte.
//!
//! Oracle: any request, at any version we serve, that the generic codec writes passes the layout check,
//! which ends at its last byte, and is read back equal. Also at another version than the one it was
//! made for, where the codec can say it there.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::layout::{self, sample};
use flumen_protocol::messages::{self, Request};
use flumen_protocol::wire::read::DecodeErrorKind;

use super::request::is_walked_to_its_end;
use crate::draw::Draw;
use crate::typed;

/// An API, a version, another one, then what the request says.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let (key, version) = draw.api();
    let served = key.row().served;
    let count = usize::from((served.max - served.min).unsigned_abs()) + 1;
    let other = served.min + draw.below(count) as i16;
    let body = sample::body_of(key, version, &mut draw);
    typed!(key, means_the_same_to_both(key, version, other, body));
}

fn means_the_same_to_both<T: Request + PartialEq + Debug>(
    key: ApiKey,
    version: i16,
    other: i16,
    body: Vec<u8>,
) {
    if !is_walked_to_its_end(key, version, &body) {
        return;
    }
    let request = messages::decode_request::<T>(key, version, &mut Bytes::from(body));
    let request = request.expect("what passes the check is read");
    let mut written = BytesMut::new();
    request.encode(&mut written, version).expect("what was read can be written");
    if is_walked_to_its_end(key, version, &written) {
        let read = messages::decode_request::<T>(key, version, &mut written.clone().freeze());
        let read = read.expect("what was written is read");
        // A quota that is no number (NaN) is not even like itself: then only what is written counts.
        let mut again = BytesMut::new();
        read.encode(&mut again, version).expect("what was read can be written");
        assert!(read == request || again == written, "{key:?} v{version}: {read:?}");
    }
    let mut elsewhere = BytesMut::new();
    if other != version && request.encode(&mut elsewhere, other).is_ok() {
        is_read_there::<T>(key, other, &elsewhere);
    }
}

/// What another version leaves out is gone; the rest must stay what it is.
fn is_read_there<T: Request + PartialEq + Debug>(key: ApiKey, version: i16, written: &[u8]) {
    // Below the version that allows null the codec is laxer than Kafka and the tables.
    let verdict = layout::check(key, version, written);
    if verdict.is_err_and(|error| error.kind == DecodeErrorKind::UnexpectedNull) {
        return;
    }
    if is_walked_to_its_end(key, version, written) {
        let mut rest = Bytes::copy_from_slice(written);
        let request = messages::decode_request::<T>(key, version, &mut rest);
        let mut again = BytesMut::new();
        let request = request.expect("what passes the check is read");
        request.encode(&mut again, version).expect("what was read can be written");
        assert_eq!(again[..], *written, "{key:?} v{version}");
    }
}

/// Choices by chance, a few for every API.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut dice = sample::Dice::new(7);
    let chosen = |key: u8| -> Vec<u8> {
        let chance = (0..160).map(|_| dice.below(256) as u8);
        [key, 0].into_iter().chain(chance).collect()
    };
    (0..32).map(chosen).collect()
}
