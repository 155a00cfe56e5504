//! Walks the raw bytes of a request or an answer along its table, before any decoder sees them.
//!
//! Does: hold every length and count against what is left, every string against UTF-8, and what the
//! decoder will make of it against a budget.
//! Does not: build anything; the walk takes a few words of stack per level and no heap.
//! Invariants: bytes that pass are decoded without panic, and with at most
//! [`limits::DECODED_BYTES_PER_BODY_BYTE`] times their length (plus a constant) of memory, never
//! more than [`limits::DECODED_BYTES_MAX`].
//! Apart because the generic decoder trusts the counts it reads: four hostile bytes would make it
//! reserve gigabytes and take the process down (decisions/0001).

use super::answers::Asked;
use super::{Field, Kind, Layout, tables};
use crate::api_table::ApiKey;
use crate::limits;
use crate::wire::Encoding;
use crate::wire::read::{Budget, DecodeError, DecodeErrorKind, Reader};
use crate::wire::tagged::{Section, TaggedField};

/// Whether `body` begins with a well-formed request of this API and version.
///
/// Bytes behind it are nobody's: Kafka never looks at them, and librdkafka 2.12 leaves one behind
/// a Metadata request of version 13.
///
/// # Errors
/// The first field that is not what it claims to be, or a version that is not served.
pub fn check(key: ApiKey, version: i16, body: &[u8]) -> Result<(), DecodeError> {
    let row = key.row();
    let mut reader = Reader::new(body, Encoding::of(row.request_is_flexible(version)));
    if !row.supports(version) {
        return Err(reader.error(row.name, DecodeErrorKind::UnsupportedVersion));
    }
    let budget =
        Budget::new(body.len(), limits::DECODED_BYTES_PER_BODY_BYTE, limits::DECODED_BYTES_SLACK);
    let mut walk = Walk { version, budget };
    walk.fields(&mut reader, tables::request(key), row.name)
}

/// Whether `body` begins with a well-formed answer to this question at this version, in the encoding
/// that the version has. Whoever answers is as little to be believed as whoever asks.
///
/// # Errors
/// The first field that is not what it claims to be, or a version that is not asked at.
pub fn check_answer(
    asked: &Asked,
    version: i16,
    encoding: Encoding,
    body: &[u8],
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(body, encoding);
    if !asked.versions.contains(version) {
        return Err(reader.error(asked.name, DecodeErrorKind::UnsupportedVersion));
    }
    let mut walk = Walk { version, budget: Budget::answer(body.len()) };
    walk.fields(&mut reader, asked.layout, asked.name)
}

struct Walk {
    version: i16,
    budget: Budget,
}

impl Walk {
    fn fields(
        &mut self,
        reader: &mut Reader<'_>,
        layout: &Layout,
        what: &'static str,
    ) -> Result<(), DecodeError> {
        for field in layout.fields {
            if field.exists_at(self.version) {
                self.field(reader, field)?;
            }
        }
        match reader.encoding() {
            Encoding::Classic => Ok(()),
            Encoding::Compact => self.tagged_fields(reader, layout, what),
        }
    }

    fn field(&mut self, reader: &mut Reader<'_>, field: &Field) -> Result<(), DecodeError> {
        let present = match field.kind {
            Kind::Struct(layout) if field.is_nullable_at(self.version) => {
                self.nullable_struct(reader, layout, field.name)?
            }
            kind => self.value(reader, kind, field.name)?,
        };
        if present || field.is_nullable_at(self.version) {
            return Ok(());
        }
        Err(reader.error(field.name, DecodeErrorKind::UnexpectedNull))
    }

