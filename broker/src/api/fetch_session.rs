//! Fetch sessions (KIP-227): what a client reads, remembered, so that it only says what changed and
//! only hears what is new.
//!
//! Does: keep the sessions that began on this core, with what each partition of them was last asked
//! for and told; say which of them are due; evict as Kafka does.
//! Does not: read, wait, or know who owns a partition; `k01_fetch` and the shard's `follows` do.
//! Invariants: a partition is either due, or its owner follows it for the session and says when it
//! is: so a request costs what it names and what is due, however large the session is. What all
//! sessions take is counted and bounded.
//! Apart because a session lives longer than a request.
//!
//! ```text
//!   due ──► looked at ──► followed   nothing to read, and the owner has promised to tell of news
//!    ▲          └───────► due        records, a fault, or no room left in the answer
//!    └── the owner told of news ◄── followed, or the client asks for something else
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::fetch::{
    FetchPartition, FetchPartitionResponse, FetchTopic, ForgottenTopic,
};
use flumen_protocol::ids::{CoreId, LogId, Offset, PartitionIndex, TopicId};
use flumen_protocol::messages::StrBytes;
use flumen_protocol::time::Monotonic;
use flumen_replication::dice::Dice;
use flumen_replication::metadata::image::Image;

use crate::limits::{FETCH_SESSION_BYTES, FETCH_SESSION_PARTITION_BYTES, FETCH_SESSIONS_SHARE};
use crate::shard::mailbox::Follower;

/// How long a session must not have been used, or must have existed, before others may take its
/// place: Kafka's number (`MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// The epoch that asks for a new session.
pub const EPOCH_INITIAL: i32 = 0;
/// The epoch that asks for no session.
pub const EPOCH_FINAL: i32 = -1;

/// How a request names a topic: one way for all of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    /// Up to version 12.
    Name(StrBytes),
    /// From version 13 on.
    Id(TopicId),
}

impl TopicKey {
    fn of(name: Option<&str>, id: TopicId) -> Self {
        match name {
            Some(name) => Self::Name(StrBytes::from_string(name.to_owned())),
            None => Self::Id(id),
        }
    }

    /// Where the records of a partition are.
    ///
    /// # Errors
    /// There is no such topic or partition.
    fn log(&self, partition: PartitionIndex, image: &Image) -> Result<LogId, ErrorCode> {
        let (topic, unknown) = match self {
            Self::Name(name) => (image.topic_named(name), ErrorCode::UnknownTopicOrPartition),
            Self::Id(id) => (image.topic(*id), ErrorCode::UnknownTopicId),
        };
        let topic = topic.ok_or(unknown)?;
        topic.log(partition).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// A partition that a request has to look at.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its number in the session.
    pub slot: u32,
    /// Its topic.
    pub topic: TopicKey,
    /// Where its records are, or that there is no such partition.
    pub log: Result<LogId, ErrorCode>,
    /// What is wanted of it.
    pub wanted: FetchPartition,
}

/// The sessions that began on one core.
#[derive(Debug)]
pub struct FetchSessions {
    core: CoreId,
    cores: u16,
    /// What all of them may take.
    bytes_max: usize,
    open: BTreeMap<i32, Session>,
    /// Invariant: exactly the open sessions.
    last_used: BTreeSet<(Monotonic, i32)>,
    /// Partitions of all sessions.
    partitions: usize,
    evictions: u64,
    /// Whom the owners need not tell any more; the shard lets them know after every request.
    left: Vec<(Follower, LogId)>,
}

#[derive(Debug)]
struct Session {
    /// The epoch that its next request must have.
    epoch: i32,
    names_by_id: bool,
    created: Monotonic,
    last_used: Monotonic,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    places: BTreeMap<TopicKey, BTreeMap<PartitionIndex, u32>>,
    /// By turn. Invariant: exactly the slots that are due.
    due: BTreeSet<(u64, u32)>,
    next_turn: u64,
    /// The request that waits with it, or did last.
    request: Option<u64>,
}

#[derive(Debug)]
struct Slot {
    topic: TopicKey,
    wanted: FetchPartition,
    /// As last looked up: who may follow it. An owner forgets followers with the log.
    log: Option<LogId>,
    /// Its place in the line: who gave records goes to its end (G60).
    turn: u64,
    /// What the client was told last.
    high_watermark: Offset,
    start: Offset,
}

impl FetchSessions {
    /// None yet, on one of so many cores whose requests may take so much memory.
    pub fn new(core: CoreId, cores: u16, budget: usize) -> Self {
        Self {
            core,
            cores,
            bytes_max: budget / FETCH_SESSIONS_SHARE,
            open: BTreeMap::new(),
            last_used: BTreeSet::new(),
            partitions: 0,
            evictions: 0,
            left: Vec::new(),
        }
    }

