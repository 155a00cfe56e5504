//! One Raft group: drives the `raft` crate, and with `log_view.rs` is all that names its types.
//!
//! ```text
//!            campaign (one voter: at once)
//!   Follower ───────────────────────────► Leader
//!       ▲  └──► Candidate ──(quorum)────────┘ │
//!       └──────────── higher term ◄───────────┘
//!
//!   an entry:  proposed ──► persisting ──► durable ──► committed ──► applied (taken out)
//! ```
//!
//! Does: propose payloads, turn what the crate wants persisted into effects, count an entry only
//! when it is told that it is durable, hand committed entries out in order.
//! Does not: send messages. A group with more than one voter therefore stays a follower until
//! peers are connected; what the crate wants sent is dropped, as a dead network would.
//! Invariants: applied ≤ committed ≤ durable here (with one voter); entries and hard states leave
//! in the order in which they must become durable; an idle group of one needs no tick.
//! Apart because this is the seam to code we did not write.

use std::collections::VecDeque;

use ::raft::eraftpb::{Entry as RaftEntry, HardState as RaftHardState, Message, MessageType};
use ::raft::{Config, INVALID_ID, RawNode, Ready, StateRole};
use flumen_protocol::entry::{Entry, HardState, Payload};
use flumen_protocol::ids::{LogId, LogIndex, NodeId, Offset, Term};

use super::log_view::{LogView, Reference};
use crate::dice::Dice;
use crate::error::StateError;
use crate::limits::{ELECTION_TICKS, HEARTBEAT_TICKS, RAFT_INFLIGHT_MAX};
use crate::outbox::{Effect, Outbox};

/// What a group is opened from.
#[derive(Clone, Debug)]
pub struct GroupBoot {
    /// Which log the group orders.
    pub log: LogId,
    /// This node.
    pub me: NodeId,
    /// All members that vote, this node among them.
    pub voters: Vec<NodeId>,
    /// As last persisted.
    pub hard_state: HardState,
    /// The last entry that is applied for good; `entries` follow it.
    pub settled: (LogIndex, Term),
    /// Everything durable behind it.
    pub entries: Vec<Entry>,
    /// Whether committed entries may be missing after a crash, because the topic's owner chose so.
    pub loss_allowed: bool,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This member.
    Leader,
    /// Another member, or nobody known.
    Follower {
        /// Who.
        leader: Option<NodeId>,
    },
}

/// One member of one Raft group.
pub struct Group {
    log: LogId,
    node: RawNode<LogView>,
    /// Payloads proposed but not yet ordered into the view; the crate orders them first in,
    /// first out. Empty between calls.
    staged: VecDeque<Payload>,
    /// The crate's numbered hand-outs whose entries are not yet durable, with their last index.
    persisting: VecDeque<(u64, LogIndex)>,
    /// Everything up to here may be applied. Invariant: at least the view's floor.
    commit: LogIndex,
    /// Everything up to here is durable on this node.
    durable: LogIndex,
    role: Role,
    /// Term and vote as last handed out to be persisted.
    voted: (u64, u64),
    dice: Dice,
}

impl Group {
    /// Opens a member as a follower. `election_seed` differs from member to member.
    ///
    /// # Errors
    /// What the disk gave back does not make a log, see [`StateError`].
    pub fn open(boot: GroupBoot, election_seed: u64) -> Result<Self, StateError> {
        check_voters(&boot)?;
        check_entries(&boot)?;
        let last = boot.entries.last().map_or(boot.settled.0, |entry| entry.index);
        let commit = boot.hard_state.commit.max(boot.settled.0);
        if commit > last && !boot.loss_allowed {
            return Err(StateError::CommittedLost { commit, last });
        }
        // With one voter what is durable is committed, and what was recovered is durable. Waiting
        // for the new term's first entry to say so would show clients a shorter log until then.
        let commit = if boot.voters == [boot.me] { last } else { commit.min(last) };
        let hard_state = RaftHardState {
            term: boot.hard_state.term.0,
            vote: boot.hard_state.vote.map_or(INVALID_ID, member),
            commit: commit.0,
            ..RaftHardState::default()
        };
        let voters: Vec<u64> = boot.voters.iter().copied().map(member).collect();
        let view = LogView::new(boot.settled, boot.entries, hard_state, voters);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        // The configuration is ours and constant, and the view was checked above.
        let node = RawNode::new(&config(boot.me, boot.settled.0), view, &logger)
            .expect("a checked log opens");
        let voted = (node.raft.term, node.raft.vote);
        let mut group = Self {
            log: boot.log,
            node,
            staged: VecDeque::new(),
            persisting: VecDeque::new(),
            commit: boot.settled.0,
            durable: last,
            role: Role::Follower { leader: None },
            voted,
            dice: Dice::new(election_seed),
        };
        group.draw_election_timeout();
        Ok(group)
    }

