//! Small records on disk: the node record, the journal's watermark, the headers of its frames.
//!
//! Oracle: what is read and written again is read back equal, whether its checksum was right from the
//! start or made right here.

use bytes::Bytes;
use flumen_protocol::ids::{CoreId, NodeId};
use flumen_storage::format::frame::{
    FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_VERSION, FrameHeader, HeaderVerdict, OPENING_BYTES,
    Opening,
};
use flumen_storage::format::node::{Identity, NODE_MAGIC, NODE_VERSION, NodeRecord};
use flumen_storage::format::slots::{self, SLOT_FILE_BYTES, SlotWrite};
use flumen_storage::format::watermark::{WATERMARK_MAGIC, WATERMARK_VERSION, Watermark};

use crate::draw::Draw;

/// Who owns the files of every target about disks.
pub const IDENTITY: Identity =
    Identity { cluster: [7; 16], node: NodeId(1), core: CoreId(0), incarnation: 9 };

/// Which of them, whether to mend it, then its bytes.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    match draw.below(6) {
        0 => node(draw.rest()),
        1 => node(&in_slots(NODE_MAGIC, NODE_VERSION, &mut draw)),
        2 => watermark(draw.rest()),
        3 => watermark(&in_slots(WATERMARK_MAGIC, WATERMARK_VERSION, &mut draw)),
        4 => frame(draw.rest()),
        _ => mended_frame(draw.rest()),
    }
}

/// A file of two copies, both with right checksums.
fn in_slots(magic: [u8; 4], version: u16, draw: &mut Draw<'_>) -> Vec<u8> {
    let mut file = vec![0; SLOT_FILE_BYTES as usize];
    for _ in 0..2 {
        let generation = u64::from(draw.byte());
        let version = if draw.byte() == u8::MAX { version + 1 } else { version };
        let length = usize::from(draw.byte());
        let SlotWrite { at, bytes } = slots::encode(magic, version, generation, draw.slice(length));
        file[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
    }
    file
}

fn placed(write: &SlotWrite) -> Vec<u8> {
    let mut file = vec![0; SLOT_FILE_BYTES as usize];
    file[write.at as usize..write.at as usize + write.bytes.len()].copy_from_slice(&write.bytes);
    file
}

fn node(file: &[u8]) {
    let Ok(Some((record, generation))) = NodeRecord::decode(file) else { return };
    let again = NodeRecord::decode(&placed(&record.encode(generation)));
    assert!(again.is_ok_and(|found| found == Some((record, generation))));
}

fn watermark(file: &[u8]) {
    let Ok(Some(found)) = Watermark::decode(&IDENTITY, file) else { return };
    let again = Watermark::decode(&IDENTITY, &placed(&found.encode(&IDENTITY)));
    assert!(again.is_ok_and(|again| again == Some(found)));
}

fn mended_frame(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= FRAME_HEADER_BYTES {
        bytes[..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4..6].copy_from_slice(&FRAME_VERSION.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..FRAME_HEADER_BYTES - 4]);
        bytes[FRAME_HEADER_BYTES - 4..FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    frame(&bytes);
}

fn frame(bytes: &[u8]) {
    let HeaderVerdict::Readable(header, _) = FrameHeader::decode(bytes) else { return };
    let (written, checksum) = header.encode();
    assert_eq!(FrameHeader::decode(&written), HeaderVerdict::Readable(header, checksum));
    let payload = Bytes::copy_from_slice(&bytes[FRAME_HEADER_BYTES..]);
    if let Some(content) = header.content(payload) {
        let told = FrameHeader::of(header.log, &content);
        assert_eq!((told.kind, told.log), (header.kind, header.log));
        assert!(content.payload_len() == content.payload().len());
    }
    if let Some(opening) = Opening::decode(&bytes[FRAME_HEADER_BYTES..]) {
        assert_eq!(Opening::decode(&opening.encode()), Some(opening));
        assert!(bytes.len() >= FRAME_HEADER_BYTES + OPENING_BYTES);
    }
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let record = NodeRecord {
        cluster: IDENTITY.cluster,
        node: IDENTITY.node,
        core_count: 2,
        incarnation: IDENTITY.incarnation,
        taking_over: false,
    };
    let watermark = Watermark { generation: 3, durable: 100, floor: 7, counter: 2, manifest: 5 };
    let written = record.encode(3).bytes;
    let copy = |which: u8, bytes: &[u8]| {
        let body = &bytes[slots::SLOT_HEADER_BYTES..];
        [&[which, 3, 0, body.len() as u8][..], body].concat()
    };
    let watermark_bytes = watermark.encode(&IDENTITY).bytes;
    let opening = FrameHeader::opening().encode().0;
    vec![
        [&[0][..], &written].concat(),
        copy(1, &written),
        [&[2][..], &watermark_bytes].concat(),
        copy(3, &watermark_bytes),
        [&[4][..], &opening, &[7; OPENING_BYTES]].concat(),
        [&[5][..], &opening, b"payload"].concat(),
    ]
}
