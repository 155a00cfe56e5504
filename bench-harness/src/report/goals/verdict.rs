//! What became of a goal.
//!
//! Does: gather the numbers a goal rests on and what a reader must know of them; say which bar was
//! reached.
//! Does not: find scenarios or divide.
//! Invariants: a bar counts as reached for certain only if the worse end of the interval reaches it,
//! and one pair has no interval.
//! Apart because a verdict is read in other rooms than it is made in.

use std::collections::BTreeSet;

use super::{Bar, Goal, Measure};
use crate::outcome::comparison::Interval;
use crate::report::quantity::Better;
use crate::report::study::{Reservation, Study};
use crate::report::words;

/// What became of a goal.
#[derive(Debug)]
pub struct Verdict {
    /// The goal.
    pub goal: &'static Goal,
    /// Scenarios that were used.
    pub scenarios: String,
    /// Classes that were compared.
    pub classes: String,
    /// What a reader must know where they differ, as [`words::match_of`] says it.
    pub kind: &'static str,
    /// The limit it is held against, with its unit.
    pub limit: Option<String>,
    /// Kafka's number.
    pub kafka: Option<String>,
    /// Flumen's number.
    pub flumen: Option<String>,
    /// What the goal computes.
    pub score: Option<Interval>,
    /// Which bars were reached, 0 to 3, in the middle of the interval; nothing if not measured.
    pub reached: Option<usize>,
    /// The worse end of the interval reaches the same.
    pub is_certain: bool,
    /// Measured, but smaller than the noise: no bar can be said to be reached or missed.
    pub is_unresolved: bool,
    /// No guard was violated.
    pub is_believable: bool,
    /// What else makes it less sure, of all scenarios together.
    pub reservations: BTreeSet<Reservation>,
    /// The least number of pairs that it rests on.
    pub pairs: usize,
}

impl Verdict {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(goal: &'static Goal) -> Self {
        Self {
            goal,
            scenarios: String::new(),
            classes: String::new(),
            kind: "",
            limit: None,
            kafka: None,
            flumen: None,
            score: None,
            reached: None,
            is_certain: true,
            is_unresolved: false,
            is_believable: true,
            reservations: BTreeSet::new(),
            pairs: usize::MAX,
        }
    }

    /// It rests on this scenario too.
    pub fn used(&mut self, study: &Study) {
        if !self.scenarios.is_empty() {
            self.scenarios.push_str(", ");
        }
        self.scenarios.push_str(&study.scenario.name);
        self.is_believable &= study.is_believable();
        self.reservations.extend(study.reservations());
        self.pairs = self.pairs.min(study.pairs());
    }

    /// Holds what was computed against the bars.
    pub fn scored(&mut self, score: Interval) {
        let at = |score: f64| {
            let reaches = |bar: &Bar| match (bar, self.goal.better) {
                (Bar::At(bar), Better::Less) => score <= *bar,
                (Bar::At(bar), Better::More) => score >= *bar,
                (Bar::Elsewhere(_), Better::Less | Better::More) => false,
            };
            self.goal.bars.iter().take_while(|bar| reaches(bar)).count()
        };
        let worse = match self.goal.better {
            Better::Less => score.high,
            Better::More => score.low,
        };
        let (middle, worse) = (at(score.mean), at(worse));
        self.reached = Some(middle);
        self.is_certain = middle == worse && !self.reservations.contains(&Reservation::OnePair);
        self.score = Some(score);
    }

    /// How the score is written: a ratio, or nothing where it is the quantity itself.
    #[must_use]
    pub fn show_score(&self) -> Option<String> {
        let score = self.score?;
        match &self.goal.measure {
            Measure::Kafka { .. } | Measure::Machine { .. } | Measure::Itself { .. } => {
                Some(words::ratio(&score, self.pairs))
            }
            Measure::Absolute { .. } | Measure::Growth { .. } => None,
        }
    }
}