    /// Sessions, partitions in all of them, and how many sessions had to make room for others.
    pub fn counts(&self) -> (usize, usize, u64) {
        (self.open.len(), self.partitions, self.evictions)
    }

    /// Bytes that they take, with what owners keep for them.
    pub fn bytes(&self) -> usize {
        bytes_of(self.open.len(), self.partitions)
    }

    /// Begins a session over what a request names, if there is room or somebody has to make some:
    /// who was not used for long, or who is old and smaller (Kafka's rules). All of it is due.
    pub fn begin(
        &mut self,
        asked: &[FetchTopic],
        names_by_id: bool,
        slots_max: usize,
        now: Monotonic,
        dice: &mut Dice,
    ) -> Option<i32> {
        let size = asked.iter().map(|topic| topic.partitions.len()).sum();
        let share = slots_max.div_ceil(usize::from(self.cores));
        while self.open.len() >= share || !self.has_bytes(1, size) {
            if bytes_of(1, size) > self.bytes_max || share == 0 {
                return None;
            }
            let evicted = self.evictable(size, now)?;
            self.end(evicted);
            self.evictions += 1;
        }
        let id = self.draw_id(dice);
        self.open.insert(id, Session::new(names_by_id, now));
        self.last_used.insert((now, id));
        self.add(id, asked);
        Some(id)
    }

    /// Takes the next step of a session: the request has its epoch, and the next one must have the
    /// one after it.
    ///
    /// # Errors
    /// What the client is told: that it must begin anew.
    pub fn resume(
        &mut self,
        id: i32,
        epoch: i32,
        names_by_id: bool,
        now: Monotonic,
    ) -> Result<(), ErrorCode> {
        let session = self.open.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.names_by_id != names_by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        self.last_used.remove(&(session.last_used, id));
        session.last_used = now;
        session.epoch = next_epoch(epoch);
        self.last_used.insert((now, id));
        Ok(())
    }

