//! Stories about large groups, which are converted a few members at a time.

use super::*;
use crate::limits::CONVERTING_REQUESTS_MAX;

const MEMBERS: usize = 300;
const GENERATION: i32 = 1;

/// Lets the machine go on once; whether anything was due.
fn step(desk: &mut Desk) -> bool {
    let now = desk.now();
    if desk.machine.next_deadline().is_none_or(|at| at > now.monotonic) {
        return false;
    }
    let mut out = Vec::new();
    desk.machine.on_time(now, WallTrust::Trusted, &mut out);
    desk.carry_out(out);
    true
}

/// Asks something that must wait; its number, under which the answer will be.
fn ask_later(desk: &mut Desk, request: GroupRequest) -> u64 {
    assert_eq!(desk.ask(request), None, "its group is being converted");
    desk.asked
}

fn heartbeat(request: ConsumerGroupHeartbeatRequest) -> GroupRequest {
    let (client_id, client_host) = ("c".to_owned(), "/::1".to_owned());
    GroupRequest::ConsumerHeartbeat { request, version: 1, client_id, client_host }
}

fn classic_heartbeat(member: &str) -> GroupRequest {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text(G)))
        .with_member_id(text(member))
        .with_generation_id(GENERATION);
    GroupRequest::Heartbeat { request }
}

/// A stable classic group with two partitions of `t` for each member; the ids. The last member's
/// assignment is what `last` says, if it says something.
fn large_classic_group(desk: &mut Desk, last: Option<Bytes>) -> Vec<String> {
    let first = |desk: &mut Desk| desk.classic_join(classic_joining("", &[])).expect("an id");
    let mut ids: Vec<String> = (0..MEMBERS).map(|_| first(desk).member_id.to_string()).collect();
    for id in &ids {
        assert_eq!(desk.classic_join(classic_joining(id, &[])), None, "waits for others");
    }
    desk.pass(1);
    let joined = std::mem::take(&mut desk.replies);
    let mut joined = joined.into_values().map(|response| match response {
        GroupResponse::Join(response) => response,
        other => panic!("no answer to a join: {other:?}"),
    });
    let leader = joined.next().expect("everybody is told").leader;
    ids.sort_unstable();
    let given = ids.iter().zip(0..).map(|(id, place)| {
        let given = write_assignment(&[], [("t", &[2 * place, 2 * place + 1][..])].into_iter());
        sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(text(id))
            .with_assignment(given)
    });
    let mut given: Vec<_> = given.collect();
    if let (Some(said), Some(one)) = (last, given.last_mut()) {
        one.assignment = said;
    }
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text(G)))
        .with_member_id(leader)
        .with_generation_id(GENERATION)
        .with_assignments(given);
    assert!(matches!(desk.ask(GroupRequest::Sync { request }), Some(GroupResponse::Sync(_))));
    ids
}

fn epoch_and_code(response: Option<GroupResponse>) -> (i32, ErrorCode) {
    match response {
        Some(GroupResponse::ConsumerHeartbeat(it)) => (it.member_epoch, code(it.error_code)),
        other => panic!("no answer to a heartbeat: {other:?}"),
    }
}

fn heartbeat_code(response: Option<GroupResponse>) -> ErrorCode {
    match response {
        Some(GroupResponse::Heartbeat(response)) => code(response.error_code),
        other => panic!("no answer to a heartbeat: {other:?}"),
    }
}