    /// Whether this member is the only one: it leads by itself and needs no ticks.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let voters = self.node.raft.prs().conf().voters();
        voters.ids().len() == 1 && voters.contains(self.node.raft.id)
    }

    /// Stands for election. Alone, it is won at once; call [`Group::collect`] next.
    pub fn campaign(&mut self) {
        // The crate refuses only what cannot happen here: a member that is no voter.
        let stood = self.node.campaign();
        debug_assert!(stood.is_ok(), "a voter may stand");
    }

    /// Lets one tick pass; call [`Group::collect`] next. Alone, nothing happens and nothing needs
    /// to be called.
    pub fn tick(&mut self) {
        if !self.is_alone() {
            self.node.tick();
        }
    }

    /// Orders `payload` behind everything there is; call [`Group::collect`] next. Says under which
    /// index, or `None` when this member does not lead: nothing happened then.
    pub fn propose(&mut self, payload: Payload) -> Option<LogIndex> {
        if self.role != Role::Leader {
            return None;
        }
        let expected = LogIndex(self.node.raft.raft_log.last_index() + 1);
        let data = Reference::to(&payload).into_data();
        let mut proposal = Message::default();
        proposal.set_msg_type(MessageType::MsgPropose);
        proposal.from = self.node.raft.id;
        proposal.mut_entries().push(RaftEntry { data, ..RaftEntry::default() });
        self.node.raft.step(proposal).ok()?;
        self.staged.push_back(payload);
        assert_eq!(expected.0, self.node.raft.raft_log.last_index(), "one entry was ordered");
        Some(expected)
    }

    /// Everything up to `index` is durable on this node; call [`Group::collect`] next.
    pub fn persisted(&mut self, index: LogIndex) {
        assert!(index <= self.last_index(), "durable before it was ordered");
        let mut reached = None;
        while let Some((number, last)) = self.persisting.front().copied() {
            if last > index {
                break;
            }
            self.persisting.pop_front();
            self.durable = self.durable.max(last);
            reached = Some(number);
        }
        if let Some(number) = reached {
            self.node.on_persist_ready(number);
        }
        assert!(self.durable <= self.last_index());
    }

    /// Takes everything the crate has come to want: effects into `out`; commit index and role
    /// into this value, where [`Group::pop_committed`] and [`Group::role`] find them.
    pub fn collect(&mut self, out: &mut Outbox) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            self.emit_hard_state(&ready, out);
            self.emit_entries(&mut ready, out);
            self.note_role(&ready, out);
            if let Some(last) = ready.committed_entries().last() {
                self.commit = LogIndex(last.index);
            }
            let number = ready.number();
            // Accepted now, durable when `persisted` says so.
            self.node.advance_append_async(ready);
            self.node.advance_apply_to(self.commit.0);
            if self.persisting.is_empty() {
                // Nothing to wait for: let the crate forget this number.
                self.node.on_persist_ready(number);
            }
        }
        assert!(self.staged.is_empty(), "every proposal was ordered");
        assert!(self.commit <= self.last_index(), "what is committed exists");
    }

    /// The next committed entry, if any; it counts as applied from now on.
    pub fn pop_committed(&mut self) -> Option<Entry> {
        let (applied, _) = self.node.raft.store().floor();
        if applied >= self.commit {
            return None;
        }
        let entry = self.node.raft.mut_store().pop_front();
        assert!(entry.as_ref().is_some_and(|entry| entry.index <= self.commit));
        entry
    }

    /// Which log the group orders.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.log
    }

    /// This member.
    #[must_use]
    pub fn me(&self) -> NodeId {
        node_of(self.node.raft.id)
    }

    /// All members that vote, in the order of their numbers.
    #[must_use]
    pub fn voters(&self) -> Vec<NodeId> {
        let voters = self.node.raft.prs().conf().voters().ids();
        let mut voters: Vec<NodeId> = voters.iter().map(node_of).collect();
        voters.sort_unstable();
        voters
    }

    /// Who leads, as far as this member knows.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// The last entry there is.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.node.raft.store().last_index()
    }

    /// The last applied entry and its term.
    #[must_use]
    pub fn applied(&self) -> (LogIndex, Term) {
        self.node.raft.store().floor()
    }

    /// Everything up to here is committed.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        self.commit
    }

    /// Everything up to here is durable on this node.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.durable
    }

    /// How many entries are ordered but not applied.
    #[must_use]
    pub fn unapplied_count(&self) -> usize {
        self.node.raft.store().len()
    }

    /// The ordered but unapplied entries, oldest first.
    pub fn unapplied(&self) -> impl Iterator<Item = (LogIndex, Term, &Payload)> {
        self.node.raft.store().iter()
    }

    /// The unapplied entry holding the record at `offset`.
    #[must_use]
    pub fn unapplied_index_of(&self, offset: Offset) -> Option<LogIndex> {
        self.node.raft.store().index_of(offset)
    }

    /// Only a changed term or vote is worth a write: the commit index is found again by quorum.
    fn emit_hard_state(&mut self, ready: &Ready, out: &mut Outbox) {
        let Some(state) = ready.hs() else { return };
        if self.voted == (state.term, state.vote) {
            return;
        }
        assert!(state.term >= self.voted.0, "terms never fall");
        self.voted = (state.term, state.vote);
        let vote = (state.vote != INVALID_ID).then(|| node_of(state.vote));
        let state = HardState { term: Term(state.term), vote, commit: LogIndex(state.commit) };
        out.push(Effect::PersistHardState { log: self.log, state });
    }

    /// Moves newly ordered entries into the view and out to the journal.
    fn emit_entries(&mut self, ready: &mut Ready, out: &mut Outbox) {
        if ready.entries().is_empty() {
            return;
        }
        let number = ready.number();
        let view = self.node.raft.mut_store();
        for entry in ready.take_entries() {
            let (index, term) = (LogIndex(entry.index), Term(entry.term));
            let payload = if entry.data.is_empty() {
                Payload::Empty
            } else {
                self.staged.pop_front().expect("a reference follows its payload")
            };
            view.push(term, entry.data, payload.clone());
            assert_eq!(index, view.last_index(), "the crate and the view count alike");
            out.push(Effect::Persist { log: self.log, entry: Entry { index, term, payload } });
        }
        self.persisting.push_back((number, view.last_index()));
    }

    fn note_role(&mut self, ready: &Ready, out: &mut Outbox) {
        let Some(soft) = ready.ss() else { return };
        let leader = (soft.leader_id != INVALID_ID).then(|| node_of(soft.leader_id));
        let role = match soft.raft_state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower | StateRole::Candidate | StateRole::PreCandidate => {
                Role::Follower { leader }
            }
        };
        if role != Role::Leader {
            self.draw_election_timeout();
        }
        if role != self.role {
            self.role = role;
            let epoch = self.term().epoch();
            out.push(Effect::Leadership { log: self.log, leader, epoch });
        }
    }

    /// The crate throws dice of its own at every reset; ours, thrown after, are the ones that
    /// count, so that a run can be repeated.
    fn draw_election_timeout(&mut self) {
        let extra = self.dice.draw() % ELECTION_TICKS as u64;
        self.node.raft.set_randomized_election_timeout(ELECTION_TICKS + extra as usize);
    }
}

