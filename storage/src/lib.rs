//! What the disk holds: journal, segments, recovery.