    /// Walks one value; false when it was null.
    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        kind: Kind,
        what: &'static str,
    ) -> Result<bool, DecodeError> {
        match kind {
            Kind::Bool | Kind::I8 => reader.take(what, 1).map(|_| true),
            Kind::I16 => reader.take(what, 2).map(|_| true),
            Kind::I32 => reader.take(what, 4).map(|_| true),
            Kind::I64 => reader.take(what, 8).map(|_| true),
            Kind::Uuid => reader.take(what, 16).map(|_| true),
            Kind::Text => reader.nullable_string(what).map(|text| text.is_some()),
            Kind::Blob => reader.nullable_blob(what).map(|blob| blob.is_some()),
            Kind::Array(element) => self.array(reader, *element, what),
            Kind::Struct(layout) => self.fields(reader, layout, what).map(|()| true),
        }
    }

    fn array(
        &mut self,
        reader: &mut Reader<'_>,
        element: Kind,
        what: &'static str,
    ) -> Result<bool, DecodeError> {
        let bytes_min = bytes_min(element, self.version, reader.encoding());
        let Some(count) = reader.nullable_count(what, bytes_min)? else { return Ok(false) };
        self.budget.elements(reader, what, count, memory(element))?;
        for _ in 0..count {
            if !self.value(reader, element, what)? {
                return Err(reader.error(what, DecodeErrorKind::UnexpectedNull));
            }
        }
        Ok(true)
    }

    fn nullable_struct(
        &mut self,
        reader: &mut Reader<'_>,
        layout: &Layout,
        what: &'static str,
    ) -> Result<bool, DecodeError> {
        match reader.i8(what)? {
            -1 => Ok(false),
            1 => self.fields(reader, layout, what).map(|()| true),
            _ => Err(reader.error(what, DecodeErrorKind::InvalidValue)),
        }
    }

    fn tagged_fields(
        &mut self,
        reader: &mut Reader<'_>,
        layout: &Layout,
        what: &'static str,
    ) -> Result<(), DecodeError> {
        let mut section = Section::open(reader, what)?;
        let mut price = limits::TAGGED_FIELDS_FIRST_BYTES;
        while let Some(tagged) = section.next(reader, what)? {
            match layout.tags.iter().find(|tag| tag.number == tagged.tag) {
                Some(tag) => self.known_tag(reader, &tag.field, tagged)?,
                None => {
                    self.budget.elements(reader, what, 1, price)?;
                    price = limits::TAGGED_FIELD_FURTHER_BYTES;
                    reader.take(what, tagged.size)?;
                }
            }
        }
        Ok(())
    }

    /// The generic decoder reads a tag it knows by its kind and ignores the size before it, so both
    /// must say the same.
    fn known_tag(
        &mut self,
        reader: &mut Reader<'_>,
        field: &Field,
        tagged: TaggedField,
    ) -> Result<(), DecodeError> {
        if !field.exists_at(self.version) {
            return Err(reader.error(field.name, DecodeErrorKind::InvalidValue));
        }
        let end = reader.at() + tagged.size;
        self.field(reader, field)?;
        if reader.at() != end {
            return Err(reader.error(field.name, DecodeErrorKind::TaggedFieldSize));
        }
        Ok(())
    }
}

/// The fewest bytes one element takes on the wire; at least one, so that counts stay bounded.
fn bytes_min(kind: Kind, version: i16, encoding: Encoding) -> usize {
    match (kind, encoding) {
        (Kind::Bool | Kind::I8, _) => 1,
        (Kind::I16, _) => 2,
        (Kind::I32, _) => 4,
        (Kind::I64, _) => 8,
        (Kind::Uuid, _) => 16,
        (Kind::Text, Encoding::Classic) => 2,
        (Kind::Blob | Kind::Array(_), Encoding::Classic) => 4,
        (Kind::Text | Kind::Blob | Kind::Array(_), Encoding::Compact) => 1,
        (Kind::Struct(layout), _) => struct_bytes_min(layout, version, encoding),
    }
}

fn struct_bytes_min(layout: &Layout, version: i16, encoding: Encoding) -> usize {
    let tags = usize::from(encoding == Encoding::Compact);
    let fields: usize = layout
        .fields
        .iter()
        .filter(|field| field.exists_at(version))
        .map(|field| match field.kind {
            Kind::Struct(_) if field.is_nullable_at(version) => 1,
            kind => bytes_min(kind, version, encoding),
        })
        .sum();
    (fields + tags).max(1)
}

