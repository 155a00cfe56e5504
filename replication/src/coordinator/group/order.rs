//! The order in which Kafka lists groups and the members of groups of the new kind.
//!
//! Does: give an id its place in it.
//! Does not: sort.
//! Invariants: an id has the same place everywhere and at any time.
//! Apart because two lists follow it that are made in two crates.
//!
//! Kafka keeps both in hash tables and lists them slot by slot. It promises no order, but its own
//! request tests know the one that comes of it, and so may a tool. For people `flumen groups` sorts by
//! name.

/// What Kafka's tables multiply hashes with: 2^64 divided by the golden ratio, below zero.
const SPREAD: i64 = -7_046_029_254_386_353_131;

/// The place of an id among others, the lowest first. Whatever the size of a table, its slots are the
/// highest bits of this.
#[must_use]
pub fn listing_place(id: &str) -> u64 {
    // Java's hash of a text: its units of 16 bits as the digits of a number to the base of 31.
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = id.encode_utf16().fold(0, add);
    i64::from(hash).wrapping_mul(SPREAD).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both orders are asserted by request tests of Kafka 4.1.
    #[test]
    fn ids_stand_as_kafka_lists_them() {
        let listed = |mut ids: Vec<&'static str>| {
            ids.sort_by_key(|id| listing_place(id));
            ids
        };
        assert_eq!(listed(vec!["grp-1", "grp-4"]), ["grp-4", "grp-1"]);
        assert_eq!(listed(vec!["member-1", "member-2"]), ["member-2", "member-1"]);
        assert_eq!(listing_place(""), 0);
        assert_eq!(listing_place("ab"), listing_place("bC"), "Java's hash of both is 3105");
    }
}
