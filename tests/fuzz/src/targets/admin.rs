//! The head of a request to the admin listener.
//!
//! Oracle: what is complete stays what it is when more arrives; as many bytes as may come decide.

use flumen_broker::limits::ADMIN_HEAD_BYTES;
use flumen_broker::telemetry::admin::{Mistake, Reading, mistake_response, read_request};

/// What arrived.
pub fn run(input: &[u8]) {
    let reading = read_request(input);
    match reading {
        Reading::Incomplete => assert!(input.len() < ADMIN_HEAD_BYTES),
        Reading::Wanted(_) => assert_eq!(read_request(&[input, b"more"].concat()), reading),
        Reading::Wrong(mistake) => {
            assert!(mistake_response(mistake).starts_with(b"HTTP/1.1 4"));
            let stays = mistake == Mistake::HeadTooLong || input.len() < ADMIN_HEAD_BYTES;
            assert!(stays || read_request(&input[..ADMIN_HEAD_BYTES]) == reading);
        }
    }
    let grown: Vec<u8> = [input, &vec![b'a'; ADMIN_HEAD_BYTES]].concat();
    assert_ne!(read_request(&grown), Reading::Incomplete);
}

/// Both pages, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    let heads: [&[u8]; 7] = [
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /nowhere?x=1 HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /metr",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
    ];
    heads.map(<[u8]>::to_vec).to_vec()
}
