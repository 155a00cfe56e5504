//! Writes answers as lines of a transcript, and lets clients learn from them.

use bytes::BytesMut;
use flumen_protocol::messages::describe_groups_response::DescribedGroup;
use flumen_protocol::messages::{
    DeleteGroupsResponse, DescribeGroupsResponse, Encodable, JoinGroupResponse, OffsetFetchResponse,
};
use flumen_replication::coordinator::group::{GroupRequest, GroupResponse};

use crate::asks::Known;
use crate::script::{ascii, code_name};

/// A client remembers the member id and the generation it was given, as real ones do.
pub fn remember(known: &mut Known, request: &GroupRequest, response: &GroupResponse) {
    if let (GroupRequest::Join { .. }, GroupResponse::Join(join)) = (request, response) {
        if join.error_code == 0 || join.error_code == 79 {
            known.member_id = join.member_id.to_string();
        }
        if join.error_code == 0 {
            known.generation = join.generation_id;
        }
    }
}

/// Whether the codec takes an answer at every version its request may have had.
pub fn check_encodable(request: &GroupRequest, response: &GroupResponse) {
    match (request, response) {
        (GroupRequest::Join { version, .. }, GroupResponse::Join(response)) => {
            encode(response, *version..=*version);
        }
        (GroupRequest::Leave { version, .. }, GroupResponse::Leave(response)) => {
            encode(response, *version..=*version);
        }
        (GroupRequest::CommitOffsets { version, .. }, GroupResponse::CommitOffsets(response)) => {
            encode(response, *version..=*version);
        }
        (GroupRequest::Describe { version, .. }, GroupResponse::Describe(group)) => {
            let response = DescribeGroupsResponse::default().with_groups(vec![group.clone()]);
            encode(&response, *version..=*version);
        }
        (GroupRequest::Sync { .. }, GroupResponse::Sync(response)) => encode(response, 0..=5),
        (GroupRequest::Heartbeat { .. }, GroupResponse::Heartbeat(response)) => {
            encode(response, 0..=4);
        }
        (GroupRequest::FetchOffsets { .. }, GroupResponse::FetchOffsets(group)) => {
            encode(&OffsetFetchResponse::default().with_groups(vec![group.clone()]), 8..=9);
        }
        (GroupRequest::List { .. }, GroupResponse::List(response)) => encode(response, 0..=5),
        (GroupRequest::Delete { .. }, GroupResponse::Delete(result)) => {
            encode(&DeleteGroupsResponse::default().with_results(vec![result.clone()]), 0..=2);
        }
        (GroupRequest::DeleteOffsets { .. }, GroupResponse::DeleteOffsets(response)) => {
            encode(response, 0..=0);
        }
        (GroupRequest::TopicsDeleted { .. }, GroupResponse::TopicsDeleted(_)) => {}
        // The broker turns it into another shape, version by version.
        (GroupRequest::CommitWithin { .. }, GroupResponse::CommitWithin(_)) => {}
        (request, response) => panic!("{response:?} is no answer to {request:?}"),
    }
}

fn encode(response: &impl Encodable, versions: std::ops::RangeInclusive<i16>) {
    for version in versions {
        let encoded = response.encode(&mut BytesMut::new(), version);
        assert!(encoded.is_ok(), "version {version}: {encoded:?}");
    }
}

