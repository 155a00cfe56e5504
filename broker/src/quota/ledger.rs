//! What clients have spent on this node, as one core knows it.
//!
//! Does: keep an account for each client that is limited; tell the other cores what was spent on
//! this one, and count what they tell.
//! Does not: look at the time or send anything.
//! Invariants: after every exchange all cores of a node have counted the same, so that a client gets
//! the rate of its quota from the node, wherever its connections are; an account exists only where a
//! quota holds.
//! Apart because every core has its own, and nothing is shared.
//!
//! Sharing by counting the same everywhere needs no home for an account, no grant and no question:
//! a core decides at once by what it knows. What others spent in the last moments it does not know
//! yet; that is a debt soon, and debts are waited for. So the rate is exact over time, and a burst may
//! be larger by what the cores let through between two exchanges ([`crate::limits::QUOTA_EXCHANGE`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flumen_protocol::time::Monotonic;
use flumen_replication::metadata::quota::{QuotaEntity, QuotaKey, Quotas};

use super::ANONYMOUS;
use super::bucket::{Bound, Bucket};
use super::rules::{Holding, Rules};
use crate::config::options::Options;
use crate::limits::{QUOTA_ACCOUNTS_MAX, QUOTA_SWEEP_INTERVAL};

/// Who shares a bucket. An empty name: whoever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// Of what.
    pub key: QuotaKey,
    /// Of whom.
    pub user: String,
    /// Of which clients.
    pub client: String,
}

/// What was spent on one account.
pub type Spending = (Account, f64);

/// The accounts of one core.
#[derive(Debug)]
pub struct Ledger {
    /// Whether there are other cores to be told.
    is_shared: bool,
    quotas: Arc<BTreeMap<QuotaEntity, Quotas>>,
    rules: BTreeMap<QuotaKey, Rules>,
    accounts: BTreeMap<Account, (Bucket, Bound)>,
    /// What the other cores have not been told yet.
    unsaid: BTreeMap<Account, f64>,
    swept: Monotonic,
    /// How long the client whose answer is being made has to wait.
    owed: Duration,
    throttled: u64,
}

impl Ledger {
    /// Nobody is limited yet, on a node of so many cores.
    pub fn new(cores: u16) -> Self {
        Self {
            is_shared: cores > 1,
            quotas: Arc::default(),
            rules: BTreeMap::new(),
            accounts: BTreeMap::new(),
            unsaid: BTreeMap::new(),
            swept: Monotonic(0),
            owed: Duration::ZERO,
            throttled: 0,
        }
    }

    /// Takes the cluster's quotas over.
    pub fn adopt(&mut self, quotas: &Arc<BTreeMap<QuotaEntity, Quotas>>) {
        if Arc::ptr_eq(quotas, &self.quotas) {
            return;
        }
        self.quotas = quotas.clone();
        let rules = QuotaKey::ALL.map(|key| (key, Rules::new(quotas, key)));
        self.rules = rules.into_iter().filter(|(_, rules)| !rules.is_empty()).collect();
        // Who is not limited any more has no account; the others find their new bound when they
        // come again.
        let Self { rules, accounts, unsaid, .. } = self;
        accounts.retain(|account, _| rules.contains_key(&account.key));
        unsaid.retain(|account, _| rules.contains_key(&account.key));
    }

    /// Whether nobody is limited in this.
    pub fn is_free(&self, key: QuotaKey) -> bool {
        !self.rules.contains_key(&key)
    }

    /// Whether nobody is limited in anything.
    pub fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules about connections.
    pub fn connection_rules(&self) -> Option<&Rules> {
        self.rules.get(&QuotaKey::ConnectionCreationRate)
    }

    /// How many accounts there are, and how many answers told a client to wait.
    pub fn counts(&self) -> (u64, u64) {
        (self.accounts.len() as u64, self.throttled)
    }

    /// Counts what a client spends; says how long it has to wait for that.
    pub fn spend(&mut self, purse: Purse<'_>, amount: f64) -> Duration {
        let Some((account, bound)) = self.account(purse) else { return Duration::ZERO };
        self.note(&account, amount);
        let bucket = self.bucket(account, bound, purse.now);
        bucket.take(amount, bound, purse.now);
        bucket.wait(0.0, bound, purse.now)
    }

    /// How long a client has to wait until it may spend so much; nothing is counted.
    pub fn wait(&mut self, purse: Purse<'_>, amount: f64) -> Duration {
        let Some((account, bound)) = self.account(purse) else { return Duration::ZERO };
        self.bucket(account, bound, purse.now).wait(amount, bound, purse.now)
    }

