//! Why a run ended before its time.
//!
//! Does: name the reasons, each in one line for the user.
//! Does not: decide when a run is over: the engine does.
//! Invariants: whose fault it was, ours, a broker's or the user's, can be told from the variant.
//! Apart because the engine, the run and the result all speak of it.

use std::fmt;
use std::io;

use crate::client::describe;

/// Why a run ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A connection ended.
    Lost {
        /// To whom.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// A broker answered with something that trying again does not heal.
    Refused {
        /// Who.
        address: String,
        /// What was asked.
        asked: &'static str,
        /// With which code.
        code: i16,
    },
    /// A broker answered with nonsense.
    Malformed {
        /// Who.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The user had enough.
    Interrupted,
    /// This machine refused something.
    System(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { address, reason } => {
                write!(f, "the connection to {address} ended in the middle: {reason}")
            }
            Self::Refused { address, asked, code } => {
                write!(f, "{address} refused {asked}: {}", describe(*code))
            }
            Self::Malformed { address, reason } => {
                write!(f, "{address} answered with something else: {reason}")
            }
            Self::Interrupted => f.write_str("interrupted by the user"),
            Self::System(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Broken {}

/// This machine refused something.
pub fn system(error: &io::Error) -> Broken {
    Broken::System(error.to_string())
}
