//! Which bound holds for a client.
//!
//! Does: sort the cluster's quotas for look-up, and apply Kafka's order of precedence.
//! Does not: count.
//! Invariants: the most particular quota wins, and says who shares an account.
//! Apart because this order is a promise of Kafka's documentation.
//!
//! | quota of | shared by |
//! |---|---|
//! | user and client id | connections of this user with this id |
//! | user and default client id | the same |
//! | user | all connections of this user |
//! | default user and client id | connections of each user with this id |
//! | default user and default client id | the same |
//! | default user | all connections of each user |
//! | client id | connections with this id, whoever they are |
//! | default client id | connections with each id |

use std::collections::BTreeMap;

use flumen_replication::metadata::quota::{QuotaEntity, QuotaKey, QuotaPart, Quotas};

/// Quotas of one key, for look-up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    users: BTreeMap<String, OfUser>,
    /// Of users without a quota of their own.
    other_users: OfUser,
    /// Whoever the user is.
    any_user: OfUser,
    /// Of addresses, by their text, and of all others.
    addresses: BTreeMap<String, f64>,
    other_addresses: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct OfUser {
    clients: BTreeMap<String, f64>,
    other_clients: Option<f64>,
    /// Of all its clients together.
    all: Option<f64>,
}

/// A bound, and whom it is counted for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holding {
    /// Per second.
    pub bound: f64,
    /// Whether each user has an account of its own.
    pub by_user: bool,
    /// Whether each client id has.
    pub by_client: bool,
}

impl Rules {
    /// The quotas of one key.
    pub fn new(quotas: &BTreeMap<QuotaEntity, Quotas>, key: QuotaKey) -> Self {
        let mut rules = Self::default();
        for (entity, bounds) in quotas {
            if let Some(bound) = bounds.get(&key) {
                rules.insert(entity, bound.get());
            }
        }
        rules
    }

    fn insert(&mut self, entity: &QuotaEntity, bound: f64) {
        match entity.part(QuotaPart::Ip) {
            Some(Some(address)) => drop(self.addresses.insert(address.to_owned(), bound)),
            Some(None) => self.other_addresses = Some(bound),
            None => {}
        }
        let of_user = match entity.part(QuotaPart::User) {
            Some(Some(user)) => self.users.entry(user.to_owned()).or_default(),
            Some(None) => &mut self.other_users,
            None => &mut self.any_user,
        };
        match entity.part(QuotaPart::ClientId) {
            Some(Some(client)) => drop(of_user.clients.insert(client.to_owned(), bound)),
            Some(None) => of_user.other_clients = Some(bound),
            None if entity.part(QuotaPart::User).is_some() => of_user.all = Some(bound),
            None => {}
        }
    }

    /// Whether nobody is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What holds for a client.
    pub fn find(&self, user: &str, client: &str) -> Option<Holding> {
        let of_client = |of_user: &OfUser, by_user| {
            // A client without an id has no quota as one (Kafka's rule).
            let bound = of_user.clients.get(client).copied().or(of_user.other_clients);
            let bound = bound.filter(|_| !client.is_empty())?;
            Some(Holding { bound, by_user, by_client: true })
        };
        let of_user = |of_user: &OfUser| {
            let of_all = |bound| Holding { bound, by_user: true, by_client: false };
            of_client(of_user, true).or_else(|| of_user.all.map(of_all))
        };
        let named = self.users.get(user).and_then(of_user);
        named.or_else(|| of_user(&self.other_users)).or_else(|| of_client(&self.any_user, false))
    }

    /// What holds for an address.
    pub fn find_address(&self, address: &str) -> Option<f64> {
        self.addresses.get(address).copied().or(self.other_addresses)
    }
}

#[cfg(test)]
mod tests {
    use flumen_replication::metadata::quota::QuotaBound;

    use super::*;

    const KEY: QuotaKey = QuotaKey::ProducerByteRate;

    type Parts<'a> = &'a [(QuotaPart, Option<&'a str>)];

    fn quotas(of: &[(Parts<'_>, f64)]) -> BTreeMap<QuotaEntity, Quotas> {
        let entity = |parts: Parts<'_>| {
            let parts = parts.iter().map(|(part, name)| (*part, name.map(str::to_owned)));
            QuotaEntity::new(parts.collect()).unwrap()
        };
        let bound = |bound| Quotas::from([(KEY, QuotaBound::new(bound).unwrap())]);
        of.iter().map(|(parts, value)| (entity(parts), bound(*value))).collect()
    }

    #[test]
    fn the_most_particular_quota_wins() {
        const USER: QuotaPart = QuotaPart::User;
        const CLIENT: QuotaPart = QuotaPart::ClientId;
        // In the order of precedence, with whom an account is for.
        type Case = (Parts<'static>, (bool, bool));
        let cases: [Case; 8] = [
            (&[(USER, Some("u")), (CLIENT, Some("c"))], (true, true)),
            (&[(USER, Some("u")), (CLIENT, None)], (true, true)),
            (&[(USER, Some("u"))], (true, false)),
            (&[(USER, None), (CLIENT, Some("c"))], (true, true)),
            (&[(USER, None), (CLIENT, None)], (true, true)),
            (&[(USER, None)], (true, false)),
            (&[(CLIENT, Some("c"))], (false, true)),
            (&[(CLIENT, None)], (false, true)),
        ];
        for first in 0..cases.len() {
            let left: Vec<_> = (first..cases.len()).map(|n| (cases[n].0, n as f64 + 1.0)).collect();
            let rules = Rules::new(&quotas(&left), KEY);
            let (by_user, by_client) = cases[first].1;
            let expected = Holding { bound: first as f64 + 1.0, by_user, by_client };
            assert_eq!(rules.find("u", "c"), Some(expected), "{:?}", cases[first].0);
        }
        let all: Vec<_> = (0..cases.len()).map(|n| (cases[n].0, n as f64 + 1.0)).collect();
        let rules = Rules::new(&quotas(&all), KEY);
        let bound = |user, client| rules.find(user, client).map(|holding| holding.bound);
        assert_eq!(bound("u", "other"), Some(2.0));
        assert_eq!((bound("other", "c"), bound("other", "other")), (Some(4.0), Some(5.0)));
        assert_eq!((bound("u", ""), bound("other", "")), (Some(3.0), Some(6.0)));
    }

    #[test]
    fn a_quota_of_one_key_says_nothing_of_another() {
        let rules = quotas(&[(&[(QuotaPart::ClientId, None)], 1.0)]);
        assert!(Rules::new(&rules, QuotaKey::ConsumerByteRate).is_empty());
        let rules = Rules::new(&rules, KEY);
        assert!(!rules.is_empty());
        assert_eq!(rules.find("u", ""), None, "a client without an id is not one of them");
    }

    #[test]
    fn an_address_is_known_by_its_text() {
        let of = [(QuotaPart::Ip, Some("10.0.0.1"))];
        let rules = Rules::new(&quotas(&[(&of, 2.0), (&[(QuotaPart::Ip, None)], 7.0)]), KEY);
        assert_eq!(rules.find_address("10.0.0.1"), Some(2.0));
        assert_eq!(rules.find_address("::1"), Some(7.0));
        assert_eq!(rules.find("u", "c"), None);
    }
}