    /// The most that a client can ever spend at once without waiting for it.
    pub fn brim(&self, purse: Purse<'_>) -> Option<f64> {
        self.holding(purse).map(|holding| purse.bound(holding).brim())
    }

    /// The client whose answer is being made has to wait so long, or longer for something else.
    pub fn owe(&mut self, wait: Duration) {
        self.owed = self.owed.max(wait);
    }

    /// How long the client whose answer was made has to wait, in whole milliseconds.
    pub fn take_owed(&mut self) -> Duration {
        let owed = Duration::from_millis(whole_ms(std::mem::take(&mut self.owed)) as u64);
        self.throttled += u64::from(!owed.is_zero());
        owed
    }

    /// Whether the other cores are to be told something.
    pub fn has_unsaid(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// What the other cores are to be told.
    pub fn take_unsaid(&mut self) -> Vec<Spending> {
        std::mem::take(&mut self.unsaid).into_iter().collect()
    }

    /// Another core tells what was spent there.
    pub fn hear(&mut self, spent: Vec<Spending>, options: &Options, now: Monotonic) {
        for (account, amount) in spent {
            let Account { key, user, client } = account;
            // An account of all clients of a user, or of a client whoever the user is, is found by
            // the same rule as the client that spent.
            let purse = Purse { key, user: &user, client: &client, options, now };
            if let Some((account, bound)) = self.account(purse) {
                self.bucket(account, bound, now).take(amount, bound, now);
            }
        }
    }

    fn holding(&self, purse: Purse<'_>) -> Option<Holding> {
        self.rules.get(&purse.key)?.find(purse.user, purse.client)
    }

    fn account(&self, purse: Purse<'_>) -> Option<(Account, Bound)> {
        let holding = self.holding(purse)?;
        let name = |counts: bool, name: &str| if counts { name.to_owned() } else { String::new() };
        let user = name(holding.by_user, purse.user);
        let client = name(holding.by_client, purse.client);
        Some((Account { key: purse.key, user, client }, purse.bound(holding)))
    }

    fn note(&mut self, account: &Account, amount: f64) {
        if !self.is_shared {
            return;
        }
        if let Some(unsaid) = self.unsaid.get_mut(account) {
            *unsaid += amount;
        } else if self.unsaid.len() < QUOTA_ACCOUNTS_MAX {
            // With so many at once the others do without hearing of the last.
            self.unsaid.insert(account.clone(), amount);
        }
    }

    fn bucket(&mut self, account: Account, bound: Bound, now: Monotonic) -> &mut Bucket {
        let mut account = account;
        if !self.accounts.contains_key(&account) && self.accounts.len() >= QUOTA_ACCOUNTS_MAX {
            self.sweep(now);
            if self.accounts.len() >= QUOTA_ACCOUNTS_MAX {
                // Who finds no account of his own shares one with all others who do not.
                account = Account { user: String::new(), client: String::new(), ..account };
            }
        }
        let entry = self.accounts.entry(account);
        let (bucket, known) = entry.or_insert_with(|| (Bucket::full(bound, now), bound));
        *known = bound;
        bucket
    }

    /// Forgets the accounts that are full: a new one would be the same.
    fn sweep(&mut self, now: Monotonic) {
        if now.since(self.swept) < QUOTA_SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        self.accounts.retain(|_, (bucket, bound)| bucket.level(*bound, now) < bound.brim());
    }
}

/// Who spends what.
#[derive(Clone, Copy, Debug)]
pub struct Purse<'a> {
    /// What.
    pub key: QuotaKey,
    /// Who it is.
    pub user: &'a str,
    /// What it calls itself.
    pub client: &'a str,
    /// The settings in force: they say how long a window is.
    pub options: &'a Options,
    /// The time of this turn.
    pub now: Monotonic,
}

impl<'a> Purse<'a> {
    /// Of a client that says nothing of who it is.
    pub fn of(key: QuotaKey, client: &'a str, options: &'a Options, now: Monotonic) -> Self {
        Self { key, user: ANONYMOUS, client, options, now }
    }

    /// What a window of Kafka's lets through at once: of one measured by samples all but the one
    /// that is being filled, of one with tokens all.
    fn bound(&self, holding: Holding) -> Bound {
        let windows = &self.options.quotas;
        let (samples, size) = match self.key {
            QuotaKey::ControllerMutationRate => {
                (windows.controller_window_num, windows.controller_window_size_seconds)
            }
            QuotaKey::ProducerByteRate
            | QuotaKey::ConsumerByteRate
            | QuotaKey::RequestPercentage
            | QuotaKey::ConnectionCreationRate => {
                ((windows.window_num - 1).max(1), windows.window_size_seconds)
            }
        };
        Bound { per_second: holding.bound, seconds: f64::from(samples) * f64::from(size) }
    }
}