/// An answer as one line.
pub fn text(response: &GroupResponse) -> String {
    match response {
        GroupResponse::Join(join) => joined(join),
        GroupResponse::Sync(sync) if sync.error_code == 0 => format!(
            "sync OK {}/{} {}",
            sync.protocol_type.as_deref().unwrap_or("-"),
            sync.protocol_name.as_deref().unwrap_or("-"),
            ascii(&sync.assignment)
        ),
        GroupResponse::Sync(sync) => format!("sync {}", code_name(sync.error_code)),
        GroupResponse::Heartbeat(beat) => format!("beat {}", code_name(beat.error_code)),
        GroupResponse::Leave(leave) => {
            let members = leave.members.iter().map(|member| {
                let instance = member.group_instance_id.as_deref().unwrap_or("-");
                format!("{}/{instance} {}", &*member.member_id, code_name(member.error_code))
            });
            let members: Vec<String> = members.collect();
            format!("leave {} [{}]", code_name(leave.error_code), members.join(", "))
        }
        GroupResponse::CommitOffsets(commit) | GroupResponse::CommitWithin(commit) => {
            let all = commit.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |one| {
                    let code = code_name(one.error_code);
                    format!("{}/{} {code}", &**topic.name, one.partition_index)
                })
            });
            format!("commit {}", all.collect::<Vec<_>>().join(", "))
        }
        GroupResponse::FetchOffsets(fetch) => {
            let all = fetch.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |one| {
                    let note = one.metadata.as_deref().unwrap_or("null");
                    let (index, offset) = (one.partition_index, one.committed_offset);
                    if one.error_code != 0 {
                        return format!("{}/{index} {}", &**topic.name, code_name(one.error_code));
                    }
                    format!("{}/{index}@{offset} '{note}'", &**topic.name)
                })
            });
            let all: Vec<_> = all.collect();
            format!("{} {} {}", &**fetch.group_id, code_name(fetch.error_code), all.join(", "))
        }
        GroupResponse::ConsumerHeartbeat(_) | GroupResponse::DescribeConsumer(_) => {
            format!("{response:?}")
        }
        GroupResponse::Describe(group) => described(group),
        GroupResponse::List(list) => {
            let groups = list.groups.iter().map(|group| {
                let (state, kind) = (&*group.group_state, &*group.group_type);
                format!("{}:{}:{state}:{kind}", &**group.group_id, &*group.protocol_type)
            });
            format!("{} [{}]", code_name(list.error_code), groups.collect::<Vec<_>>().join(", "))
        }
        GroupResponse::Delete(delete) => {
            format!("{} {}", &**delete.group_id, code_name(delete.error_code))
        }
        GroupResponse::DeleteOffsets(delete) => {
            let all = delete.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |one| {
                    let code = code_name(one.error_code);
                    format!("{}/{} {code}", &**topic.name, one.partition_index)
                })
            });
            format!("{} {}", code_name(delete.error_code), all.collect::<Vec<_>>().join(", "))
        }
        GroupResponse::TopicsDeleted(error) => {
            format!("topics deleted {}", code_name(error.code()))
        }
    }
}

fn joined(join: &JoinGroupResponse) -> String {
    if join.error_code != 0 {
        return format!("join {} member={}", code_name(join.error_code), &*join.member_id);
    }
    let members: Vec<String> = join
        .members
        .iter()
        .map(|member| {
            let instance = member.group_instance_id.as_deref();
            let instance = instance.map(|one| format!("({one})")).unwrap_or_default();
            format!("{}{instance}", &*member.member_id)
        })
        .collect();
    format!(
        "join OK generation={} {}/{} leader={} member={} [{}]{}",
        join.generation_id,
        join.protocol_type.as_deref().unwrap_or("-"),
        join.protocol_name.as_deref().unwrap_or("-"),
        &*join.leader,
        &*join.member_id,
        members.join(" "),
        if join.skip_assignment { " skip" } else { "" }
    )
}

fn described(group: &DescribedGroup) -> String {
    let members = group.members.iter().map(|member| {
        let instance = member.group_instance_id.as_deref().unwrap_or("-");
        let (id, host) = (&*member.member_id, &*member.client_host);
        let metadata_bytes = member.member_metadata.len();
        let assignment = ascii(&member.member_assignment);
        format!("{id}/{instance} {host} metadata={metadata_bytes} assignment={assignment}")
    });
    format!(
        "{} {} {} {}/{} [{}]{}",
        &**group.group_id,
        code_name(group.error_code),
        &*group.group_state,
        &*group.protocol_type,
        &*group.protocol_data,
        members.collect::<Vec<_>>().join(", "),
        group.error_message.as_deref().map(|text| format!(" \"{text}\"")).unwrap_or_default()
    )
}