    /// Adds, changes and forgets partitions, in this order (Kafka's). Says whether any is left; a
    /// session without any is over.
    ///
    /// # Errors
    /// There is no room for what is added: the session is over, and its client begins anew.
    pub fn update(
        &mut self,
        id: i32,
        asked: &[FetchTopic],
        forgotten: &[ForgottenTopic],
    ) -> Result<bool, ErrorCode> {
        let more = asked.iter().map(|topic| topic.partitions.len()).sum();
        if !self.has_bytes(0, more) {
            self.end(id);
            self.evictions += 1;
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        self.add(id, asked);
        for topic in forgotten {
            let key = TopicKey::of(topic.name.as_deref(), topic.id);
            topic.partitions.iter().for_each(|partition| self.forget(id, &key, *partition));
        }
        let is_empty = self.open.get(&id).is_none_or(|session| session.places.is_empty());
        if is_empty {
            self.end(id);
        }
        Ok(!is_empty)
    }

    /// Ends a session, if it is there.
    pub fn end(&mut self, id: i32) {
        let Some(session) = self.open.remove(&id) else { return };
        self.last_used.remove(&(session.last_used, id));
        for (number, slot) in (0..).zip(&session.slots) {
            let Some(slot) = slot else { continue };
            self.partitions -= 1;
            let follower =
                Follower { core: self.core, session: id, slot: number, epoch: EPOCH_FINAL };
            self.left.extend(slot.log.map(|log| (follower, log)));
        }
    }

    /// The partitions that are due, in their turn.
    pub fn due(&mut self, id: i32, image: &Image) -> Vec<Due> {
        let Some(session) = self.open.get_mut(&id) else { return Vec::new() };
        let due: Vec<u32> = session.due.iter().map(|(_, slot)| *slot).collect();
        due.into_iter().filter_map(|slot| session.look(slot, image)).collect()
    }

    /// One partition, whether due or not.
    pub fn look(&mut self, id: i32, slot: u32, image: &Image) -> Option<Due> {
        self.open.get_mut(&id)?.look(slot, image)
    }

    /// The epoch that the next request of a session must have; `None` if it is over.
    pub fn epoch(&self, id: i32) -> Option<i32> {
        self.open.get(&id).map(|session| session.epoch)
    }

    /// The owner has promised to tell of news of a partition, in answer to a request of this epoch.
    pub fn calm(&mut self, follower: Follower) {
        if let Some(session) = self.open.get_mut(&follower.session)
            // An answer to an earlier request, which nobody waits for any more, promised something
            // else.
            && session.epoch == follower.epoch
            && let Some(slot) = session.slot(follower.slot)
        {
            let place = (slot.turn, follower.slot);
            session.due.remove(&place);
        }
    }

    /// A partition is due: its owner has told of news. Says which request waits for some, if any.
    pub fn rouse(&mut self, follower: Follower) -> Option<u64> {
        let session = self.open.get_mut(&follower.session)?;
        session.rouse(follower.slot);
        session.request
    }

    /// The request with this number waits with the session.
    pub fn wait(&mut self, id: i32, request: u64) {
        if let Some(session) = self.open.get_mut(&id) {
            session.request = Some(request);
        }
    }

    /// Whether the client must be told this of a partition (G68). If so it is taken as told.
    pub fn tell(&mut self, id: i32, number: u32, said: &FetchPartitionResponse) -> bool {
        // A session that is over has nothing to compare with.
        let Some(session) = self.open.get_mut(&id) else { return true };
        let Some(slot) = session.slots.get_mut(number as usize).and_then(Option::as_mut) else {
            return true;
        };
        let has_records = !said.records.is_empty();
        let is_faulty = said.error != ErrorCode::None;
        let is_news = has_records
            || is_faulty
            || slot.high_watermark != said.high_watermark
            || slot.start != said.log_start_offset;
        // When the fault is gone the client hears of the partition again.
        slot.high_watermark = if is_faulty { Offset::UNKNOWN } else { said.high_watermark };
        slot.start = said.log_start_offset;
        if has_records {
            session.move_back(number);
        }
        if has_records || is_faulty {
            session.rouse(number);
        }
        is_news
    }

    /// Whom owners need not tell any more.
    pub fn take_left(&mut self) -> Vec<(Follower, LogId)> {
        std::mem::take(&mut self.left)
    }

    /// What an owner calls a partition of a session, for the request that is being served.
    pub fn follower(&self, session: i32, slot: u32) -> Follower {
        let epoch = self.epoch(session).unwrap_or(EPOCH_FINAL);
        Follower { core: self.core, session, slot, epoch }
    }

    fn has_bytes(&self, sessions: usize, partitions: usize) -> bool {
        bytes_of(self.open.len() + sessions, self.partitions + partitions) <= self.bytes_max
    }

    fn evictable(&self, size: usize, now: Monotonic) -> Option<i32> {
        let (used, oldest) = *self.last_used.first()?;
        if now.since(used) > EVICTION_AGE {
            return Some(oldest);
        }
        let old = self.open.iter().filter(|(_, it)| now.since(it.created) > EVICTION_AGE);
        let smallest = old.map(|(id, session)| (session.size(), *id)).min()?;
        (smallest.0 < size).then_some(smallest.1)
    }

    /// Ids are drawn, so that a client cannot guess another's, and tell their core, so that no two
    /// cores give the same.
    fn draw_id(&self, dice: &mut Dice) -> i32 {
        loop {
            let drawn = (dice.draw() >> 33) as i32;
            let id = drawn - drawn % i32::from(self.cores) + i32::from(self.core.0);
            if id > 0 && !self.open.contains_key(&id) {
                return id;
            }
        }
    }

    fn add(&mut self, id: i32, asked: &[FetchTopic]) {
        let Some(session) = self.open.get_mut(&id) else { return };
        let before = session.size();
        for topic in asked.iter().filter(|topic| !topic.partitions.is_empty()) {
            let key = TopicKey::of(topic.name.as_deref(), topic.id);
            topic.partitions.iter().for_each(|wanted| session.want(&key, *wanted));
        }
        self.partitions += session.size() - before;
    }

    fn forget(&mut self, id: i32, topic: &TopicKey, partition: PartitionIndex) {
        let Some(session) = self.open.get_mut(&id) else { return };
        let Some((number, slot)) = session.forget(topic, partition) else { return };
        self.partitions -= 1;
        let follower = self.follower(id, number);
        self.left.extend(slot.log.map(|log| (follower, log)));
    }
}

impl Session {
    fn new(names_by_id: bool, now: Monotonic) -> Self {
        Self {
            epoch: next_epoch(EPOCH_INITIAL),
            names_by_id,
            created: now,
            last_used: now,
            slots: Vec::new(),
            free: Vec::new(),
            places: BTreeMap::new(),
            due: BTreeSet::new(),
            next_turn: 0,
            request: None,
        }
    }