fn check_voters(boot: &GroupBoot) -> Result<(), StateError> {
    let mut voters = boot.voters.clone();
    voters.sort_unstable();
    let repeated = voters.windows(2).any(|two| two[0] == two[1]);
    let negative = voters.first().is_none_or(|node| node.0 < 0);
    if repeated || negative || !voters.contains(&boot.me) {
        return Err(StateError::VotersBroken);
    }
    Ok(())
}

fn check_entries(boot: &GroupBoot) -> Result<(), StateError> {
    let (mut index, mut term) = boot.settled;
    for entry in &boot.entries {
        if entry.index != index.next() || entry.term < term {
            return Err(StateError::EntriesBroken { index: entry.index });
        }
        (index, term) = (entry.index, entry.term);
    }
    let hard = boot.hard_state.term;
    if hard < term {
        return Err(StateError::HardStateBehind { hard, log: term });
    }
    Ok(())
}

fn config(me: NodeId, applied: LogIndex) -> Config {
    Config {
        id: member(me),
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        max_inflight_msgs: RAFT_INFLIGHT_MAX,
        applied: applied.0,
        // A member that was cut off must not depose a working leader when it returns.
        pre_vote: true,
        check_quorum: true,
        ..Config::default()
    }
}

/// The crate's member ids begin at one, Kafka's node ids at zero.
fn member(node: NodeId) -> u64 {
    u64::try_from(node.0).expect("voters are real nodes") + 1
}

