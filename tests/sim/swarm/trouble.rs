//! Trouble in a life: when it comes, what it hits, and how it ends.
//!
//! Does: let faults strike by chance, and end processes whose time has come.
//! Does not: carry them out; the node's machine and lines do.
//! Invariants: after the healing nothing new strikes; what a disk has spoilt stays spoilt.
//! Apart because a life without trouble would read the same.

use super::heap::{MILLIS, SECONDS};
use super::history::Happening;
use super::life::{Client, Event, Life};
use super::plan::{Damage, Fault};

/// How long a disk may owe an answer (D15).
const WATCHDOG: u64 = 30 * SECONDS;
/// How often somebody looks at what disks have spoilt.
pub const SURVEY: u64 = 2 * SECONDS;
/// A process that a disk has spoilt something for lives at most so much longer, if it is to end for it.
const FALL: u64 = 400 * MILLIS;

impl Life {
    /// One of the life's faults strikes, and the next is on its way.
    pub(super) fn strike(&mut self) {
        let count = self.plan.faults.len() as u64;
        if self.is_healed || count == 0 {
            return;
        }
        let fault = self.plan.faults[self.dice.below(count) as usize];
        let now = self.events.now();
        let core = self.dice.below(self.node.cores() as u64) as usize;
        let span = (10 + self.dice.below(4_000)) * MILLIS;
        let (events, dice) = (&mut self.events, &mut self.dice);
        match fault {
            Fault::PowerCut | Fault::Kill => {
                self.history.note(Happening::Crash);
                self.node.die(fault == Fault::PowerCut, span, events, dice);
            }
            Fault::Restart => self.node.ask_to_stop(events, dice),
            Fault::DiskHangs => self.node.hang_disk(core, now + span),
            Fault::DiskSlows => self.node.slow_disk(core, now + span),
            Fault::DiskFills => {
                let more = dice.below(256 << 10);
                self.node.limit_disk(core, Some(more));
                self.push(now + span, Event::Room { core });
            }
            Fault::WriteFails => self.node.fail_write(core, dice),
            Fault::OperationHangs if self.node.is_serving() => {
                self.node.hang_operation(core);
                self.push(now + WATCHDOG, Event::Watchdog { life: self.node.life });
            }
            Fault::OperationHangs => {}
            Fault::CoreStalls => self.node.stall(core, now + span.min(500 * MILLIS)),
            Fault::ClockJumps => {
                // By more than a day only if no start can hide it, which believes a later clock. Then
                // nothing may go by age (K1), although the clock says that all of it is old.
                let is_far = self.plan.is_never_down() && dice.below(3) == 0;
                let hours = if is_far { 240 } else { dice.below(49) as i64 - 24 };
                self.node.jump_clock(hours * 3_600_000);
            }
            Fault::Disconnect
            | Fault::HalfOpen
            | Fault::NeverReads
            | Fault::SendsSlowly
            | Fault::ClientStalls
            | Fault::ClientVanishes
            | Fault::IdleConnection => self.strike_clients(fault, span),
        }
        let next = self.plan.fault_every.draw(&mut self.dice);
        self.push(now + next, Event::Fault);
    }

    /// A client or its line fails, for so long if it passes.
    fn strike_clients(&mut self, fault: Fault, span: u64) {
        let (events, dice) = (&mut self.events, &mut self.dice);
        let until = events.now() + span;
        let client = dice.below(self.seats.len() as u64) as usize;
        let own = self.seats[client].connection.filter(|own| self.node.knows(*own));
        if fault == Fault::ClientStalls {
            self.seats[client].stalled_until = until;
        } else if fault == Fault::IdleConnection {
            let _nobody_uses_it = self.node.connect(client, events, dice);
        } else if fault == Fault::ClientVanishes {
            if let Some(connection) = own {
                self.node.abandon(connection, events.now());
                self.seats[client].connection = None;
                self.act(client, Client::closed);
            }
        } else if let Some(connection) = self.node.any_connection(dice) {
            if fault == Fault::HalfOpen {
                self.node.lose(connection, events, dice);
            } else if fault == Fault::NeverReads {
                self.node.clog(connection, until, events, dice);
            } else if fault == Fault::SendsSlowly {
                self.node.slow_down(connection, until);
            } else {
                self.node.close(connection, events, dice);
            }
        }
    }

    /// A disk spoils something. Often the process ends soon after, before it is written over.
    pub(super) fn spoil(&mut self) {
        let Some(rot) = self.plan.rot.clone() else { return };
        if self.is_healed || self.spoilt >= rot.times {
            return;
        }
        self.spoilt += 1;
        let dice = &mut self.dice;
        let any = dice.below(self.node.cores() as u64) as usize;
        let core = rot.core.map_or(any, usize::from);
        let kind = rot.kinds[dice.below(rot.kinds.len() as u64) as usize];
        self.node.spoil(core, kind, dice);
        let now = self.events.now();
        let next = rot.every.draw(dice);
        if kind != Damage::ReadGarbled && dice.below(2) == 0 {
            let (after, power) = (dice.below(FALL), dice.below(2) == 0);
            self.push(now + after, Event::Fall { power });
        }
        self.push(now + next, Event::Spoil);
    }

    /// The process ends, for no reason of its own.
    pub(super) fn fall(&mut self, power: bool) {
        self.history.note(Happening::Crash);
        let later = (10 + self.dice.below(1_000)) * MILLIS;
        self.node.die(power, later, &mut self.events, &mut self.dice);
    }

    /// Somebody looks at what the disks have spoilt by now.
    pub(super) fn survey(&mut self) {
        (0..self.node.cores()).for_each(|core| self.node.survey(core));
        let now = self.events.now();
        self.push(now + SURVEY, Event::Survey);
    }

    /// No more faults. What was spoilt stays so.
    pub(super) fn heal(&mut self) {
        self.is_healed = true;
        self.healed_at = self.events.now();
        for core in 0..self.node.cores() {
            self.node.limit_disk(core, None);
        }
    }
}
