//! AlterClientQuotas (key 49, versions 0–1): change the quotas of clients.
//!
//! - Each entity by itself: one that is refused does not keep the others from being changed. What an
//!   alteration does not name stays; a removal of what is not there is none.
//! - The checks and their words are Kafka's: parts of an entity, keys that belong to it, values above
//!   zero, whole where fractions make no sense.
//! - Changes stand in the cluster's log before the answer leaves, and hold from then on.
//!
//! Deviations: an address is given as one; names of hosts are not looked up.
//! KIPs: 546, 612 (addresses).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::alter_client_quotas_request::{
    EntityData as AskedPart, EntryData as AskedEntry, OpData,
};
use flumen_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use flumen_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use flumen_replication::metadata::command::{Command, QuotaAlteration};
use flumen_replication::metadata::quota::{QuotaBound, QuotaEntity, QuotaKey, QuotaPart};

use super::refusals::{self, Refused};
use super::step::{self, Context, Envelope, Progress, Step, text};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::Answer;

/// Quotas being changed.
#[derive(Debug)]
pub struct Waiting {
    /// Each entity as it was named, and what became of it; until the controller has answered, a
    /// time-out.
    items: Vec<(Vec<AskedPart>, Result<(), Refused>)>,
    /// Which of them the controller was asked for, in its order.
    places: Vec<usize>,
}

/// Checks every alteration and asks the controller for those that are sound.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<AlterClientQuotasRequest>(envelope, frame, body) else {
        return Step::Close("malformed AlterClientQuotas request");
    };
    let mut waiting = Waiting { items: Vec::new(), places: Vec::new() };
    let (mut alterations, mut seen) = (Vec::new(), BTreeSet::new());
    for asked in request.entries {
        let checked = check(&asked).and_then(|alteration| {
            let is_new = seen.insert(alteration.entity.clone());
            let message = || format!("Ignoring duplicate entity {}", alteration.entity);
            if is_new { Ok(alteration) } else { Err(invalid(message())) }
        });
        let result = match checked {
            Ok(alteration) => {
                waiting.places.push(waiting.items.len());
                alterations.push(alteration);
                Err(ErrorCode::RequestTimedOut.into())
            }
            Err(refused) => Err(refused),
        };
        waiting.items.push((asked.entity, result));
    }
    if alterations.is_empty() {
        return waiting.close(envelope);
    }
    let validate_only = request.validate_only;
    let command = Command::AlterQuotas { alterations, validate_only };
    step::control(context, command, AnyWaiting::AlterClientQuotas(waiting), context.patience())
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::with(ErrorCode::InvalidRequest, message)
}

fn check(asked: &AskedEntry) -> Result<QuotaAlteration, Refused> {
    let entity = check_entity(&asked.entity)?;
    let mut changes = BTreeMap::new();
    for op in &asked.ops {
        let (key, bound) = check_op(&entity, op)?;
        if changes.insert(key, bound).is_some() {
            let (key, entity) = (key.name(), &entity);
            return Err(invalid(format!(
                "Duplicate quota key {key} not updating quota for this entity {entity}"
            )));
        }
    }
    Ok(QuotaAlteration { entity, changes })
}

fn check_entity(asked: &[AskedPart]) -> Result<QuotaEntity, Refused> {
    let mut parts = BTreeMap::new();
    for part in asked {
        let (kind, name) = (part.entity_type.as_str(), part.entity_name.as_deref());
        let known = QuotaPart::named(kind)
            .ok_or_else(|| invalid(format!("Unhandled client quota entity type: {kind}")))?;
        if name == Some("") {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
        if parts.insert(known, name.map(str::to_owned)).is_some() {
            return Err(invalid(format!(
                "Invalid client quota entity, duplicate entity entry {kind}"
            )));
        }
    }
    let is_empty = parts.is_empty();
    if let Some(Some(address)) = parts.get_mut(&QuotaPart::Ip) {
        // In the form in which connections are looked up.
        let known: Result<IpAddr, _> = address.parse();
        *address = known
            .map_err(|_| invalid(format!("{address} is not a valid IP or resolvable host.")))?
            .to_canonical()
            .to_string();
    }
    QuotaEntity::new(parts).ok_or_else(|| {
        invalid(if is_empty {
            "Invalid empty client quota entity"
        } else {
            "Invalid quota entity combination, IP entity should not be combined with User or \
             ClientId"
        })
    })
}

/// What is bounded, and how from now on; `None`: no more.
fn check_op(entity: &QuotaEntity, op: &OpData) -> Result<(QuotaKey, Option<QuotaBound>), Refused> {
    let name = op.key.as_str();
    let known = QuotaKey::named(name).filter(|key| entity.takes(*key));
    let Some(key) = known else {
        return Err(invalid(format!("Invalid configuration key {name}")));
    };
    if op.remove {
        return Ok((key, None));
    }
    let Some(bound) = QuotaBound::new(op.value) else {
        return Err(invalid(format!("Quota {name} must be greater than 0")));
    };
    if let Some(most) = key.whole_max() {
        if op.value > most {
            let kind = if most > f64::from(i32::MAX) { "a LONG" } else { "an INT" };
            return Err(invalid(format!("Proposed value for {name} is too large for {kind}.")));
        }
        if op.value.fract() > 1e-6 {
            return Err(invalid(format!("{name} cannot be a fractional value.")));
        }
    }
    Ok((key, Some(bound)))
}

impl Waiting {
    /// Takes the controller's answer in.
    ///
    /// # Panics
    /// When the controller answers another question: two rooms disagree, which is our own bug.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        let results = refusals::of_changes(answer, self.places.len());
        for (place, result) in self.places.iter().zip(results) {
            self.items[*place].1 = result;
        }
        Progress::Done
    }

    /// Answers for every entity.
    pub fn close(self, envelope: &Envelope) -> Step {
        let entry = |(parts, result): (Vec<AskedPart>, Result<(), Refused>)| {
            let parts = parts.into_iter().map(|part| {
                EntityData::default()
                    .with_entity_type(part.entity_type)
                    .with_entity_name(part.entity_name)
            });
            let entry = EntryData::default().with_entity(parts.collect());
            match result {
                Ok(()) => entry.with_error_message(None),
                Err(Refused { code, message, .. }) => {
                    entry.with_error_code(code.code()).with_error_message(message.map(text))
                }
            }
        };
        let entries = self.items.into_iter().map(entry).collect();
        step::answer(envelope, &AlterClientQuotasResponse::default().with_entries(entries))
    }
}
