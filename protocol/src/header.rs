//! Request and response headers.
//!
//! Does: read who asks for what, and write the head of the answer.
//! Does not: allocate, or judge whether the version is served: the caller answers or hangs up.
//! Invariants: key, version and correlation id are known as soon as eight bytes are, whatever
//! follows; ApiVersions answers with header v0 at every version.
//! Apart because the header's version depends on the API's and one byte too many shifts everything.

use crate::api_table::{self, ApiKey};
use crate::wire::Encoding;
use crate::wire::read::{DecodeError, Reader};
use crate::wire::tagged;
use crate::wire::write::{Sink, Writer};

/// The head of a request. Borrows the client id from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Which API, as claimed.
    pub api_key: i16,
    /// At which version, as claimed.
    pub version: i16,
    /// What the answer must carry.
    pub correlation_id: i32,
    /// The client's name for itself. Null counts as absent.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Reads the head of a frame's payload; the body begins at the returned offset.
    ///
    /// A key we do not serve, or ApiVersions at a version we do not know, still yields key, version
    /// and correlation id: the rest is read as far as it makes sense, and the offset is worth
    /// nothing then.
    ///
    /// # Errors
    /// Fewer than eight bytes, or a malformed client id or tagged field of an API we serve.
    pub fn parse(payload: &'a [u8]) -> Result<(Self, usize), DecodeError> {
        // The client id keeps its old spelling even in header v2 (KIP-482).
        let mut reader = Reader::new(payload, Encoding::Classic);
        let mut header = Self {
            api_key: reader.i16("request_api_key")?,
            version: reader.i16("request_api_version")?,
            correlation_id: reader.i32("correlation_id")?,
            client_id: None,
        };
        let flexible = match api_table::row(header.api_key) {
            Some(row) if row.supports(header.version) => row.request_is_flexible(header.version),
            Some(_) | None => {
                header.client_id = reader.nullable_string("client_id").unwrap_or(None);
                return Ok((header, reader.at()));
            }
        };
        header.client_id = reader.nullable_string("client_id")?;
        if flexible {
            tagged::skip(&mut reader, "header")?;
        }
        Ok((header, reader.at()))
    }
}

/// Bytes of the head of an answer: correlation id, and an empty tag section from header v1 on.
#[must_use]
pub fn response_header_len(key: ApiKey, version: i16) -> usize {
    size_of::<i32>() + usize::from(key.row().response_header_is_flexible(version))
}

/// Writes the head of an answer.
#[inline]
pub fn write_response_header<S: Sink>(
    writer: &mut Writer<'_, S>,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
) {
    writer.i32(correlation_id);
    if key.row().response_header_is_flexible(version) {
        writer.tagged_fields(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::read::DecodeErrorKind;

    fn payload(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&key.to_be_bytes());
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&77i32.to_be_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn header_v1_ends_after_the_client_id() {
        let bytes = payload(3, 8, &[0, 2, b'm', b'e', 9, 9]);
        let (header, body) = RequestHeader::parse(&bytes).unwrap();
        assert_eq!((header.api_key, header.version, header.correlation_id), (3, 8, 77));
        assert_eq!((header.client_id, body), (Some("me"), 12));
    }

    #[test]
    fn header_v2_keeps_the_old_client_id_and_adds_tagged_fields() {
        let bytes = payload(3, 9, &[0, 2, b'm', b'e', 1, 0, 1, 5, 9]);
        let (header, body) = RequestHeader::parse(&bytes).unwrap();
        assert_eq!((header.client_id, body), (Some("me"), 16));
    }

    #[test]
    fn null_client_ids_are_absent() {
        let bytes = payload(3, 8, &[0xff, 0xff]);
        assert_eq!(RequestHeader::parse(&bytes).unwrap().0.client_id, None);
    }

    #[test]
    fn strangers_still_say_what_they_wanted() {
        for (key, version) in [(999, 0), (17, 1), (18, 99), (0, 2), (0, -1)] {
            for rest in [&[][..], &[0, 9, 1], &[0xff, 0x00]] {
                let bytes = payload(key, version, rest);
                let (header, body) = RequestHeader::parse(&bytes).unwrap();
                assert_eq!(
                    (header.api_key, header.version, header.correlation_id),
                    (key, version, 77)
                );
                assert!(body <= bytes.len());
            }
        }
    }

    #[test]
    fn malformed_headers_of_apis_we_serve_are_errors() {
        let kind = |bytes: &[u8]| RequestHeader::parse(bytes).unwrap_err().kind;
        assert_eq!(kind(&[0, 3, 0, 8, 0, 0, 0]), DecodeErrorKind::Truncated);
        assert_eq!(kind(&payload(3, 8, &[0, 9, 1])), DecodeErrorKind::Truncated);
        assert_eq!(kind(&payload(3, 8, &[0, 1, 0xff])), DecodeErrorKind::InvalidUtf8);
        assert_eq!(kind(&payload(3, 9, &[0, 0])), DecodeErrorKind::Truncated);
    }

    #[test]
    fn response_headers_are_as_long_as_announced() {
        for row in api_table::TABLE {
            for version in row.served.min..=row.served.max {
                let mut out = BytesMut::new();
                let encoding = Encoding::of(row.request_is_flexible(version));
                let mut writer = Writer::new(&mut out, encoding);
                write_response_header(&mut writer, row.key, version, 5);
                assert_eq!(out.len(), response_header_len(row.key, version));
            }
        }
        assert_eq!(response_header_len(ApiKey::ApiVersions, 4), 4);
        assert_eq!(response_header_len(ApiKey::Metadata, 9), 5);
        assert_eq!(response_header_len(ApiKey::Metadata, 8), 4);
    }
}
