//! The asking side of the wire.
//!
//! Does: agree on versions with whoever answers, write questions, read answers behind the layout
//! check.
//! Does not: open sockets, wait, try again, or judge the error codes inside an answer.
//! Invariants: a question is only written at a version that both sides speak; no answer reaches the
//! generic decoder unwalked, for a foreign broker is as foreign as a foreign client; an answer is
//! read as the answer to its own question or not at all.
//! Apart because every tool of ours that asks needs exactly this, over whatever carries its bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use crate::layout::answers::{Asked, asked};
use crate::layout::check_answer;
use crate::messages::{
    ApiVersionsRequest, ApiVersionsResponse, Request, is_flexible, request_frame, response_body,
    split_response,
};
use crate::wire::Encoding;

/// Which versions the other side speaks: lowest and highest by API key.
pub type Spoken = BTreeMap<i16, (i16, i16)>;

/// Why a question could not be put, or its answer not be read. Each names the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialogueFault {
    /// There is no version that both sides speak.
    NotSpoken(&'static str),
    /// The question has a field that the agreed version cannot say.
    Unsayable(&'static str, String),
    /// What came is no answer to this question.
    Malformed(&'static str, String),
}

impl fmt::Display for DialogueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSpoken(name) => write!(f, "no version of {name} that both sides speak"),
            Self::Unsayable(name, why) => write!(f, "{name} cannot be asked like this: {why}"),
            Self::Malformed(name, why) => write!(f, "no answer to {name}: {why}"),
        }
    }
}

impl std::error::Error for DialogueFault {}

/// What the asking side of one connection remembers.
#[derive(Clone, Debug)]
pub struct Dialogue {
    client_id: String,
    spoken: Spoken,
    correlation_id: i32,
}

/// A question on its way.
#[derive(Clone, Debug)]
pub struct Question<T> {
    frame: Bytes,
    version: i16,
    correlation_id: i32,
    kind: PhantomData<T>,
}

impl Dialogue {
    /// A dialogue that has not begun: only [`Dialogue::greeting`] can be asked.
    #[must_use]
    pub fn new(client_id: &str) -> Self {
        Self { client_id: client_id.to_owned(), spoken: Spoken::new(), correlation_id: 0 }
    }

    /// The first question: what is spoken there. Every broker answers its version 0.
    ///
    /// # Errors
    /// Never in practice: the codec knows version 0.
    pub fn greeting(&mut self) -> Result<Question<ApiVersionsRequest>, DialogueFault> {
        self.put(&ApiVersionsRequest::default(), 0)
    }

    /// Remembers what the other side speaks.
    pub fn greeted(&mut self, answer: &ApiVersionsResponse) {
        let apis = answer.api_keys.iter();
        self.spoken = apis.map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
    }

    /// What the other side speaks.
    #[must_use]
    pub fn spoken(&self) -> &Spoken {
        &self.spoken
    }

    /// The highest version of an API both speak, at most `cap`.
    ///
    /// # Errors
    /// [`DialogueFault::NotSpoken`].
    pub fn version<T: Request>(&self, cap: i16) -> Result<i16, DialogueFault> {
        let row = row_of::<T>();
        let spoken = self.spoken.get(&row.key);
        let &(min, max) = spoken.ok_or(DialogueFault::NotSpoken(row.name))?;
        let best = max.min(row.versions.max).min(cap);
        let fits = best >= min.max(row.versions.min);
        fits.then_some(best).ok_or(DialogueFault::NotSpoken(row.name))
    }

    /// Writes a question at the highest version both speak, at most `cap`.
    ///
    /// # Errors
    /// [`DialogueFault::NotSpoken`], [`DialogueFault::Unsayable`].
    pub fn ask<T: Request>(&mut self, cap: i16, body: &T) -> Result<Question<T>, DialogueFault> {
        let version = self.version::<T>(cap)?;
        self.put(body, version)
    }

