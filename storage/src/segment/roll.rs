//! When a segment is closed and the next one begun.
//!
//! Does: judge one batch against the growing segment.
//! Does not: write.
//! Invariants: an empty segment is never closed, so a batch larger than `segment.bytes` gets a
//! segment of its own.
//! Apart because the rule is Kafka's and is tested by itself.

use flumen_protocol::entry::Records;

use super::segment::Segment;
use crate::answers::LogSettings;
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_OFFSETS_MAX};

/// Whether `segment` must be closed before `batch` is written.
#[must_use]
pub fn due(segment: &Segment, batch: &Records, settings: &LogSettings) -> bool {
    let limit = settings.segment_bytes.min(SEGMENT_BYTES_MAX);
    let too_large = segment.length + batch.bytes.len() as u64 > limit;
    let too_wide = batch.last_offset.0 - segment.base.0 > SEGMENT_OFFSETS_MAX;
    let timed = segment.first_timestamp >= 0 && batch.max_timestamp >= 0;
    let span = batch.max_timestamp.saturating_sub(segment.first_timestamp);
    let too_long = timed && settings.segment_ms.is_some_and(|limit| span > limit);
    too_large || too_wide || too_long
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flumen_protocol::ids::Offset;

    use super::*;
    use crate::testing::segment_of;

    #[test]
    fn size_time_and_width_close_a_segment() {
        let segment = Segment { length: 90, first_timestamp: 10, ..segment_of(0, 5, 10) };
        let batch = |last: i64, time: i64| Records {
            base_offset: Offset(5),
            last_offset: Offset(last),
            max_timestamp: time,
            bytes: Bytes::from_static(&[0; 10]),
        };
        let mut settings = LogSettings { segment_bytes: 100, ..LogSettings::KEEP_ALL };
        assert!(!due(&segment, &batch(5, 10), &settings));
        assert!(due(&segment, &batch(SEGMENT_OFFSETS_MAX + 1, 10), &settings));
        settings.segment_ms = Some(5);
        assert!(!due(&segment, &batch(5, 15), &settings));
        assert!(due(&segment, &batch(5, 16), &settings));
        assert!(!due(&segment, &batch(5, -1), &settings));
        settings.segment_bytes = 99;
        assert!(due(&segment, &batch(5, 10), &settings));
    }
}
