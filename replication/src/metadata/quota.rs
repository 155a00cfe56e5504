//! Quotas of clients: for whom, of what, how much (KIP-13, 124, 546, 599, 612).
//!
//! Does: name entities and what may be limited, and work out what an alteration leaves.
//! Does not: count or throttle anything; each core of a broker does.
//! Invariants: an entity has at least one part, and an address stands alone; a bound is a finite
//! number above zero.
//! Apart because entities and keys are words of Kafka's protocol, of the cluster's log and of brokers.

use std::collections::BTreeMap;
use std::fmt;

use super::command::{MetadataRefusal, MetadataRule, QuotaAlteration};
use super::image::Image;
use super::record::MetadataRecord;
use crate::limits::{QUOTA_ENTITIES_MAX, QUOTA_NAME_BYTES_MAX};

/// What a client can be told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaPart {
    /// Who it is.
    User,
    /// What it calls itself.
    ClientId,
    /// Where it connects from.
    Ip,
}

impl QuotaPart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::User, Self::ClientId, Self::Ip];

    /// Kafka's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }

    /// The part of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// What may be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKey {
    /// Bytes per second of Produce requests.
    ProducerByteRate,
    /// Bytes per second of Fetch answers.
    ConsumerByteRate,
    /// Percent of one core's time.
    RequestPercentage,
    /// Partitions created or deleted per second.
    ControllerMutationRate,
    /// Connections accepted per second.
    ConnectionCreationRate,
}

impl QuotaKey {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ProducerByteRate,
        Self::ConsumerByteRate,
        Self::RequestPercentage,
        Self::ControllerMutationRate,
        Self::ConnectionCreationRate,
    ];

    /// Kafka's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::RequestPercentage => "request_percentage",
            Self::ControllerMutationRate => "controller_mutation_rate",
            Self::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// The key of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The largest whole number it takes; `None` where fractions make sense.
    #[must_use]
    pub fn whole_max(self) -> Option<f64> {
        match self {
            Self::ProducerByteRate | Self::ConsumerByteRate => Some(i64::MAX as f64),
            Self::ConnectionCreationRate => Some(f64::from(i32::MAX)),
            Self::RequestPercentage | Self::ControllerMutationRate => None,
        }
    }
}

/// For whom a quota holds: a name for each part, or `None` for all who have no quota of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity(BTreeMap<QuotaPart, Option<String>>);

impl QuotaEntity {
    /// An entity of these parts; `None` where there are none, or an address beside others.
    #[must_use]
    pub fn new(parts: BTreeMap<QuotaPart, Option<String>>) -> Option<Self> {
        let is_sound = match parts.len() {
            0 => false,
            1 => true,
            _ => !parts.contains_key(&QuotaPart::Ip),
        };
        is_sound.then_some(Self(parts))
    }

    /// Its parts.
    pub fn parts(&self) -> impl Iterator<Item = (QuotaPart, Option<&str>)> {
        self.0.iter().map(|(part, name)| (*part, name.as_deref()))
    }

    /// Its name for a part, if it has the part.
    #[must_use]
    pub fn part(&self, part: QuotaPart) -> Option<Option<&str>> {
        self.0.get(&part).map(Option::as_deref)
    }

    /// Whether it may be limited in this.
    #[must_use]
    pub fn takes(&self, key: QuotaKey) -> bool {
        self.0.contains_key(&QuotaPart::Ip) == (key == QuotaKey::ConnectionCreationRate)
    }
}

/// How much. Always finite and above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuotaBound(f64);

impl QuotaBound {
    /// A bound, if the number can be one.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (value.is_finite() && value > 0.0).then_some(Self(value))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

// No bound is NaN, so each equals itself.
impl Eq for QuotaBound {}

/// The bounds of one entity.
pub type Quotas = BTreeMap<QuotaKey, QuotaBound>;

/// What an alteration comes to: the entity's record, if anything changes. `fresh` counts the entities
/// that the command adds.
pub(super) fn alter(
    image: &Image,
    wish: &QuotaAlteration,
    fresh: &mut usize,
) -> Result<Option<MetadataRecord>, MetadataRefusal> {
    let too_much = |message: String| Err(MetadataRefusal { kind: MetadataRule::TooMuch, message });
    let standing = image.client_quotas.get(&wish.entity);
    let longest = wish.entity.parts().filter_map(|(_, name)| name.map(str::len)).max();
    if longest.is_some_and(|bytes| bytes > QUOTA_NAME_BYTES_MAX) {
        return too_much(format!("A name has at most {QUOTA_NAME_BYTES_MAX} bytes."));
    }
    if standing.is_none() && image.client_quotas.len() + *fresh >= QUOTA_ENTITIES_MAX {
        return too_much(format!("There are quotas of {QUOTA_ENTITIES_MAX} entities already."));
    }
    let mut quotas = standing.cloned().unwrap_or_default();
    for (key, bound) in &wish.changes {
        match bound {
            Some(bound) => quotas.insert(*key, *bound),
            None => quotas.remove(key),
        };
    }
    let is_news = standing.map_or(!quotas.is_empty(), |standing| *standing != quotas);
    *fresh += usize::from(is_news && standing.is_none());
    let entity = wish.entity.clone();
    Ok(is_news.then_some(MetadataRecord::ClientQuotas { entity, quotas }))
}

impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (part, name)) in self.parts().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{}={}", part.name(), name.unwrap_or("<default>"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_alone_and_something_must_stand() {
        let entity = |parts: &[QuotaPart]| {
            QuotaEntity::new(parts.iter().map(|part| (*part, None)).collect())
        };
        assert_eq!(entity(&[]), None);
        assert_eq!(entity(&[QuotaPart::Ip, QuotaPart::User]), None);
        let both = entity(&[QuotaPart::User, QuotaPart::ClientId]).unwrap();
        assert_eq!(both.to_string(), "user=<default>, client-id=<default>");
        let address = entity(&[QuotaPart::Ip]).unwrap();
        for key in QuotaKey::ALL {
            assert_ne!(both.takes(key), address.takes(key), "{key:?}");
            assert_eq!(QuotaKey::named(key.name()), Some(key));
        }
    }

    #[test]
    fn a_bound_is_a_number_above_zero() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(QuotaBound::new(bad), None);
        }
        assert_eq!(QuotaBound::new(0.5).map(QuotaBound::get), Some(0.5));
    }
}
