//! What a socket gives: sizes of frames, and the heads of requests.
//!
//! Oracle: a size is judged by its four bytes and nothing else, and never admits more than the limit;
//! a header is what its bytes say, and its body begins inside the frame.

use flumen_protocol::api_table::{ApiKey, TABLE};
use flumen_protocol::frame::{self, SIZE_BYTES};
use flumen_protocol::header::RequestHeader;
use flumen_protocol::limits::FRAME_BYTES_MAX;

use crate::draw::Draw;

/// A limit, then what arrives.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let limit = draw.one_of(&[0, 1, 100, 1 << 16, FRAME_BYTES_MAX]);
    let stream = draw.rest();
    is_judged_by_its_size(stream, limit);
    let mut rest = stream;
    while let Ok(Some(bytes)) = frame::measure(rest, limit) {
        let Some((frame, after)) = rest.split_at_checked(bytes) else { break };
        is_what_it_says(&frame[SIZE_BYTES..]);
        rest = after;
    }
    is_what_it_says(stream);
}

fn is_judged_by_its_size(stream: &[u8], limit: usize) {
    let judged = frame::measure(stream, limit);
    for arrived in 0..stream.len().min(2 * SIZE_BYTES) {
        let expected = if arrived < SIZE_BYTES { Ok(None) } else { judged };
        assert_eq!(frame::measure(&stream[..arrived], limit), expected);
    }
    if let Ok(Some(bytes)) = judged {
        assert!((SIZE_BYTES..=SIZE_BYTES + limit).contains(&bytes));
    }
}

fn is_what_it_says(payload: &[u8]) {
    match RequestHeader::parse(payload) {
        Ok((header, body)) => {
            assert!((8..=payload.len()).contains(&body));
            let mut told = header.api_key.to_be_bytes().to_vec();
            told.extend(header.version.to_be_bytes());
            told.extend(header.correlation_id.to_be_bytes());
            assert_eq!(told, payload[..8]);
            if let Some(client_id) = header.client_id {
                assert_eq!(client_id.as_bytes(), &payload[10..10 + client_id.len()]);
            }
        }
        Err(error) => assert!(error.at <= payload.len(), "{error}"),
    }
}

/// Every API once, two frames in one stream, and strangers.
pub fn seeds() -> Vec<Vec<u8>> {
    let framed = |key: i16, version: i16, rest: &[u8]| {
        let mut frame = (8 + rest.len() as i32).to_be_bytes().to_vec();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 7]);
        frame.extend(rest);
        frame
    };
    let with_limit = |place: u8, stream: Vec<u8>| [vec![place], stream].concat();
    let mut seeds = vec![
        with_limit(2, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        with_limit(4, vec![0x16, 3, 1, 2, 0, 1]),
        with_limit(4, vec![0xff; 8]),
        with_limit(2, framed(999, -1, &[0, 9, 1])),
    ];
    let two = [framed(18, 3, b"\0\x02me\0"), framed(3, 8, b"\xff\xff\xff\xff\xff\xff")];
    seeds.push(with_limit(3, two.concat()));
    for row in TABLE.iter().filter(|row| row.key != ApiKey::Produce) {
        let tags: &[u8] =
            if row.request_is_flexible(row.served.max) { b"\x01\0\x01x" } else { b"" };
        let rest = [b"\0\x04name", tags].concat();
        seeds.push(with_limit(3, framed(row.key.code(), row.served.max, &rest)));
    }
    seeds
}
