//! DescribeLogDirs (key 35, versions 1–4): how large partitions are on disk.
//!
//! - Null topics mean all of them; a topic or partition that is not here is left out, as in Kafka.
//! - A size counts the bytes of all batches, wherever they are: in the core's journal or already
//!   in segments. What the journal keeps besides, to be used again, is not counted.
//! - Version 4 tells the file system's bytes, −1 until they were looked up (KIP-827).
//!
//! Deviations: this broker has one log directory, so nothing is ever moved between two
//! (`is_future_key` is false, `offset_lag` 0).
//! KIPs: 113, 827.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{CoreId, LogId};
use flumen_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use flumen_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use flumen_replication::metadata::image::Topic;

use super::step::{self, Addressee, Context, Envelope, Part, Progress, Step, Wait, text};
use super::table::Waiting as AnyWaiting;
use crate::shard::mailbox::{Answer, Question, Space};

/// The first version whose answer has an error for the whole of it.
const ERROR_SINCE: i16 = 3;

/// The first version with the file system's bytes.
const SPACE_SINCE: i16 = 4;

/// "Not known".
const UNKNOWN_BYTES: i64 = -1;

/// Sizes that are being gathered.
#[derive(Debug)]
pub struct Waiting {
    request: DescribeLogDirsRequest,
    sizes: BTreeMap<LogId, u64>,
    space: Option<Space>,
    missing: usize,
}

/// Asks every core.
pub fn open(context: &mut Context<'_>, envelope: &Envelope, frame: BytesMut, body: usize) -> Step {
    let Some(request) = step::decode::<DescribeLogDirsRequest>(envelope, frame, body) else {
        return Step::Close("malformed DescribeLogDirs request");
    };
    let parts = (0..context.cores).map(|core| Part {
        number: u32::from(core),
        to: Addressee::Core(CoreId(core)),
        question: Question::Sizes,
    });
    let missing = usize::from(context.cores);
    let waiting = Waiting { request, sizes: BTreeMap::new(), space: None, missing };
    Step::Wait(Wait {
        waiting: AnyWaiting::DescribeLogDirs(waiting),
        parts: parts.collect(),
        patience: Some(context.patience()),
    })
}

impl Waiting {
    /// Takes one core's sizes in.
    pub fn answer(&mut self, answer: Answer) -> Progress {
        if let Answer::Sizes(sizes) = answer {
            self.sizes.extend(sizes.logs);
            self.space = self.space.or(sizes.space);
            self.missing -= 1;
        }
        if self.missing == 0 { Progress::Done } else { Progress::Open }
    }

    /// Answers with all of them, or with the error alone.
    pub fn close(self, context: &mut Context<'_>, envelope: &Envelope) -> Step {
        if self.missing > 0 {
            return step::answer(envelope, &late(envelope));
        }
        let mut result = DescribeLogDirsResult::default()
            .with_log_dir(text(context.options.log_dir.display().to_string()))
            .with_topics(self.topics(context));
        if envelope.version >= SPACE_SINCE {
            let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            result.total_bytes = self.space.map_or(UNKNOWN_BYTES, |space| bytes(space.total));
            result.usable_bytes = self.space.map_or(UNKNOWN_BYTES, |space| bytes(space.free));
        }
        step::answer(envelope, &DescribeLogDirsResponse::default().with_results(vec![result]))
    }

    fn topics(&self, context: &Context<'_>) -> Vec<DescribeLogDirsTopic> {
        let Some(asked) = &self.request.topics else {
            return context.image.topics().map(|topic| self.topic(topic, |_| true)).collect();
        };
        let mut wanted: BTreeMap<&TopicName, BTreeSet<i32>> = BTreeMap::new();
        for topic in asked {
            wanted.entry(&topic.topic).or_default().extend(&topic.partitions);
        }
        let described = wanted.into_iter().filter_map(|(name, partitions)| {
            let topic = context.image.topic_named(name)?;
            Some(self.topic(topic, |partition| partitions.contains(&partition)))
        });
        described.filter(|topic| !topic.partitions.is_empty()).collect()
    }

    fn topic(&self, topic: &Topic, is_wanted: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
        let logs = topic.logs().filter(|log| is_wanted(log.partition.0));
        let partitions = logs.filter_map(|log| {
            let bytes = *self.sizes.get(&log)?;
            Some(
                DescribeLogDirsPartition::default()
                    .with_partition_index(log.partition.0)
                    .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX)),
            )
        });
        DescribeLogDirsTopic::default()
            .with_name(TopicName(text(topic.name.as_str())))
            .with_partitions(partitions.collect())
    }
}

/// A core did not answer in time.
fn late(envelope: &Envelope) -> DescribeLogDirsResponse {
    let code = ErrorCode::RequestTimedOut.code();
    if envelope.version >= ERROR_SINCE {
        return DescribeLogDirsResponse::default().with_error_code(code);
    }
    let result = DescribeLogDirsResult::default().with_error_code(code);
    DescribeLogDirsResponse::default().with_results(vec![result])
}