    fn size(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    /// Adds a partition or changes what is wanted of it; it is due.
    fn want(&mut self, topic: &TopicKey, wanted: FetchPartition) {
        let known = self.places.get(topic).and_then(|of_topic| of_topic.get(&wanted.index));
        if let Some(number) = known.copied() {
            let slot = self.slot(number).expect("a place has a slot");
            slot.wanted = wanted;
            return self.rouse(number);
        }
        let slot = Slot {
            topic: topic.clone(),
            wanted,
            log: None,
            turn: self.next_turn,
            high_watermark: Offset::UNKNOWN,
            start: Offset::UNKNOWN,
        };
        self.next_turn += 1;
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.due.insert((slot.turn, number));
        self.slots[number as usize] = Some(slot);
        self.places.entry(topic.clone()).or_default().insert(wanted.index, number);
    }

    fn forget(&mut self, topic: &TopicKey, partition: PartitionIndex) -> Option<(u32, Slot)> {
        let of_topic = self.places.get_mut(topic)?;
        let number = of_topic.remove(&partition)?;
        if of_topic.is_empty() {
            self.places.remove(topic);
        }
        let slot = self.slots[number as usize].take().expect("a place has a slot");
        self.due.remove(&(slot.turn, number));
        self.free.push(number);
        Some((number, slot))
    }

    fn look(&mut self, number: u32, image: &Image) -> Option<Due> {
        let slot = self.slot(number)?;
        let log = slot.topic.log(slot.wanted.index, image);
        slot.log = log.ok();
        Some(Due { slot: number, topic: slot.topic.clone(), log, wanted: slot.wanted })
    }

    fn rouse(&mut self, number: u32) {
        if let Some(turn) = self.slot(number).map(|slot| slot.turn) {
            self.due.insert((turn, number));
        }
    }

    /// Lets the others go before this one from now on.
    fn move_back(&mut self, number: u32) {
        let turn = self.next_turn;
        self.next_turn += 1;
        let Some(slot) = self.slot(number) else { return };
        let before = std::mem::replace(&mut slot.turn, turn);
        if self.due.remove(&(before, number)) {
            self.due.insert((turn, number));
        }
    }
}

/// After the largest number comes 1: 0 and −1 mean something else.
pub fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).filter(|next| *next > 0).unwrap_or(1)
}

fn bytes_of(sessions: usize, partitions: usize) -> usize {
    let fixed = sessions.saturating_mul(FETCH_SESSION_BYTES);
    fixed.saturating_add(partitions.saturating_mul(FETCH_SESSION_PARTITION_BYTES))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flumen_protocol::ids::LeaderEpoch;

    use super::*;
    use crate::api::k01_fetch::nothing;

    const BUDGET: usize = 1 << 24;

    struct Rig {
        sessions: FetchSessions,
        dice: Dice,
        image: Image,
    }

    impl Rig {
        fn new() -> Self {
            Self::within(BUDGET)
        }

        fn within(budget: usize) -> Self {
            let sessions = FetchSessions::new(CoreId(1), 2, budget);
            Self { sessions, dice: Dice::new(3), image: Image::default() }
        }

        fn begin(&mut self, partitions: i32, slots_max: usize, seconds: u64) -> Option<i32> {
            let asked = [topic(0..partitions)];
            self.sessions.begin(&asked, true, slots_max, at(seconds), &mut self.dice)
        }

        fn due(&mut self, id: i32) -> Vec<i32> {
            let due = self.sessions.due(id, &self.image);
            due.into_iter().map(|due| due.wanted.index.0).collect()
        }

        /// The owner says that there is nothing to read at this partition.
        fn calm(&mut self, id: i32, slot: u32) {
            let follower = self.sessions.follower(id, slot);
            self.sessions.calm(follower);
        }

        fn calm_all(&mut self, id: i32, count: u32) {
            (0..count).for_each(|slot| self.calm(id, slot));
        }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_secs(seconds))
    }

