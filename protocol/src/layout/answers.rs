//! What we ask others, at which versions, and what their answers look like.
//!
//! Does: look up by API key; say name, versions and layout.
//! Does not: serve any of it: the table of what we serve is `api_table`, and a client of ours asks
//! brokers for more (and for less) than our own broker answers.
//! Invariants: rows are in the order of their keys; versions are those whose answers the tables
//! describe whole, so that a newer broker is asked in words we understand.
//! Apart because the versions a client asks at are chosen for being understood by many brokers, and
//! those a broker serves for serving many clients.

use super::{Layout, answers_admin as admin, answers_data as data, answers_groups as groups};
use crate::api_table::Versions;

/// An API that a client of ours asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Kafka's key.
    pub key: i16,
    /// Kafka's name.
    pub name: &'static str,
    /// The versions we ask at.
    pub versions: Versions,
    pub(super) layout: &'static Layout,
}

/// The row of a key, `None` when we do not ask for it.
#[must_use]
pub fn asked(key: i16) -> Option<&'static Asked> {
    let place = TABLE.binary_search_by_key(&key, |row| row.key).ok()?;
    Some(&TABLE[place])
}

/// Everything we ask for, by rising key.
pub const TABLE: &[Asked] = &[
    row(0, "Produce", (3, 9), &data::PRODUCE_ANSWER),
    row(1, "Fetch", (4, 11), &data::FETCH_ANSWER),
    row(2, "ListOffsets", (1, 7), &data::LIST_OFFSETS_ANSWER),
    row(3, "Metadata", (1, 12), &data::METADATA_ANSWER),
    row(8, "OffsetCommit", (2, 8), &groups::OFFSET_COMMIT_ANSWER),
    row(9, "OffsetFetch", (2, 7), &groups::OFFSET_FETCH_ANSWER),
    row(10, "FindCoordinator", (1, 3), &groups::FIND_COORDINATOR_ANSWER),
    row(15, "DescribeGroups", (0, 6), &groups::DESCRIBE_GROUPS_ANSWER),
    row(16, "ListGroups", (0, 5), &groups::LIST_GROUPS_ANSWER),
    row(18, "ApiVersions", (0, 0), &admin::API_VERSIONS_ANSWER),
    row(19, "CreateTopics", (2, 7), &admin::CREATE_TOPICS_ANSWER),
    row(20, "DeleteTopics", (1, 5), &admin::DELETE_TOPICS_ANSWER),
    row(22, "InitProducerId", (0, 4), &data::INIT_PRODUCER_ID_ANSWER),
    row(32, "DescribeConfigs", (1, 4), &admin::DESCRIBE_CONFIGS_ANSWER),
    row(37, "CreatePartitions", (0, 3), &admin::CREATE_PARTITIONS_ANSWER),
    row(42, "DeleteGroups", (0, 2), &groups::DELETE_GROUPS_ANSWER),
    row(44, "IncrementalAlterConfigs", (0, 1), &admin::INCREMENTAL_ALTER_CONFIGS_ANSWER),
    row(65, "DescribeTransactions", (0, 0), &groups::DESCRIBE_TRANSACTIONS_ANSWER),
    row(66, "ListTransactions", (0, 2), &groups::LIST_TRANSACTIONS_ANSWER),
    row(69, "ConsumerGroupDescribe", (0, 1), &groups::CONSUMER_GROUP_DESCRIBE_ANSWER),
];

const fn row(
    key: i16,
    name: &'static str,
    (min, max): (i16, i16),
    layout: &'static Layout,
) -> Asked {
    Asked { key, name, versions: Versions { min, max }, layout }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::layout::check_answer;
    use crate::layout::sample::{self, ByChance, Dice, Filling};
    use crate::messages::codec::{ApiKey, ResponseKind};
    use crate::wire::Encoding;
    use crate::wire::read::DecodeErrorKind;

    fn each_version(mut story: impl FnMut(&Asked, i16, Encoding)) {
        for row in TABLE {
            let key = ApiKey::try_from(row.key).expect("the codec knows the key");
            for version in row.versions.min..=row.versions.max {
                story(row, version, Encoding::of(key.request_header_version(version) >= 2));
            }
        }
    }

    fn decode(row: &Asked, version: i16, body: &[u8]) -> Option<ResponseKind> {
        let key = ApiKey::try_from(row.key).expect("the codec knows the key");
        ResponseKind::decode(key, &mut Bytes::copy_from_slice(body), version).ok()
    }

    #[test]
    fn rows_are_found_by_their_keys() {
        for row in TABLE {
            assert_eq!(asked(row.key).map(|found| found.name), Some(row.name));
        }
        assert!(asked(4).is_none());
    }

    #[test]
    fn the_codec_reads_exactly_what_the_tables_say_and_writes_it_back() {
        each_version(|row, version, encoding| {
            for seed in 0..40 {
                let filling = match seed {
                    0 => Filling::Full,
                    1 => Filling::Bare,
                    _ => Filling::Random,
                };
                let mut choices = ByChance::new(filling, seed);
                let body = sample::answer(row, version, encoding, &mut choices);
                let story = format!("{} v{version} seed {seed}", row.name);
                assert_eq!(check_answer(row, version, encoding, &body), Ok(()), "{story}");
                let answer = decode(row, version, &body).unwrap_or_else(|| panic!("{story}"));
                let mut again = BytesMut::new();
                answer.encode(&mut again, version).expect("what was read can be written");
                assert_eq!(again[..], body, "{story}");
            }
        });
    }

    #[test]
    fn damaged_answers_never_reach_a_panic() {
        let mut passed = 0;
        each_version(|row, version, encoding| {
            let mut dice = Dice::new(version.unsigned_abs().into());
            for seed in 0..200 {
                let mut choices = ByChance::new(Filling::Random, seed % 7);
                let mut body = sample::answer(row, version, encoding, &mut choices);
                sample::damage(&mut body, &mut dice);
                if check_answer(row, version, encoding, &body).is_ok() {
                    passed += 1;
                    assert!(decode(row, version, &body).is_some(), "{} {version}", row.name);
                }
            }
        });
        assert!(passed > 1000, "the damage is too heavy to tell anything: {passed}");
    }

    #[test]
    fn a_broker_that_claims_two_billion_brokers_is_not_believed() {
        let row = asked(3).expect("Metadata is asked for");
        let body = [0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        let error = check_answer(row, 1, Encoding::Classic, &body).unwrap_err();
        assert_eq!((error.what, error.kind), ("brokers", DecodeErrorKind::CountTooLarge));
    }
}