fn node_of(member: u64) -> NodeId {
    NodeId(i32::try_from(member - 1).expect("members were made from node ids"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    use super::*;

    const ME: NodeId = NodeId(0);

    fn boot(voters: &[i32]) -> GroupBoot {
        GroupBoot {
            log: LogId { topic: TopicId::ZERO, partition: PartitionIndex(3) },
            me: ME,
            voters: voters.iter().copied().map(NodeId).collect(),
            hard_state: HardState::INITIAL,
            settled: (LogIndex::ZERO, Term::ZERO),
            entries: Vec::new(),
            loss_allowed: false,
        }
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index: LogIndex(index), term: Term(term), payload: Payload::Empty }
    }

    fn leader() -> Group {
        let mut group = Group::open(boot(&[0]), 1).expect("an empty log opens");
        group.campaign();
        group.collect(&mut Vec::new());
        group
    }

    fn control(text: &'static str) -> Payload {
        Payload::Control(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn alone_it_leads_the_next_term_with_hard_state_before_entry() {
        let mut group = Group::open(boot(&[0]), 1).expect("an empty log opens");
        let mut out = Vec::new();
        group.campaign();
        group.collect(&mut out);
        assert_eq!((group.role(), group.term()), (Role::Leader, Term(1)));
        assert!(matches!(
            out[..],
            [
                Effect::PersistHardState { state: HardState { vote: Some(ME), .. }, .. },
                Effect::Persist { .. },
                Effect::Leadership { leader: Some(ME), .. },
            ]
        ));
    }

    #[test]
    fn an_entry_counts_when_it_is_durable_and_not_before() {
        let (mut group, mut out) = (leader(), Vec::new());
        for text in ["a", "b"] {
            group.propose(control(text));
            group.collect(&mut out);
        }
        assert_eq!((group.committed(), group.pop_committed()), (LogIndex(0), None));
        group.persisted(LogIndex(2));
        group.collect(&mut out);
        assert_eq!((group.durable(), group.committed()), (LogIndex(2), LogIndex(2)));
        let applied: Vec<_> = std::iter::from_fn(|| group.pop_committed()).collect();
        assert_eq!(applied.len(), 2);
        assert_eq!(applied[1].payload, control("a"));
        assert_eq!((group.applied().0, group.unapplied_count()), (LogIndex(2), 1));
        assert!(out.iter().all(|effect| matches!(effect, Effect::Persist { .. })));
    }

    #[test]
    fn an_idle_group_of_one_does_nothing_when_ticked() {
        let (mut group, mut out) = (leader(), Vec::new());
        group.persisted(LogIndex(1));
        group.collect(&mut out);
        for _ in 0..1_000 {
            group.tick();
            group.collect(&mut out);
        }
        assert!(group.is_alone());
        assert_eq!((out, group.role()), (Vec::new(), Role::Leader));
    }

    #[test]
    fn without_its_peers_a_member_never_leads() {
        let (mut group, mut out) = (Group::open(boot(&[0, 1, 2]), 1).expect("opens"), Vec::new());
        for _ in 0..1_000 {
            group.tick();
            group.collect(&mut out);
        }
        assert_eq!((group.role(), group.term()), (Role::Follower { leader: None }, Term(0)));
        assert_eq!(group.propose(Payload::Empty), None);
        assert_eq!(out, []);
    }

    #[test]
    fn what_is_known_as_committed_is_applied_before_any_election() {
        let mut known = boot(&[0, 1, 2]);
        known.hard_state = HardState { term: Term(1), vote: None, commit: LogIndex(6) };
        known.settled = (LogIndex(4), Term(1));
        known.entries = vec![entry(5, 1), entry(6, 1), entry(7, 1)];
        let mut group = Group::open(known, 1).expect("a sound log opens");
        group.collect(&mut Vec::new());
        let applied: Vec<_> = std::iter::from_fn(|| group.pop_committed()).collect();
        assert_eq!(applied, [entry(5, 1), entry(6, 1)]);
        assert_eq!((group.committed(), group.durable()), (LogIndex(6), LogIndex(7)));
    }

    #[test]
    fn a_log_that_is_none_does_not_open() {
        let opened = |change: fn(&mut GroupBoot)| {
            let mut broken = boot(&[0]);
            broken.hard_state.term = Term(2);
            broken.entries = vec![entry(1, 1), entry(2, 2)];
            change(&mut broken);
            Group::open(broken, 1).err()
        };
        let (one, two) = (Term(1), Term(2));
        let gap = StateError::EntriesBroken { index: LogIndex(2) };
        let lost = StateError::CommittedLost { commit: LogIndex(3), last: LogIndex(2) };
        assert_eq!(opened(|_| ()), None);
        assert_eq!(opened(|boot| drop(boot.entries.remove(0))), Some(gap));
        assert_eq!(opened(|boot| boot.entries[0].term = Term(3)), Some(gap));
        let behind = StateError::HardStateBehind { hard: one, log: two };
        assert_eq!(opened(|boot| boot.hard_state.term = Term(1)), Some(behind));
        assert_eq!(opened(|boot| boot.hard_state.commit = LogIndex(3)), Some(lost));
        assert_eq!(opened(|boot| boot.voters = vec![NodeId(4)]), Some(StateError::VotersBroken));
        assert_eq!(opened(|boot| boot.voters = vec![ME, ME]), Some(StateError::VotersBroken));
        let allowed = |boot: &mut GroupBoot| {
            boot.hard_state.commit = LogIndex(3);
            boot.loss_allowed = true;
        };
        assert_eq!(opened(allowed), None);
    }
}
