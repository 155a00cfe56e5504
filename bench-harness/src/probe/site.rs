//! What a probe is given.
//!
//! Does: hold folder, CPUs and time of one probe.
//! Does not: decide which probe may run; the room checks needs before it makes a site.
//! Apart so that every probe has the same signature and stands in one table.

use std::time::Duration;

use super::cpus::CpuPair;
use super::scratch::Scratch;
use super::watch::{Interrupt, Watch};

/// What a probe is given.
#[derive(Debug)]
pub struct Site<'a> {
    /// Files to write; there for every probe that needs files.
    pub scratch: Option<&'a Scratch>,
    /// Two CPUs; there for every probe that needs two.
    pub cpus: Option<CpuPair>,
    /// How long to measure.
    pub length: Duration,
    /// Whether to stop early.
    pub interrupt: &'a Interrupt,
}

impl Site<'_> {
    /// The files.
    pub fn scratch(&self) -> &Scratch {
        self.scratch.expect("a probe that needs files is only run with a folder")
    }

    /// Starts the time of the probe.
    pub fn watch(&self) -> Watch {
        Watch::start(self.length, self.interrupt)
    }
}