    fn wanted(index: i32, offset: i64) -> FetchPartition {
        FetchPartition {
            index: PartitionIndex(index),
            current_leader_epoch: LeaderEpoch::UNKNOWN,
            fetch_offset: Offset(offset),
            last_fetched_epoch: LeaderEpoch::UNKNOWN,
            log_start_offset: Offset::UNKNOWN,
            max_bytes: 1 << 20,
        }
    }

    fn topic(partitions: std::ops::Range<i32>) -> FetchTopic {
        let partitions = partitions.map(|index| wanted(index, 0)).collect();
        FetchTopic { name: None, id: TopicId([1; 16]), partitions }
    }

    fn forgotten(partitions: &[i32]) -> ForgottenTopic {
        let partitions = partitions.iter().copied().map(PartitionIndex).collect();
        ForgottenTopic { name: None, id: TopicId([1; 16]), partitions }
    }

    fn said(index: i32, end: i64) -> FetchPartitionResponse {
        let (high_watermark, log_start_offset) = (Offset(end), Offset(0));
        FetchPartitionResponse {
            high_watermark,
            log_start_offset,
            ..nothing(PartitionIndex(index))
        }
    }

    #[test]
    fn a_request_is_about_what_it_names_and_what_is_new() {
        let mut rig = Rig::new();
        let id = rig.begin(1000, 10, 0).unwrap();
        assert_eq!(rig.due(id).len(), 1000, "at first all are looked at");
        rig.calm_all(id, 1000);
        rig.sessions.resume(id, 1, true, at(1)).unwrap();
        assert!(rig.due(id).is_empty());
        // The owner of one has news, and the client wants another from elsewhere.
        let follower = rig.sessions.follower(id, 700);
        rig.sessions.rouse(follower);
        assert_eq!(rig.sessions.update(id, &[topic(3..4)], &[]), Ok(true));
        assert_eq!(rig.due(id), [3, 700]);
        assert_eq!(rig.sessions.counts(), (1, 1000, 0), "it was there already");
    }

