//! Reads the requests of scripts.
//!
//! ```text
//! join CLIENT GROUP [v=9] [instance=I] [type=consumer] [protocols=range:t1+t2,sticky:t1]
//!                   [session=10s] [rebalance=60s] [member=ID]   (protocol=raw:… is opaque)
//! sync CLIENT GROUP [assign=CLIENT:TEXT,…] [generation=N] [instance=I] [protocol=P] [type=T]
//! beat CLIENT GROUP [generation=N] [instance=I]
//! leave CLIENT GROUP [v=5] [instance=I] [members=CLIENT,…]
//! commit CLIENT GROUP topic/0@5[:note] … [v=9] [generation=N] [retention=1m]   (CLIENT - : simple)
//!        [within=PRODUCER]  (as part of its transaction)
//! fetch|peek GROUP [topic/0 …]  (peek: also what is not stable)
//!        forget GROUP topic/0 …       topics_deleted T …
//! describe GROUP [v=6]         list [states=A,B] [types=A]  delete GROUP
//! ```
//! A client uses the member id and generation it was last given, unless `member=` says otherwise
//! (`member=none`: none).

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use flumen_protocol::ids::{ProducerEpoch, ProducerId};
use flumen_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use flumen_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use flumen_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use flumen_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use flumen_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetDeleteRequest, StrBytes, SyncGroupRequest, TopicName,
};
use flumen_replication::coordinator::group::{GroupRequest, ListFilter};
use flumen_replication::coordinator::producer::Producer;

use crate::script::duration_ms;

/// What a client knows of itself.
#[derive(Clone, Default)]
pub struct Known {
    pub member_id: String,
    pub generation: i32,
}

/// The options of a command: `name=value`.
struct Options<'a>(BTreeMap<&'a str, &'a str>);

impl Options<'_> {
    fn text(&self, name: &str) -> Option<StrBytes> {
        self.0.get(name).map(|value| text(value))
    }

    fn number(&self, name: &str, default: i32) -> i32 {
        self.0.get(name).map_or(default, |value| value.parse().unwrap())
    }

    fn version(&self, default: i16) -> i16 {
        self.number("v", i32::from(default)) as i16
    }

    fn ms(&self, name: &str, default: i32) -> i32 {
        self.0.get(name).map_or(default, |value| duration_ms(value) as i32)
    }

    fn list(&self, name: &str) -> Vec<&str> {
        self.0.get(name).map_or_else(Vec::new, |value| value.split(',').collect())
    }
}

/// The client and the request a command line means.
pub fn ask(words: &[&str], known: &BTreeMap<String, Known>) -> (String, GroupRequest) {
    let options = Options(words.iter().filter_map(|word| word.split_once('=')).collect());
    let plain: Vec<&str> = words.iter().copied().filter(|word| !word.contains('=')).collect();
    let third = plain.get(2..).unwrap_or_default();
    let second = plain.get(1).copied().unwrap_or("-");
    let group = GroupId(text(plain.get(2).copied().unwrap_or("")));
    let me = known.get(second).cloned().unwrap_or_default();
    let request = match plain[0] {
        "join" => join(second, group, &options, &me),
        "sync" => sync(group, &options, &me, known),
        "beat" => GroupRequest::Heartbeat {
            request: HeartbeatRequest::default()
                .with_group_id(group)
                .with_member_id(member_id(&options, &me))
                .with_generation_id(options.number("generation", me.generation))
                .with_group_instance_id(options.text("instance")),
        },
        "leave" => leave(group, &options, &me, known),
        "commit" => commit(second, group, &plain[3..], &options, &me),
        "fetch" => return ("fetch".to_owned(), fetch(second, third, true)),
        "peek" => return ("peek".to_owned(), fetch(second, third, false)),
        "forget" => return ("forget".to_owned(), forget(second, third)),
        "topics_deleted" => {
            let names = plain[1..].iter().map(ToString::to_string).collect();
            return ("broker".to_owned(), GroupRequest::TopicsDeleted { names });
        }
        "describe" => {
            let group_id = second.to_owned();
            let request = GroupRequest::Describe { group_id, version: options.version(6) };
            return ("describe".to_owned(), request);
        }
        "list" => {
            let words = |name| options.list(name).into_iter();
            let wanted = ListFilter::new(words("states"), words("types"));
            return ("list".to_owned(), GroupRequest::List { wanted });
        }
        "delete" => {
            return ("delete".to_owned(), GroupRequest::Delete { group_id: second.to_owned() });
        }
        other => panic!("no such command: {other}"),
    };
    (second.to_owned(), request)
}

fn join(client: &str, group: GroupId, options: &Options<'_>, me: &Known) -> GroupRequest {
    let protocols = match options.list("protocols") {
        given if given.is_empty() => vec!["range:t"],
        given => given,
    };
    let session_ms = options.ms("session", 10_000);
    let request = JoinGroupRequest::default()
        .with_group_id(group)
        .with_session_timeout_ms(session_ms)
        .with_rebalance_timeout_ms(options.ms("rebalance", 60_000))
        .with_member_id(member_id(options, me))
        .with_group_instance_id(options.text("instance"))
        .with_protocol_type(options.text("type").unwrap_or_else(|| text("consumer")))
        .with_protocols(protocols.into_iter().map(protocol).collect());
    GroupRequest::Join {
        request,
        version: options.version(9),
        client_id: client.to_owned(),
        client_host: "/127.0.0.1".to_owned(),
    }
}

