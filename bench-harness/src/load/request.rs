//! How every request begins and ends.
//!
//! Does: write header and size of the requests that are laid out by hand.
//! Does not: know what stands between them.
//! Invariants: what lies between [`begin`] and [`finish`] is a whole frame afterwards.
//! Apart because producing, reading and ending a transaction begin alike.

use bytes::BytesMut;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::wire::Encoding;
use flumen_protocol::wire::write::Writer;

use crate::limits::CLIENT_ID;

const SIZE_BYTES: usize = 4;

/// Empties the frame and writes the header of a request into it; the body follows.
pub fn begin(
    frame: &mut BytesMut,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Writer<'_, BytesMut> {
    frame.clear();
    let mut classic = Writer::new(&mut *frame, Encoding::Classic);
    classic.i32(0);
    classic.i16(key.code());
    classic.i16(version);
    classic.i32(correlation_id);
    classic.nullable_string(Some(CLIENT_ID));
    let encoding = Encoding::of(key.row().request_is_flexible(version));
    let mut writer = Writer::new(frame, encoding);
    writer.end_of_struct();
    writer
}

/// Writes the size of a request that is whole.
///
/// # Panics
/// Above 2 GiB, which no checked scenario reaches.
pub fn finish(frame: &mut BytesMut) {
    let size = i32::try_from(frame.len() - SIZE_BYTES).expect("a checked scenario fits a frame");
    frame[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
}