/// A wait as clients are told it: a started millisecond counts.
pub fn whole_ms(wait: Duration) -> i32 {
    i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use flumen_replication::metadata::quota::{QuotaBound, QuotaPart};

    use super::*;

    const KEY: QuotaKey = QuotaKey::ProducerByteRate;

    struct Node {
        cores: Vec<Ledger>,
        options: Options,
    }

    impl Node {
        /// Cores where each client id may have 100 per second, ten seconds' worth at once.
        fn new(cores: u16) -> Self {
            let mut node = Self {
                cores: (0..cores).map(|_| Ledger::new(cores)).collect(),
                options: Options::default(),
            };
            node.limit(Some(100.0));
            node
        }

        fn limit(&mut self, bound: Option<f64>) {
            let entity = QuotaEntity::new(BTreeMap::from([(QuotaPart::ClientId, None)])).unwrap();
            let bound = bound.and_then(QuotaBound::new);
            let quotas = bound.map(|bound| (entity, Quotas::from([(KEY, bound)])));
            let quotas = Arc::new(quotas.into_iter().collect());
            self.cores.iter_mut().for_each(|core| core.adopt(&quotas));
        }

        fn spend(&mut self, core: usize, client: &str, amount: f64, millis: u64) -> Duration {
            let purse = Purse::of(KEY, client, &self.options, at(millis));
            self.cores[core].spend(purse, amount)
        }

        fn exchange(&mut self, millis: u64) {
            for core in 0..self.cores.len() {
                let said = self.cores[core].take_unsaid();
                for other in (0..self.cores.len()).filter(|other| *other != core) {
                    self.cores[other].hear(said.clone(), &self.options, at(millis));
                }
            }
        }
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_millis(millis))
    }

    #[test]
    fn a_client_gets_its_rate_from_the_node_wherever_it_connects() {
        for connections in [[1, 1], [9, 1]] {
            let mut node = Node::new(2);
            let (mut spent, mut free_at) = (0.0, [0; 10]);
            for step in 0..10_000 {
                let millis = step * 10;
                for (connection, free_at) in free_at.iter_mut().enumerate() {
                    let core = usize::from(connection >= connections[0]);
                    let is_open = connection < connections[0] + connections[1];
                    if is_open && *free_at <= millis {
                        let wait = node.spend(core, "c", 5.0, millis);
                        spent += 5.0;
                        *free_at = millis + wait.as_millis() as u64 + 1;
                    }
                }
                if step % 10 == 0 {
                    node.exchange(millis);
                }
            }
            let rate = (spent - 1000.0) / 100.0;
            assert!((97.0..=103.0).contains(&rate), "{connections:?}: {rate} per second");
        }
    }

    #[test]
    fn accounts_are_kept_apart_and_nobody_limited_has_none() {
        let mut node = Node::new(1);
        assert_eq!(node.spend(0, "a", 1100.0, 0), Duration::from_secs(1));
        assert_eq!(node.spend(0, "b", 1000.0, 0), Duration::ZERO);
        assert!(!node.cores[0].has_unsaid(), "there is nobody to be told");
        node.limit(None);
        assert_eq!((node.spend(0, "a", 1e9, 0), node.cores[0].counts().0), (Duration::ZERO, 0));
        assert!(node.cores[0].is_idle());
    }

    #[test]
    fn a_new_bound_holds_at_once_and_debts_stay() {
        let mut node = Node::new(1);
        node.spend(0, "a", 1100.0, 0);
        node.limit(Some(10.0));
        let purse = Purse::of(KEY, "a", &node.options, at(0));
        assert_eq!(node.cores[0].wait(purse, 0.0), Duration::from_secs(10));
    }

    #[test]
    fn any_number_of_clients_has_a_bounded_number_of_accounts() {
        let mut node = Node::new(2);
        for client in 0..QUOTA_ACCOUNTS_MAX + 100 {
            node.spend(0, &client.to_string(), 10.0, 0);
        }
        let (accounts, _) = node.cores[0].counts();
        assert_eq!(accounts, QUOTA_ACCOUNTS_MAX as u64 + 1, "the last share one");
        // A second later the others are full again and give their place.
        node.spend(0, "one more", 10.0, 2_000);
        assert!(node.cores[0].counts().0 < 10);
    }

    #[test]
    fn what_is_owed_is_told_once_and_in_whole_milliseconds() {
        let mut ledger = Ledger::new(1);
        ledger.owe(Duration::from_micros(1500));
        ledger.owe(Duration::from_micros(100));
        assert_eq!(ledger.take_owed(), Duration::from_millis(2));
        assert_eq!((ledger.take_owed(), ledger.counts().1), (Duration::ZERO, 1));
    }
}