    fn put<T: Request>(&mut self, body: &T, version: i16) -> Result<Question<T>, DialogueFault> {
        let correlation_id = self.correlation_id;
        self.correlation_id = correlation_id.wrapping_add(1);
        let frame = request_frame(version, correlation_id, Some(&self.client_id), body)
            .map_err(|why| DialogueFault::Unsayable(row_of::<T>().name, why))?;
        Ok(Question { frame, version, correlation_id, kind: PhantomData })
    }
}

impl<T: Request> Question<T> {
    /// What is to be sent, whole.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// At which version it is asked.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Kafka's name of what is asked.
    #[must_use]
    pub fn name(&self) -> &'static str {
        row_of::<T>().name
    }

    /// Reads the payload (a frame without its size) that came back.
    ///
    /// # Errors
    /// [`DialogueFault::Malformed`].
    pub fn answer(&self, payload: Bytes) -> Result<T::Response, DialogueFault> {
        let row = row_of::<T>();
        let malformed =
            |why: &dyn fmt::Display| DialogueFault::Malformed(row.name, why.to_string());
        let (correlation_id, body) =
            split_response::<T>(self.version, payload).map_err(|error| malformed(&error))?;
        if correlation_id != self.correlation_id {
            return Err(malformed(&"it answers another question"));
        }
        let encoding = Encoding::of(is_flexible::<T>(self.version));
        check_answer(row, self.version, encoding, &body).map_err(|error| malformed(&error))?;
        response_body::<T>(row.name, self.version, body).map_err(|error| malformed(&error))
    }
}

/// The row of a question. A type without one is our own mistake.
fn row_of<T: Request>() -> &'static Asked {
    asked(T::KEY).expect("what is asked has its row")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_table::ApiKey;
    use crate::messages::api_versions_response::ApiVersion;
    use crate::messages::{FindCoordinatorRequest, MetadataRequest, encode_response};

    fn greeted(spoken: &[(i16, i16, i16)]) -> Dialogue {
        let mut dialogue = Dialogue::new("me");
        let question = dialogue.greeting().expect("version 0 can be asked");
        let keys = spoken.iter().map(|&(key, min, max)| {
            ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
        });
        let said = ApiVersionsResponse::default().with_api_keys(keys.collect());
        let frame = encode_response(ApiKey::ApiVersions, 0, 0, &said).expect("an answer");
        let answer = question.answer(frame.slice(4..)).expect("a readable answer");
        dialogue.greeted(&answer);
        dialogue
    }

    #[test]
    fn the_version_lies_inside_what_both_speak() {
        let dialogue = greeted(&[(3, 0, 99), (10, 5, 6)]);
        assert_eq!(dialogue.version::<MetadataRequest>(i16::MAX), Ok(12));
        assert_eq!(dialogue.version::<MetadataRequest>(7), Ok(7));
        let none = Err(DialogueFault::NotSpoken("FindCoordinator"));
        assert_eq!(dialogue.version::<FindCoordinatorRequest>(i16::MAX), none);
        let fetch = dialogue.version::<crate::messages::FetchRequest>(i16::MAX);
        assert_eq!(fetch, Err(DialogueFault::NotSpoken("Fetch")));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let mut dialogue = greeted(&[(3, 0, 12)]);
        let question = dialogue.ask(12, &MetadataRequest::default()).expect("spoken");
        let said = crate::messages::MetadataResponse::default();
        let frame = encode_response(ApiKey::Metadata, 12, 77, &said).expect("an answer");
        let fault = question.answer(frame.slice(4..)).unwrap_err();
        assert!(fault.to_string().contains("another question"), "{fault}");
    }

    #[test]
    fn a_lie_about_a_count_is_found_before_anything_is_decoded() {
        let mut dialogue = greeted(&[(3, 0, 1)]);
        let question = dialogue.ask(12, &MetadataRequest::default()).expect("spoken");
        let mut payload = 1_i32.to_be_bytes().to_vec();
        payload.extend([0x7f, 0xff, 0xff, 0xff]);
        let fault = question.answer(payload.into()).unwrap_err();
        assert!(fault.to_string().contains("brokers"), "{fault}");
    }
}
