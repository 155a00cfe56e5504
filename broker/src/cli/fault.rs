//! What went wrong for whoever typed a command, in one line that says what to do.
//!
//! Does: hold every way a command can fail; say it, its exit code, and whether asking again may help.
//! Does not: print, or end the process.
//! Invariants: one line; every refusal of a broker carries its Kafka name and number.
//! Apart because all commands fail in the same words.

use std::fmt;
use std::io;

use flumen_protocol::client::DialogueFault;
use flumen_protocol::error_code::ErrorCode;

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was typed makes no sense, and only the command itself could tell.
    Usage(String),
    /// There is no connection to this address.
    Unreachable {
        /// Which.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The connection ended, or nothing came in time.
    Lost {
        /// Whose.
        address: String,
        /// What was asked.
        asked: &'static str,
        /// What the system said.
        reason: String,
    },
    /// A question that this broker does not understand, or an answer that is none.
    Dialogue {
        /// Whose.
        address: String,
        /// What is wrong.
        fault: DialogueFault,
    },
    /// The broker refused.
    Refused {
        /// What it refused, as the user calls it: `topic orders`, `group billing`.
        subject: String,
        /// With which code.
        code: i16,
        /// Its own words, if any.
        message: String,
    },
    /// There is no such thing, as far as the answers say.
    Absent {
        /// What was looked for.
        subject: String,
        /// What to do.
        advice: &'static str,
    },
    /// Standard input or output failed.
    Stream(io::ErrorKind, String),
}

/// What a broker's refusal is about, and its own words: nothing when the code says that all is well.
///
/// # Errors
/// [`Fault::Refused`] for every code but zero.
pub fn accept(subject: impl FnOnce() -> String, code: i16, message: &str) -> Result<(), Fault> {
    if code == 0 {
        return Ok(());
    }
    Err(Fault::Refused { subject: subject(), code, message: message.to_owned() })
}

impl Fault {
    /// Whether asking again, with fresh knowledge of who leads what, may help.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                // A topic that is not there is retriable for Kafka's clients, which wait for its
                // creation to spread. Who typed a wrong name wants to hear of it.
                let unknown = ErrorCode::UnknownTopicOrPartition.code();
                *code != unknown && ErrorCode::from_code(*code).is_some_and(ErrorCode::retriable)
            }
            Self::Usage(_)
            | Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::Dialogue { .. }
            | Self::Absent { .. }
            | Self::Stream(..) => false,
        }
    }

    /// 2 for a mistake in what was typed, as for one that the parser finds; 3 where no broker could be
    /// talked to; 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Dialogue { fault: DialogueFault::NotSpoken(_), .. } => 1,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Dialogue { .. } => 3,
            Self::Refused { .. } | Self::Absent { .. } | Self::Stream(..) => 1,
        }
    }

    /// Whether nobody reads the output any more, as behind `| head`: no failure at all.
    #[must_use]
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Stream(io::ErrorKind::BrokenPipe, _))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Stream(error.kind(), error.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Unreachable { address, reason } => write!(
                f,
                "cannot reach {address}: {reason}; is a broker running there? -b HOST:PORT names another"
            ),
            Self::Lost { address, asked, reason } => {
                write!(f, "{address} did not answer {asked}: {reason}; --timeout waits longer")
            }
            Self::Dialogue { address, fault } => match fault {
                DialogueFault::NotSpoken(api) => write!(
                    f,
                    "{address} does not speak {api} in any version known here: its broker cannot do this"
                ),
                DialogueFault::Unsayable(..) => {
                    write!(f, "{address} is too old for this: {fault}")
                }
                DialogueFault::Malformed(..) => {
                    write!(f, "{address}: {fault}; is it a Kafka listener without TLS?")
                }
            },
            Self::Refused { subject, code, message } => refusal(f, subject, *code, message),
            Self::Absent { subject, advice } => write!(f, "there is no {subject}; {advice}"),
            Self::Stream(_, reason) => write!(f, "reading or writing failed: {reason}"),
        }
    }
}

impl std::error::Error for Fault {}

fn refusal(f: &mut fmt::Formatter<'_>, subject: &str, code: i16, message: &str) -> fmt::Result {
    let name = ErrorCode::from_code(code).map_or("UNKNOWN", ErrorCode::name);
    write!(f, "{subject}: {name} ({code})")?;
    let message = message.lines().next().unwrap_or_default().trim_end_matches('.');
    if !message.is_empty() {
        write!(f, ", {message}")?;
    }
    match advice(code) {
        Some(advice) => write!(f, "; {advice}"),
        None => Ok(()),
    }
}

/// What to do about the refusals that people meet every day.
fn advice(code: i16) -> Option<&'static str> {
    let all: [(ErrorCode, &'static str); 12] = [
        (ErrorCode::UnknownTopicOrPartition, "`flumen topics list` shows what there is"),
        (ErrorCode::OffsetOutOfRange, "`flumen topics offsets` shows first and last offsets"),
        (ErrorCode::TopicAlreadyExists, "--if-not-exists accepts that"),
        (ErrorCode::InvalidPartitions, "partitions can only be added"),
        (ErrorCode::InvalidReplicationFactor, "there are not that many brokers"),
        (ErrorCode::NonEmptyGroup, "stop its members first: `flumen groups describe` names them"),
        (ErrorCode::UnknownMemberId, "the group has members: stop them first"),
        (ErrorCode::GroupIdNotFound, "`flumen groups list` shows what there is"),
        (ErrorCode::TransactionalIdNotFound, "`flumen transactions list` shows what there is"),
        (ErrorCode::MessageTooLarge, "raise max.message.bytes of the topic"),
        (ErrorCode::NotController, "try again in a moment"),
        (ErrorCode::NotLeaderOrFollower, "try again in a moment"),
    ];
    all.into_iter().find(|(known, _)| known.code() == code).map(|(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_why_and_what_to_do() {
        let fault = accept(|| "topic orders".to_owned(), 36, "it exists.\nSince long").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "topic orders: TOPIC_ALREADY_EXISTS (36), it exists; --if-not-exists accepts that"
        );
        assert_eq!((fault.exit_code(), fault.is_retriable()), (1, false));
        assert_eq!(accept(|| unreachable!("nothing is wrong"), 0, ""), Ok(()));
    }

    #[test]
    fn codes_nobody_knows_are_shown_as_numbers() {
        let fault = accept(|| "group g".to_owned(), 31_000, "").unwrap_err();
        assert_eq!(fault.to_string(), "group g: UNKNOWN (31000)");
    }

    #[test]
    fn asking_again_helps_where_leaders_move_and_not_where_a_name_is_wrong() {
        let code = |code| accept(|| "x".to_owned(), code, "").unwrap_err().is_retriable();
        assert!(code(5) && code(6) && code(14) && code(15) && code(16));
        assert!(!code(3) && !code(36) && !code(29));
    }

    #[test]
    fn exit_codes_tell_mistakes_from_brokers_that_are_away() {
        let away = Fault::Unreachable { address: "a:1".into(), reason: "refused".into() };
        assert_eq!((Fault::Usage("no".into()).exit_code(), away.exit_code()), (2, 3));
        assert!(Fault::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_output());
    }
}
