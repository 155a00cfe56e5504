//! Varints: seven bits a byte, least significant first, high bit set on all but the last.
//!
//! Does: unsigned varints of the compact encoding and zigzag varints of records.
//! Does not: allocate; reads from the front of a slice, writes through a fixed array.
//! Invariants: a value that does not fit its width is refused, never truncated.
//! Apart because the wire and the record format share them and nothing else.

/// Bytes of the longest 32-bit varint.
pub const BYTES_MAX_32: usize = 5;
/// Bytes of the longest 64-bit varint.
pub const BYTES_MAX_64: usize = 10;

/// A varint on its way out: at most ten bytes, no allocation.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    bytes: [u8; BYTES_MAX_64],
    len: usize,
}

impl Encoded {
    /// The bytes as they go on the wire.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Encodes an unsigned value.
#[must_use]
#[inline]
pub fn unsigned(mut value: u64) -> Encoded {
    let mut encoded = Encoded { bytes: [0; BYTES_MAX_64], len: 0 };
    while value >= 0x80 {
        encoded.bytes[encoded.len] = (value as u8) | 0x80;
        encoded.len += 1;
        value >>= 7;
    }
    encoded.bytes[encoded.len] = value as u8;
    encoded.len += 1;
    encoded
}

/// Encodes a signed value by zigzag: 0, −1, 1, −2 … become 0, 1, 2, 3 …
#[must_use]
pub fn zigzag(value: i64) -> Encoded {
    unsigned(((value << 1) ^ (value >> 63)) as u64)
}

/// Reads an unsigned 32-bit value from the front: the value and how many bytes it took.
///
/// `None` when the bytes end inside it or it does not fit 32 bits.
#[must_use]
#[inline]
pub fn read_unsigned_32(bytes: &[u8]) -> Option<(u32, usize)> {
    // Nearly every length on the wire is below 128.
    match bytes.first() {
        Some(&byte) if byte < 0x80 => return Some((u32::from(byte), 1)),
        Some(_) | None => {}
    }
    let (value, len) = read_unsigned_64(&bytes[..bytes.len().min(BYTES_MAX_32)])?;
    Some((u32::try_from(value).ok()?, len))
}

/// Reads an unsigned 64-bit value from the front: the value and how many bytes it took.
///
/// `None` when the bytes end inside it or it does not fit 64 bits.
#[must_use]
pub fn read_unsigned_64(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (place, &byte) in bytes.iter().take(BYTES_MAX_64).enumerate() {
        if place == BYTES_MAX_64 - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some((value, place + 1));
        }
    }
    None
}

/// Reads a zigzag 32-bit value from the front, as record lengths and offset deltas are written.
///
/// `None` when the bytes end inside it or it does not fit 32 bits.
#[must_use]
pub fn read_zigzag_32(bytes: &[u8]) -> Option<(i32, usize)> {
    let (raw, len) = read_unsigned_32(bytes)?;
    Some((((raw >> 1) as i32) ^ -((raw & 1) as i32), len))
}

/// Reads a zigzag 64-bit value from the front, as record timestamp deltas are written.
///
/// `None` when the bytes end inside it or it does not fit 64 bits.
#[must_use]
pub fn read_zigzag_64(bytes: &[u8]) -> Option<(i64, usize)> {
    let (raw, len) = read_unsigned_64(bytes)?;
    Some((((raw >> 1) as i64) ^ -((raw & 1) as i64), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_values_come_back() {
        for value in [0, 1, 127, 128, 300, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let encoded = unsigned(value);
            let len = encoded.as_slice().len();
            assert_eq!(read_unsigned_64(encoded.as_slice()), Some((value, len)));
            assert_eq!(
                read_unsigned_32(encoded.as_slice()),
                u32::try_from(value).ok().map(|value| (value, len))
            );
            assert_eq!(read_unsigned_64(&encoded.as_slice()[..len - 1]), None);
        }
        assert_eq!(unsigned(300).as_slice(), [0xac, 0x02]);
    }

    #[test]
    fn signed_values_zigzag() {
        assert_eq!(zigzag(-1).as_slice(), [1]);
        assert_eq!(zigzag(1).as_slice(), [2]);
        for value in [0, -1, 63, -64, 64, i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let encoded = zigzag(value);
            let len = encoded.as_slice().len();
            assert_eq!(read_zigzag_64(encoded.as_slice()), Some((value, len)));
            assert_eq!(
                read_zigzag_32(encoded.as_slice()),
                i32::try_from(value).ok().map(|value| (value, len))
            );
        }
    }

    #[test]
    fn endless_and_oversized_varints_are_refused() {
        assert_eq!(read_unsigned_32(&[0xff; 16]), None);
        assert_eq!(read_unsigned_64(&[0xff; 16]), None);
        assert_eq!(read_unsigned_32(&[0xff, 0xff, 0xff, 0xff, 0x10]), None);
        assert_eq!(read_unsigned_32(&[]), None);
    }
}
