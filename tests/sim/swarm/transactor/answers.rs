//! What a transactional producer makes of its answers.
//!
//! Does: note what it is told; move to the next step, back to an earlier one, or out of its reign.
//! Does not: ask.
//! Invariants: what it is told of a transaction that it gave up changes nothing; an end counts as refused only if it was
//! asked for once.
//! Apart because a client's questions and what comes back are two stories.

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{
    AddOffsetsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProduceRequest, TxnOffsetCommitRequest,
};

use super::super::client::{Answer, Context};
use super::super::fetching::{self, EARLIEST};
use super::super::heap::MILLIS;
use super::super::history::{Happening, Place, Since, Value};
use super::super::transacted::{COPYING_GROUP, Transacted, Transaction};
use super::super::transacting::{self, ADD_OFFSETS, BEGIN, FIND, Identity, Refusal};
use super::{
    EXILE_MAX_MS, ISOLATION, Progress, Question, REST_MAX_MS, RETRY, SOURCE, Step, Transactor,
};

impl Transactor {
    /// A frame came.
    pub fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let (question, answer) = self.line.answered(context.now, frame);
        if self.is_deaf {
            return;
        }
        let outcome = match question {
            Question::FindId => {
                let next = if self.copies { Step::FindingGroup } else { Step::Beginning };
                self.found(answer, next)
            }
            Question::FindGroup => self.found(answer, Step::Beginning),
            Question::Begin => self.take_identity(context, answer),
            Question::Committed(since) => self.take_committed(context, answer, since),
            Question::Start(since) => {
                let asked = (SOURCE, EARLIEST);
                let told = fetching::take_offset(context, answer, ISOLATION, asked, since);
                told.map_err(refusal).map(|start| {
                    (self.position, self.step) = (Some(start), Step::Resting);
                })
            }
            Question::Read(since, from) => self.take_records(context, answer, since, from),
            Question::Add => transacting::added(answer).map(|()| self.step = Step::Writing),
            Question::Write(of, asked, since) => {
                self.take_written(context, answer, (of, &asked), since)
            }
            Question::AddOffsets => {
                let told = answer.read::<AddOffsetsToTxnRequest>(ADD_OFFSETS).error_code;
                transacting::outcome(told).map(|()| self.step = Step::Carrying)
            }
            Question::Carry => {
                let response = answer.read::<TxnOffsetCommitRequest>(self.tongue.carry_version());
                let told = response.topics[0].partitions[0].error_code;
                transacting::outcome(told).map(|()| self.step = Step::Ending)
            }
            Question::End(since) => self.take_end(context, answer, since),
        };
        match outcome {
            Ok(()) => self.go_on(context),
            Err(why) => self.take_refusal(context, why),
        }
    }

    fn take_refusal(&mut self, context: &mut Context<'_>, why: Refusal) {
        match why {
            Refusal::Later => self.rest(context, RETRY),
            Refusal::Fenced => {
                let rest = context.dice.below(EXILE_MAX_MS) * MILLIS;
                self.fall(context, rest);
            }
            Refusal::Over => match &mut self.current {
                Some(current) if self.step != Step::Ending => {
                    (current.commits, current.is_doomed) = (false, true);
                    self.step = Step::Ending;
                    self.rest(context, RETRY);
                }
                Some(_) | None => self.fall(context, RETRY),
            },
        }
    }

    fn found(&mut self, answer: Answer, next: Step) -> Result<(), Refusal> {
        let told = answer.read::<FindCoordinatorRequest>(FIND).error_code;
        transacting::outcome(told).map(|()| self.step = next)
    }

    fn take_identity(&mut self, context: &mut Context<'_>, answer: Answer) -> Result<(), Refusal> {
        let response = answer.read::<InitProducerIdRequest>(BEGIN);
        transacting::outcome(response.error_code)?;
        let (producer, epoch) = (response.producer_id.0, response.producer_epoch);
        assert!(producer >= 0 && epoch >= 0);
        self.identity = Some(Identity { producer, epoch });
        self.reign.count += 1;
        let (id, reign) = (self.id, self.reign);
        context.history.note_transacted(Transacted::Renewed { id, producer, epoch, reign });
        self.step = if self.copies { Step::Looking } else { Step::Resting };
        Ok(())
    }

    fn take_committed(
        &mut self,
        context: &mut Context<'_>,
        answer: Answer,
        since: Since,
    ) -> Result<(), Refusal> {
        let offset = transacting::committed(answer)?;
        let (group, place) = (COPYING_GROUP + self.id, SOURCE);
        context.history.note(Happening::CommitRead { group, place, offset, since });
        self.position = (offset >= 0).then_some(offset);
        self.step = if offset >= 0 { Step::Resting } else { Step::Starting };
        self.has_looked |= self.is_leaving;
        Ok(())
    }

    fn take_records(
        &mut self,
        context: &mut Context<'_>,
        answer: Answer,
        since: Since,
        from: i64,
    ) -> Result<(), Refusal> {
        let wanted = [(SOURCE, from)];
        let given = fetching::take(context, answer, ISOLATION, &wanted, since).remove(0);
        match given.code {
            ErrorCode::None if given.records.is_empty() || self.is_leaving => {
                self.position = Some(given.next);
                self.pause(context);
            }
            ErrorCode::None => self.begin_to_copy(context, &given),
            // Deleted while it was read.
            ErrorCode::OffsetOutOfRange => self.step = Step::Starting,
            refused => return Err(refusal(refused)),
        }
        Ok(())
    }

    fn take_written(
        &mut self,
        context: &mut Context<'_>,
        answer: Answer,
        (of, asked): (Transaction, &[(Place, Value)]),
        since: Since,
    ) -> Result<(), Refusal> {
        let response = answer.read::<ProduceRequest>(self.tongue.produce_version());
        let told = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), asked.len(), "every batch is answered");
        let mut outcome = Ok(());
        for ((place, first), told) in asked.iter().zip(told) {
            assert_eq!(told.index, place.partition);
            // What it gave up may still be answered.
            let Some(current) = self.current.as_mut().filter(|it| it.of == of) else {
                return Ok(());
            };
            let batch = current.batch(*first);
            match transacting::outcome(told.error_code) {
                Ok(()) => {
                    batch.progress = Progress::Acked;
                    let base = told.base_offset;
                    for (offset, value) in (base..).zip(&batch.values) {
                        let (place, value) = (*place, *value);
                        let offset = (base >= 0).then_some(offset);
                        context.history.note(Happening::Acked { place, value, offset, since });
                    }
                }
                Err(why) => {
                    batch.progress = Progress::Waiting;
                    // What is worse than having to wait counts.
                    outcome = match outcome {
                        Ok(()) | Err(Refusal::Later) => Err(why),
                        worse @ Err(Refusal::Fenced | Refusal::Over) => worse,
                    };
                }
            }
        }
        outcome
    }

    fn take_end(
        &mut self,
        context: &mut Context<'_>,
        answer: Answer,
        since: Since,
    ) -> Result<(), Refusal> {
        let response = answer.read::<EndTxnRequest>(self.tongue.end_version());
        let told = transacting::outcome(response.error_code);
        let current = self.current.as_ref().expect("a transaction is under way");
        let (of, commits, is_doomed) = (current.of, current.commits, current.is_doomed);
        let is_sure = told.is_ok() || (told != Err(Refusal::Later) && current.asked == 1);
        if commits && is_sure {
            let is_committed = told.is_ok();
            context.history.note_transacted(Transacted::Ended { of, is_committed, since });
        }
        told?;
        let carried = current.carries;
        self.current = None;
        if self.tongue.is_new {
            let (producer, epoch) = (response.producer_id.0, response.producer_epoch);
            assert!(producer >= 0 && epoch >= 0, "every end gives an epoch");
            self.identity = Some(Identity { producer, epoch });
            self.sequences.clear();
        }
        match carried {
            Some(offset) if commits => {
                let (group, place) = (COPYING_GROUP + self.id, SOURCE);
                context.history.note(Happening::Committed { group, place, offset });
                self.position = Some(offset);
                self.pause(context);
            }
            // It goes on where the group is, as the broker says.
            Some(_) => self.step = Step::Looking,
            None => self.pause(context),
        }
        if is_doomed {
            self.fall(context, RETRY);
        }
        Ok(())
    }

    /// Rests between two transactions.
    fn pause(&mut self, context: &mut Context<'_>) {
        self.step = Step::Resting;
        let rest = context.dice.below(REST_MAX_MS) * MILLIS;
        self.rest(context, rest);
    }

    /// The connection is gone.
    pub fn closed(&mut self, context: &mut Context<'_>) {
        self.is_deaf = false;
        for question in self.line.closed() {
            let Question::Write(of, asked, _) = question else { continue };
            let Some(current) = self.current.as_mut().filter(|it| it.of == of) else { continue };
            for (_, first) in asked {
                current.batch(first).progress = Progress::Waiting;
            }
        }
        let rest = self.rests_until.saturating_sub(context.now).max(RETRY);
        self.rest(context, rest);
    }
}

/// What it makes of a code that others gave it.
fn refusal(code: ErrorCode) -> Refusal {
    match transacting::outcome(code.code()) {
        Ok(()) => Refusal::Later,
        Err(why) => why,
    }
}