/// `range:t1+t2` is a subscription, `range:raw:…` opaque bytes.
fn protocol(spec: &str) -> JoinGroupRequestProtocol {
    let (name, metadata) = spec.split_once(':').unwrap_or((spec, ""));
    let bytes = match metadata.strip_prefix("raw:") {
        Some(raw) => Bytes::copy_from_slice(raw.as_bytes()),
        None => subscription(metadata),
    };
    JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(bytes)
}

fn subscription(topics: &str) -> Bytes {
    let topics: Vec<&str> = topics.split('+').filter(|topic| !topic.is_empty()).collect();
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.put_i32(0);
    bytes.freeze()
}

fn sync(
    group: GroupId,
    options: &Options<'_>,
    me: &Known,
    known: &BTreeMap<String, Known>,
) -> GroupRequest {
    let assignments = options.list("assign").into_iter().map(|one| {
        let (client, assignment) = one.split_once(':').unwrap();
        let member_id = known.get(client).map_or(client, |known| known.member_id.as_str());
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member_id))
            .with_assignment(Bytes::copy_from_slice(assignment.as_bytes()))
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group)
        .with_generation_id(options.number("generation", me.generation))
        .with_member_id(member_id(options, me))
        .with_group_instance_id(options.text("instance"))
        .with_protocol_type(options.text("type"))
        .with_protocol_name(options.text("protocol"))
        .with_assignments(assignments.collect());
    GroupRequest::Sync { request }
}

fn leave(
    group: GroupId,
    options: &Options<'_>,
    me: &Known,
    known: &BTreeMap<String, Known>,
) -> GroupRequest {
    let version = options.version(5);
    let request = LeaveGroupRequest::default().with_group_id(group);
    if version < 3 {
        let request = request.with_member_id(member_id(options, me));
        return GroupRequest::Leave { request, version };
    }
    let mut members: Vec<MemberIdentity> = options
        .list("members")
        .iter()
        .map(|client| {
            let id = known.get(*client).map_or(*client, |known| &known.member_id);
            MemberIdentity::default().with_member_id(text(id))
        })
        .collect();
    if members.is_empty() {
        members.push(
            MemberIdentity::default()
                .with_member_id(member_id(options, me))
                .with_group_instance_id(options.text("instance")),
        );
    }
    GroupRequest::Leave { request: request.with_members(members), version }
}

fn commit(
    client: &str,
    group: GroupId,
    places: &[&str],
    options: &Options<'_>,
    me: &Known,
) -> GroupRequest {
    let topics = places.iter().map(|place| {
        let (place, offset) = place.split_once('@').unwrap();
        let (topic, partition) = place.split_once('/').unwrap();
        let (offset, note) = offset.split_once(':').unwrap_or((offset, ""));
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition.parse().unwrap())
            .with_committed_offset(offset.parse().unwrap())
            .with_committed_metadata(Some(text(note)));
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![partition])
    });
    let generation = if client == "-" { -1 } else { me.generation };
    let request = OffsetCommitRequest::default()
        .with_group_id(group)
        .with_generation_id_or_member_epoch(options.number("generation", generation))
        .with_member_id(member_id(options, me))
        .with_group_instance_id(options.text("instance"))
        .with_retention_time_ms(i64::from(options.ms("retention", -1)))
        .with_topics(topics.collect());
    match options.number("within", -1) {
        -1 => GroupRequest::CommitOffsets { request, version: options.version(9) },
        id => {
            let producer = Producer { id: ProducerId(i64::from(id)), epoch: ProducerEpoch(0) };
            GroupRequest::CommitWithin { request, producer }
        }
    }
}

fn fetch(group: &str, places: &[&str], require_stable: bool) -> GroupRequest {
    let topics = places.iter().map(|place| {
        let (topic, partition) = place.split_once('/').unwrap();
        OffsetFetchRequestTopics::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(vec![partition.parse().unwrap()])
    });
    let request = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics((!places.is_empty()).then(|| topics.collect()));
    GroupRequest::FetchOffsets { request, require_stable }
}

fn forget(group: &str, places: &[&str]) -> GroupRequest {
    let topics = places.iter().map(|place| {
        let (topic, partition) = place.split_once('/').unwrap();
        let partition = OffsetDeleteRequestPartition::default()
            .with_partition_index(partition.parse().unwrap());
        OffsetDeleteRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![partition])
    });
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(topics.collect());
    GroupRequest::DeleteOffsets { request }
}

fn member_id(options: &Options<'_>, me: &Known) -> StrBytes {
    match options.0.get("member") {
        None => text(&me.member_id),
        Some(&"none") => text(""),
        Some(id) => text(id),
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