/// Bytes one element takes in memory, beyond its strings, which share the body's.
fn memory(kind: Kind) -> usize {
    match kind {
        Kind::Bool | Kind::I8 => 1,
        Kind::I16 => 2,
        Kind::I32 => 4,
        Kind::I64 => 8,
        Kind::Uuid => 16,
        Kind::Text | Kind::Blob => size_of::<Option<bytes::Bytes>>(),
        Kind::Array(_) => size_of::<Vec<u8>>(),
        Kind::Struct(layout) => layout.memory,
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::api_table::TABLE;
    use crate::layout::sample::{self, Dice, Filling};
    use crate::messages::codec::{self, RequestKind};

    fn each_version(mut story: impl FnMut(ApiKey, i16)) {
        for row in TABLE {
            for version in row.served.min..=row.served.max {
                story(row.key, version);
            }
        }
    }

    fn decode(key: ApiKey, version: i16, body: &[u8]) -> Option<RequestKind> {
        let mut bytes = Bytes::copy_from_slice(body);
        let key = codec::ApiKey::try_from(key.code()).expect("the codec knows the key");
        RequestKind::decode(key, &mut bytes, version).ok()
    }

    #[test]
    fn the_codec_reads_exactly_what_the_tables_say_and_writes_it_back() {
        each_version(|key, version| {
            for seed in 0..40 {
                let filling = match seed {
                    0 => Filling::Full,
                    1 => Filling::Bare,
                    _ => Filling::Random,
                };
                let body = sample::body(key, version, filling, seed);
                assert_eq!(check(key, version, &body), Ok(()), "{key:?} v{version} seed {seed}");
                let request = decode(key, version, &body)
                    .unwrap_or_else(|| panic!("{key:?} v{version} seed {seed} {body:?}"));
                let mut again = BytesMut::new();
                request.encode(&mut again, version).expect("what was read can be written");
                assert_eq!(again[..], body, "{key:?} v{version} seed {seed}");
            }
        });
    }

    #[test]
    fn null_is_refused_exactly_where_the_codec_refuses_it() {
        let mut refused = 0;
        each_version(|key, version| {
            for field in 0..20 {
                let body = sample::body(key, version, Filling::ForbiddenNull(field), 1);
                if body == sample::body(key, version, Filling::Full, 1) {
                    break;
                }
                refused += 1;
                let error = check(key, version, &body).unwrap_err();
                assert_eq!(error.kind, DecodeErrorKind::UnexpectedNull, "{key:?} v{version}");
                assert!(decode(key, version, &body).is_none(), "{key:?} v{version} {error}");
            }
        });
        assert!(refused > 300, "too few fields were tried: {refused}");
    }

    #[test]
    fn a_part_of_a_request_does_not_pass_and_more_than_one_does() {
        each_version(|key, version| {
            let mut body = sample::body(key, version, Filling::Full, 3);
            for len in 0..body.len() {
                assert!(check(key, version, &body[..len]).is_err(), "{key:?} v{version} {len}");
            }
            body.push(0);
            assert_eq!(check(key, version, &body), Ok(()), "{key:?} v{version}");
        });
    }

    #[test]
    fn damaged_requests_never_reach_a_panic() {
        let mut passed = 0;
        each_version(|key, version| {
            let mut dice = Dice::new(version.unsigned_abs().into());
            for seed in 0..300 {
                let mut body = sample::body(key, version, Filling::Random, seed % 7);
                sample::damage(&mut body, &mut dice);
                if check(key, version, &body).is_ok() {
                    passed += 1;
                    assert!(decode(key, version, &body).is_some(), "{key:?} v{version} {body:?}");
                }
            }
        });
        assert!(passed > 1000, "the damage is too heavy to tell anything: {passed}");
    }

    #[test]
    fn noise_never_reaches_a_panic() {
        each_version(|key, version| {
            let mut dice = Dice::new(99);
            for _ in 0..200 {
                let len = dice.below(60);
                let body: Vec<u8> = (0..len).map(|_| dice.below(256) as u8).collect();
                if check(key, version, &body).is_ok() {
                    assert!(decode(key, version, &body).is_some(), "{key:?} v{version} {body:?}");
                }
            }
        });
    }

    #[test]
    fn a_claim_of_two_billion_topics_is_refused() {
        let body = [0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        let error = check(ApiKey::Metadata, 1, &body).unwrap_err();
        assert_eq!((error.what, error.kind), ("topics", DecodeErrorKind::CountTooLarge));
    }

    #[test]
    fn many_empty_elements_are_refused_for_the_memory_they_would_take() {
        // Metadata v9: 16,000 topics of one name byte (empty) and one tag byte.
        let mut body = vec![0x81, 0x7d];
        body.extend(std::iter::repeat_n([1, 0], 16_000).flatten());
        body.extend([0, 0, 0, 0]);
        let error = check(ApiKey::Metadata, 9, &body).unwrap_err();
        assert_eq!((error.what, error.kind), ("topics", DecodeErrorKind::TooMuchMemory));
    }

    #[test]
    fn honest_requests_with_short_names_fit_the_budget() {
        // Metadata v12: 5,000 topics named by four letters, no id.
        let mut body = vec![0x89, 0x27];
        body.extend(
            std::iter::repeat_n([0; 16], 5000)
                .flat_map(|id| id.into_iter().chain([5, b'n', b'a', b'm', b'e', 0])),
        );
        body.extend([0, 0, 0]);
        assert_eq!(check(ApiKey::Metadata, 12, &body), Ok(()));
    }

    #[test]
    fn a_tagged_field_must_be_as_long_as_it_says() {
        // Fetch v12 ends in: no topics, nothing forgotten, empty rack, and cluster id "c".
        let mut body = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
        body.extend([1, 1, 1, 1, 0, 2, 2, b'c']);
        assert_eq!(check(ApiKey::Fetch, 12, &body), Ok(()));
        let place = body.len() - 3;
        body[place] = 1;
        assert_eq!(
            check(ApiKey::Fetch, 12, &body).unwrap_err().kind,
            DecodeErrorKind::TaggedFieldSize
        );
    }

    #[test]
    fn versions_that_are_not_served_are_refused() {
        let error = check(ApiKey::Produce, 2, &[]).unwrap_err();
        assert_eq!((error.what, error.kind), ("Produce", DecodeErrorKind::UnsupportedVersion));
    }

    #[test]
    fn a_string_longer_than_kafkas_is_refused_in_every_encoding() {
        // DeleteGroups v2: one group named by 32,768 letters; one letter less is allowed.
        let named = |length: usize| {
            let mut body = vec![2, (((length + 1) & 0x7f) | 0x80) as u8];
            body.extend([((((length + 1) >> 7) & 0x7f) | 0x80) as u8, ((length + 1) >> 14) as u8]);
            body.extend(std::iter::repeat_n(b'g', length));
            body.push(0);
            body
        };
        assert_eq!(check(ApiKey::DeleteGroups, 2, &named(32_767)), Ok(()));
        let error = check(ApiKey::DeleteGroups, 2, &named(32_768)).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::StringTooLong);
    }

    #[test]
    fn a_request_of_a_million_items_is_refused_and_one_of_a_hundred_thousand_is_not() {
        // DescribeGroups v0: so many groups named by four letters.
        let named = |count: i32| {
            let mut body = count.to_be_bytes().to_vec();
            body.extend((0..count).flat_map(|_| *b"\0\x04name"));
            body
        };
        assert_eq!(check(ApiKey::DescribeGroups, 0, &named(100_000)), Ok(()));
        let error = check(ApiKey::DescribeGroups, 0, &named(1_000_000)).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::TooManyElements);
    }
    #[test]
    fn tagged_fields_nobody_knows_count_as_elements() {
        // Metadata v9: so many topics with 64 unknown tagged fields of a KiB each, which alone would
        // pay for the memory.
        let tagged = |count: usize| {
            let mut body = vec![((count + 1) & 0x7f | 0x80) as u8, ((count + 1) >> 7) as u8];
            for _ in 0..count {
                body.extend([2, b'a', 64]);
                (100..164).for_each(|tag: u8| {
                    body.extend([tag | 0x80, u8::from(tag >= 128), 0x80, 8]);
                    body.extend([0; 1024]);
                });
            }
            body.extend([0, 0, 0, 0]);
            body
        };
        assert_eq!(check(ApiKey::Metadata, 9, &tagged(1000)), Ok(()));
        let error = check(ApiKey::Metadata, 9, &tagged(4000)).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::TooManyElements);
    }
}
