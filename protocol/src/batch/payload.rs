//! The records of one batch as they lie in memory, and how that memory is given back.
//!
//! Does: be read like any bytes, whether they are a part of their batch or were inflated; give back what
//! they were inflated to a piece at a time.
//! Does not: know what is in them.
//! Invariants: what is being given back is empty.
//! Apart because the kernel takes large memory back at seventy microseconds a mebibyte: who inflated a
//! bomb in pieces would stop everybody for five milliseconds when it is dropped.

use bytes::Bytes;

/// Bytes of memory that are as much work to give back as one byte is to inflate.
const GIVEN_BACK_PER_WORK: usize = 8;

/// Records of one batch.
#[derive(Debug)]
pub enum Payload {
    /// They are a part of their batch.
    Part(Bytes),
    /// They were inflated.
    Inflated(Vec<u8>),
}

impl Payload {
    /// No records.
    #[must_use]
    pub fn none() -> Self {
        Self::Part(Bytes::new())
    }

    /// Gives memory back for so many bytes of work, and takes off what it did. The records are gone
    /// from the first call on. Says whether all of it was given back.
    pub fn give_back(&mut self, work_bytes: &mut usize) -> bool {
        let memory = match self {
            Self::Part(part) => {
                part.clear();
                return true;
            }
            Self::Inflated(memory) => memory,
        };
        memory.clear();
        while memory.capacity() > 0 && *work_bytes > 0 {
            let piece = memory.capacity().min(work_bytes.saturating_mul(GIVEN_BACK_PER_WORK));
            memory.shrink_to(memory.capacity() - piece);
            *work_bytes -= piece.div_ceil(GIVEN_BACK_PER_WORK);
        }
        memory.capacity() == 0
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Part(part) => part,
            Self::Inflated(inflated) => inflated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_a_piece_at_a_time() {
        let mut payload = Payload::Inflated(vec![7; 10_000]);
        for left in [6_000, 2_000] {
            let mut work_bytes = 500;
            assert!(!payload.give_back(&mut work_bytes));
            let Payload::Inflated(memory) = &payload else { panic!("it stays what it is") };
            assert_eq!((memory.len(), memory.capacity(), work_bytes), (0, left, 0));
        }
        let mut work_bytes = 500;
        assert!(payload.give_back(&mut work_bytes));
        assert_eq!(work_bytes, 250, "a small rest is little work");
        assert!(payload.give_back(&mut 0), "there is nothing left");
    }

    #[test]
    fn a_part_of_a_batch_is_let_go_of_at_once() {
        let batch = Bytes::from_static(b"records");
        let mut payload = Payload::Part(batch.slice(2..));
        assert_eq!(payload.as_ref(), b"cords");
        assert!(payload.give_back(&mut 0));
        assert!(payload.as_ref().is_empty());
    }
}
