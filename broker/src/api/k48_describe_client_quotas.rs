//! DescribeClientQuotas (key 48, versions 0–1): the quotas of clients.
//!
//! - Entities that match every part asked for: by name, the default, or any; strictly those that
//!   have no other part (KIP-546). A filter that makes no sense is refused as a whole.
//!
//! KIPs: 546, 612 (addresses).

use std::collections::BTreeMap;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::describe_client_quotas_request::ComponentData;
use flumen_protocol::messages::describe_client_quotas_response::{
    EntityData, EntryData, ValueData,
};
use flumen_protocol::messages::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, StrBytes,
};
use flumen_replication::metadata::quota::{QuotaEntity, QuotaPart, Quotas};

use super::refusals::Refused;
use super::step::{self, Context, Envelope, Step, text};

/// What an entity's name must be.
#[derive(Debug)]
enum Wanted {
    /// This.
    Named(StrBytes),
    /// None: the entity stands for all others.
    Default,
    /// Anything.
    Any,
}

/// Answers from the image.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeClientQuotasRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeClientQuotas request");
    };
    let response = DescribeClientQuotasResponse::default();
    let response = match filter(&request.components) {
        Ok(filter) => {
            let all = context.image.client_quotas.iter();
            let matching = all.filter(|(entity, _)| matches(entity, &filter, request.strict));
            let entries = matching.map(|(entity, quotas)| entry(entity, quotas)).collect();
            response.with_error_message(None).with_entries(Some(entries))
        }
        Err(Refused { code, message, .. }) => response
            .with_error_code(code.code())
            .with_error_message(message.map(text))
            .with_entries(None),
    };
    step::answer(envelope, &response)
}

fn filter(components: &[ComponentData]) -> Result<BTreeMap<QuotaPart, Wanted>, Refused> {
    let invalid = |message: String| Refused::with(ErrorCode::InvalidRequest, message);
    let mut filter = BTreeMap::new();
    for component in components {
        let name = component.entity_type.as_str();
        if name.is_empty() {
            return Err(invalid("Invalid empty entity type.".to_owned()));
        }
        let Some(part) = QuotaPart::named(name) else {
            let message = format!("Unsupported entity type {name}.");
            return Err(Refused::with(ErrorCode::UnsupportedVersion, message));
        };
        if filter.insert(part, wanted(component).map_err(invalid)?).is_some() {
            let message = format!("Entity type {name} cannot appear more than once in the filter.");
            return Err(invalid(message));
        }
    }
    if filter.contains_key(&QuotaPart::Ip) && filter.len() > 1 {
        return Err(invalid(
            "Invalid entity filter component combination. IP filter component should not be used \
             with user or clientId filter component."
                .to_owned(),
        ));
    }
    Ok(filter)
}

fn wanted(component: &ComponentData) -> Result<Wanted, String> {
    match (component.match_type, &component._match) {
        (0, Some(name)) => Ok(Wanted::Named(name.clone())),
        (0, None) => {
            Err("Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned())
        }
        (1, None) => Ok(Wanted::Default),
        (2, None) => Ok(Wanted::Any),
        (1, Some(_)) => {
            Err("Request specified MATCH_TYPE_DEFAULT, but also specified a match string."
                .to_owned())
        }
        (2, Some(_)) => {
            Err("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string."
                .to_owned())
        }
        (unknown, _) => Err(format!("Unknown match type {unknown}")),
    }
}

fn matches(entity: &QuotaEntity, filter: &BTreeMap<QuotaPart, Wanted>, strict: bool) -> bool {
    let fits = |(part, wanted): (&QuotaPart, &Wanted)| match (entity.part(*part), wanted) {
        (None, _) => false,
        (Some(name), Wanted::Named(wanted)) => name == Some(wanted.as_str()),
        (Some(name), Wanted::Default) => name.is_none(),
        (Some(_), Wanted::Any) => true,
    };
    let has_others = || entity.parts().any(|(part, _)| !filter.contains_key(&part));
    filter.iter().all(fits) && !(strict && has_others())
}

fn entry(entity: &QuotaEntity, quotas: &Quotas) -> EntryData {
    let parts = entity.parts().map(|(part, name)| {
        EntityData::default()
            .with_entity_type(StrBytes::from_static_str(part.name()))
            .with_entity_name(name.map(text))
    });
    let values = quotas.iter().map(|(key, bound)| {
        ValueData::default().with_key(StrBytes::from_static_str(key.name())).with_value(bound.get())
    });
    EntryData::default().with_entity(parts.collect()).with_values(values.collect())
}