    #[test]
    fn steps_follow_each_other_and_anything_else_is_refused() {
        let mut rig = Rig::new();
        let id = rig.begin(1, 10, 0).unwrap();
        assert_eq!(id % 2, 1, "it tells its core");
        let resume =
            |rig: &mut Rig, id, epoch, by_id| rig.sessions.resume(id, epoch, by_id, at(1)).err();
        assert_eq!(resume(&mut rig, id + 2, 1, true), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(resume(&mut rig, id, 2, true), Some(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(resume(&mut rig, id, 1, false), Some(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(resume(&mut rig, id, 1, true), None);
        assert_eq!(resume(&mut rig, id, 1, true), Some(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(resume(&mut rig, id, 2, true), None);
        assert_eq!((next_epoch(5), next_epoch(i32::MAX)), (6, 1));
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut rig = Rig::new();
        let id = rig.begin(2, 10, 0).unwrap();
        let tell = |rig: &mut Rig, said| rig.sessions.tell(id, 0, &said);
        assert!(tell(&mut rig, said(0, 5)), "the end was not known");
        assert!(!tell(&mut rig, said(0, 5)));
        assert!(tell(&mut rig, said(0, 6)));
        let started = FetchPartitionResponse { log_start_offset: Offset(2), ..said(0, 6) };
        assert!(tell(&mut rig, started.clone()));
        let records = vec![Bytes::from_static(b"batch")];
        let with_records = FetchPartitionResponse { records, ..started.clone() };
        assert!(tell(&mut rig, with_records.clone()) && tell(&mut rig, with_records));
        let error = ErrorCode::NotLeaderOrFollower;
        let faulty = FetchPartitionResponse { error, ..started.clone() };
        assert!(tell(&mut rig, faulty.clone()) && tell(&mut rig, faulty));
        assert!(tell(&mut rig, started), "the fault is gone");
    }

    #[test]
    fn who_gave_records_goes_behind_the_others() {
        let mut rig = Rig::new();
        let id = rig.begin(3, 10, 0).unwrap();
        let records = vec![Bytes::from_static(b"batch")];
        rig.sessions.tell(id, 0, &FetchPartitionResponse { records, ..said(0, 5) });
        assert_eq!(rig.due(id), [1, 2, 0]);
        rig.calm(id, 1);
        assert_eq!(rig.due(id), [2, 0]);
    }

    #[test]
    fn a_promise_to_an_earlier_request_counts_no_more() {
        let mut rig = Rig::new();
        let id = rig.begin(1, 10, 0).unwrap();
        let follower = rig.sessions.follower(id, 0);
        rig.sessions.resume(id, 1, true, at(1)).unwrap();
        rig.sessions.calm(follower);
        assert_eq!(rig.due(id), [0]);
    }

    #[test]
    fn a_session_without_partitions_is_over() {
        let mut rig = Rig::new();
        let id = rig.begin(2, 10, 0).unwrap();
        assert_eq!(rig.sessions.update(id, &[], &[forgotten(&[0, 7])]), Ok(true));
        assert_eq!(rig.due(id), [1]);
        // Named and forgotten in one request: forgotten.
        assert_eq!(rig.sessions.update(id, &[topic(5..6)], &[forgotten(&[1, 5])]), Ok(false));
        assert_eq!((rig.sessions.epoch(id), rig.sessions.counts().1), (None, 0));
    }

    #[test]
    fn places_are_used_again() {
        let mut rig = Rig::new();
        let id = rig.begin(2, 10, 0).unwrap();
        for round in 2..100 {
            let gone = forgotten(&[round - 1]);
            assert_eq!(rig.sessions.update(id, &[topic(round..round + 1)], &[gone]), Ok(true));
        }
        assert_eq!(rig.sessions.open[&id].slots.len(), 3);
        assert_eq!(rig.due(id), [0, 99]);
    }

    #[test]
    fn a_full_cache_says_no_until_somebody_is_old() {
        let mut rig = Rig::new();
        // Ten in all are five here.
        let ids: Vec<i32> = (1..=5).map(|size| rig.begin(size, 10, 0).unwrap()).collect();
        assert_eq!(rig.begin(100, 10, 100), None, "nobody is old");
        for id in &ids {
            rig.sessions.resume(*id, 1, true, at(100)).unwrap();
        }
        assert_eq!(rig.begin(1, 10, 121), None, "the smallest that is old is as large");
        assert!(rig.begin(2, 10, 121).is_some());
        assert_eq!(rig.sessions.epoch(ids[0]), None, "it made room");
        // From now on the others are used no more.
        assert!(rig.begin(1, 10, 221).is_some());
        let others = ids[1..].iter().filter(|id| rig.sessions.epoch(**id).is_some());
        assert_eq!((others.count(), rig.sessions.counts().2), (3, 2));
        assert_eq!(rig.begin(1, 0, 500), None, "no sessions are wanted");
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let budget = FETCH_SESSIONS_SHARE * bytes_of(1, 100);
        let mut rig = Rig::within(budget);
        assert_eq!(rig.begin(101, 1000, 0), None);
        let id = rig.begin(90, 1000, 0).unwrap();
        assert_eq!(rig.begin(50, 1000, 0), None);
        let too_much = rig.sessions.update(id, &[topic(90..101)], &[]);
        assert_eq!(too_much, Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!((rig.sessions.bytes(), rig.sessions.counts().1), (0, 0));
        assert!(rig.begin(100, 1000, 0).is_some());
    }

    #[test]
    fn owners_hear_that_nobody_follows_any_more() {
        let mut rig = Rig::new();
        let id = rig.begin(3, 10, 0).unwrap();
        let log = |index| LogId { topic: TopicId([1; 16]), partition: PartitionIndex(index) };
        for slot in 0..3 {
            let session = rig.sessions.open.get_mut(&id).unwrap();
            session.slot(slot).unwrap().log = Some(log(slot as i32));
        }
        rig.sessions.update(id, &[], &[forgotten(&[1])]).unwrap();
        let left = |rig: &mut Rig| -> Vec<LogId> {
            rig.sessions.take_left().into_iter().map(|(_, log)| log).collect()
        };
        assert_eq!(left(&mut rig), [log(1)]);
        rig.sessions.end(id);
        assert_eq!(left(&mut rig), [log(0), log(2)]);
    }
}
