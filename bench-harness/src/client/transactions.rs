//! What a transactional producer asks before its first transaction.
//!
//! Does: find out how transactions are done here, find a coordinator, become a producer there.
//! Does not: begin or end transactions: those are measured.
//! Invariants: whoever was a producer of the same transactional id before is fenced off.
//! Apart because no other workload has a coordinator.

use bytes::Bytes;
use flumen_protocol::api_table::ApiKey;
use flumen_protocol::ids::{ProducerEpoch, ProducerId};
use flumen_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, InitProducerIdRequest,
    StrBytes, TransactionalId, decode_response, encode_request,
};

use super::{Client, ClientFault, in_words};
use crate::limits::{CLIENT_ID, TRANSACTION_TIMEOUT_MS};

/// A producer as its coordinator knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionalProducer {
    /// Its producer id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Id of the broker that coordinates it.
    pub coordinator: i32,
}

/// Since this version brokers tell the features of their cluster (KIP-584).
const FEATURES_SINCE: i16 = 3;

/// What FindCoordinator calls a transactional id.
const TRANSACTION: i8 = 1;

impl Client {
    /// The level of `transaction.version` that the cluster finalised; 0 where it has none.
    ///
    /// # Errors
    /// As every question.
    pub fn transaction_version(&mut self) -> Result<i16, ClientFault> {
        let version = self.version(ApiKey::ApiVersions, i16::MAX)?;
        if version < FEATURES_SINCE {
            return Ok(0);
        }
        let answer = self.features(version)?;
        self.refuse(ApiKey::ApiVersions, answer.error_code, "")?;
        let finalised = answer.finalized_features.iter();
        let level = finalised.filter(|feature| &*feature.name == "transaction.version");
        Ok(level.map(|feature| feature.max_version_level).max().unwrap_or(0))
    }

    fn features(&mut self, version: i16) -> Result<ApiVersionsResponse, ClientFault> {
        let (key, asked) = (ApiKey::ApiVersions, ApiKey::ApiVersions.row().name);
        let question = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT_ID))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let address = self.address.clone();
        let frame = encode_request(key, version, 0, Some(CLIENT_ID), &question)
            .expect("versions with features have these fields");
        let payload: Bytes = self.send_and_read(&frame).map_err(|error| {
            let reason = in_words(&error);
            ClientFault::Lost { address: address.clone(), asked, reason }
        })?;
        let decoded = decode_response::<ApiVersionsRequest>(key, version, payload);
        let malformed = |reason| ClientFault::Malformed { address, asked, reason };
        decoded.map(|(_, answer)| answer).map_err(|error| malformed(error.to_string()))
    }

    /// Becomes the producer of a transactional id.
    ///
    /// # Errors
    /// As every question; a refusal that is not about patience, or out of patience.
    pub fn transactional_producer(
        &mut self,
        transactional_id: &str,
    ) -> Result<TransactionalProducer, ClientFault> {
        self.patiently(|client| client.transactional_producer_now(transactional_id))
    }

    fn transactional_producer_now(
        &mut self,
        transactional_id: &str,
    ) -> Result<TransactionalProducer, ClientFault> {
        let name = StrBytes::from_string(transactional_id.to_owned());
        let question =
            FindCoordinatorRequest::default().with_key(name.clone()).with_key_type(TRANSACTION);
        let found = self.ask(3, &question)?;
        let message = found.error_message.as_deref().unwrap_or_default();
        self.refuse(ApiKey::FindCoordinator, found.error_code, message)?;
        let mut coordinator = Self::connect(&format!("{}:{}", &*found.host, found.port))?;
        let question = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(name)))
            .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS);
        let answer = coordinator.ask(4, &question)?;
        coordinator.refuse(ApiKey::InitProducerId, answer.error_code, "")?;
        Ok(TransactionalProducer {
            id: ProducerId(answer.producer_id.0),
            epoch: ProducerEpoch(answer.producer_epoch),
            coordinator: found.node_id.0,
        })
    }
}