/// A large group goes to the new kind and back in steps. Whoever asks meanwhile waits and is answered by
/// what the group has become; nothing is written before all of it is; nobody loses its place.
#[test]
fn a_large_group_is_converted_in_steps_both_ways() {
    let mut desk = Desk::new(&[("t", 2 * MEMBERS)]);
    let ids = large_classic_group(&mut desk, None);
    let written = desk.log.len();

    let joins = ask_later(&mut desk, heartbeat(joining("new", &["t"])));
    let beats = ask_later(&mut desk, classic_heartbeat(&ids[0]));
    assert_eq!(desk.commit(&ids[1], GENERATION, 8), ErrorCode::None, "offsets need not wait");
    let written = written + (desk.log.len() - written);
    let mut steps = 0;
    while desk.log.len() == written {
        assert_eq!(
            desk.list(&[], &[]),
            ["g classic Stable"],
            "nothing is true before it is written"
        );
        assert!(desk.replies.is_empty(), "and nobody is told");
        assert!(step(&mut desk));
        steps += 1;
    }
    assert!(steps > 1, "it was not done in one turn");
    assert_eq!(epoch_and_code(desk.replies.remove(&joins)), (GENERATION + 1, ErrorCode::None));
    desk.pass(0);
    let group = desk.machine.consumers.get(G).expect("it is of the new kind");
    assert_eq!((group.members().len(), group.classic_members()), (MEMBERS + 1, MEMBERS));
    assert_eq!(heartbeat_code(desk.replies.remove(&beats)), ErrorCode::RebalanceInProgress);
    for (place, id) in ids.iter().enumerate().take(5) {
        let holding = &group.members()[id].holding;
        assert!(holding.assigned.contains(desk.id("t"), 2 * place as i32), "it keeps what it has");
    }

    // The only new member goes: the answer does not wait for the way back.
    assert_eq!(desk.beat(bare("new", -1)).error_code, 0);
    let written = desk.log.len();
    let mut steps = 0;
    while desk.log.len() == written {
        assert_eq!(desk.list(&[], &["consumer"]).len(), 1, "it is what it was");
        assert!(step(&mut desk));
        steps += 1;
    }
    assert!(steps > 1, "it was not done in one turn");
    assert_eq!(desk.list(&[], &[]), ["g classic PreparingRebalance"]);
    let beats = ask_later(&mut desk, classic_heartbeat(&ids[0]));
    desk.pass(0);
    assert_eq!(heartbeat_code(desk.replies.remove(&beats)), ErrorCode::IllegalGeneration);
    assert!(desk.machine.converting.is_empty());
    let replayed = desk.replayed();
    let stored = replayed.groups.get(G).expect("the log says the same");
    assert_eq!(stored.members().len(), MEMBERS);
    assert!(desk.compacted().len() < 10, "what the other kind had written is gone");
}

/// A group that turns out not to be convertible stays what it is, and who waited goes on in it.
#[test]
fn a_large_group_that_cannot_be_converted_stays_as_it_was() {
    let mut desk = Desk::new(&[("t", 2 * MEMBERS)]);
    let ids = large_classic_group(&mut desk, Some(Bytes::from_static(&[0, 0, 0])));
    let written = desk.log.len();
    let joins = ask_later(&mut desk, heartbeat(joining("new", &["t"])));
    let also = ask_later(&mut desk, heartbeat(joining("other", &["t"])));
    let beats = ask_later(&mut desk, classic_heartbeat(&ids[0]));
    desk.pass(0);
    assert_eq!(epoch_and_code(desk.replies.remove(&joins)).1, ErrorCode::GroupIdNotFound);
    assert_eq!(epoch_and_code(desk.replies.remove(&also)).1, ErrorCode::GroupIdNotFound);
    assert_eq!(heartbeat_code(desk.replies.remove(&beats)), ErrorCode::None);
    assert_eq!(desk.log.len(), written);
    assert_eq!(desk.list(&[], &[]), ["g classic Stable"]);
}

/// Alarms of a group that is being converted fall due afterwards; of those who wait there is a limit, and
/// all of them are answered when the coordinator goes.
#[test]
fn what_a_conversion_keeps_waiting_is_bounded_and_never_forgotten() {
    let mut desk = Desk::new(&[("t", 2 * MEMBERS)]);
    let ids = large_classic_group(&mut desk, None);
    desk.ms += 30_000;
    let joins = ask_later(&mut desk, heartbeat(joining("new", &["t"])));
    for id in ids.iter().cycle().take(CONVERTING_REQUESTS_MAX - 1) {
        let (now, mut out) = (desk.now(), Vec::new());
        desk.asked += 1;
        let ticket = Ticket { core: CoreId(0), request: desk.asked, part: 0 };
        desk.machine.handle(now, &mut desk.dice, ticket, classic_heartbeat(id), &mut out);
        assert!(out.is_empty(), "it waits");
    }
    let refused = heartbeat_code(desk.ask(classic_heartbeat(&ids[0])));
    assert_eq!(refused, ErrorCode::CoordinatorLoadInProgress);
    let parked = desk.machine.parked(ErrorCode::NotCoordinator);
    assert_eq!(parked.len(), CONVERTING_REQUESTS_MAX);
    assert_eq!(parked[0].0.request, joins);

    // All sessions are over in this very turn, but the conversion lets them begin anew.
    let before = desk.asked;
    while step(&mut desk) {}
    let group = desk.machine.consumers.get(G).expect("it is of the new kind");
    assert_eq!(group.members().len(), MEMBERS + 1);
    assert_eq!(desk.asked, before);
    assert_eq!(desk.replies.len(), CONVERTING_REQUESTS_MAX, "everybody has an answer");
}
