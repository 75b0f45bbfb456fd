//! Faults that Apache's servers had in production, by their numbers: each story fails when the rule is removed that avoids
//! the fault here. More of them stand in `broadcast` and `synchronization`; those of the disk in the storage room.

use docent::Zxid;

use super::by_hand::{Learner, hangs_up, said};
use super::net::{Net, zxid};
use crate::limits::Sizes;
use crate::zab::{LogShape, Message, Output, PeerId, Plan, Turn, choose};

/// Everything goes from memory to the disk at once, and comes back in the smallest pieces.
const FROM_THE_LOG: Sizes = Sizes {
    history_bytes_max: 0,
    log_read_bytes: 1,
    snapshot_piece_bytes: 1,
    snapshot_wait_log_bytes_max: 0,
    held_bytes_max: 0,
};

/// A learner that has the promise behind it.
fn confirmed(log: &[(u32, u32)], epochs: (u32, u32), epoch: u32) -> Learner {
    let mut learner = Learner::greeting(log, epochs);
    learner.leader_info(epoch);
    let out = learner.all_synced();
    assert!(matches!(said(&out)[..], [Message::AckEpoch { .. }]), "{out:?}");
    learner
}

/// ZOOKEEPER-3023: a leader took a follower for level whose tree had not applied the diff. Here the history is acknowledged
/// when all of it and its epoch are durable, and applied before the first client is served.
#[test]
fn a_history_is_durable_before_it_is_acknowledged_and_applied_before_it_is_served() {
    let mut learner = confirmed(&[], (0, 0), 1);
    learner.hear(Message::Diff(Zxid::ZERO));
    learner.propose(1, 1);
    learner.propose(1, 2);
    learner.hear(Message::Commit(zxid(1, 2)));
    let records = learner.orders.clone();
    learner.hear(Message::NewLeader { epoch: 1, config: bytes::Bytes::new() });
    let epochs = learner.orders.last().copied().unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(said(&learner.synced(records[1])), [] as [&Message; 0], "the epoch is not durable yet");
    let out = learner.synced(epochs);
    assert_eq!(said(&out), [&Message::Ack(zxid(1, 0))]);
    let out = learner.hear(Message::UpToDate);
    let applied = out.iter().position(|output| *output == Output::Commit(zxid(1, 2)));
    let serves = out.iter().position(|output| matches!(output, Output::Turn(Turn::Learning { .. })));
    assert!(applied.is_some() && applied < serves, "{out:?}");
}

/// ZOOKEEPER-3104: `NEWLEADER` overtook what a learner was being brought level with. Here all that a learner is sent stands
/// in one line, also what the disk had to be asked for.
#[test]
fn nothing_overtakes_what_a_learner_is_brought_level_with() {
    let mut net = Net::new(3);
    net.sizes = FROM_THE_LOG;
    let all: Vec<(u32, u32)> = (1..=6).map(|counter| (1, counter)).collect();
    net.give(1, &all[..1], 1, 1);
    net.give(2, &all, 1, 1);
    net.give(3, &all, 1, 1);
    net.start(&[2, 3]);
    let leader = net.elect();
    net.sent.clear();
    net.start(&[1]);
    net.wait(100);
    let said = net.said(leader, 1);
    let proposed: Vec<Zxid> = said.iter().filter_map(proposal).collect();
    let new_leader = said.iter().position(|message| matches!(message, Message::NewLeader { .. }));
    let last = said.iter().rposition(|message| *message == Message::Commit(zxid(1, 6)));
    assert_eq!(proposed, (2..=6).map(|counter| zxid(1, counter)).collect::<Vec<_>>(), "each once, in order");
    assert!(last.is_some() && last < new_leader, "{said:?}");
    assert_eq!(net.log(1), all);
}

fn proposal(message: &Message) -> Option<Zxid> {
    match message {
        Message::Proposal { zxid, .. } => Some(*zxid),
        _ => None,
    }
}

/// The issues 1 to 3 of the protocol's specification in TLA+: who is sent a proposal and its commit that come while a
/// learner is being brought level? Here the learner, once, behind what it lacks: it goes over to the live stream in the
/// step in which nothing is missing any more.
#[test]
fn what_is_proposed_while_a_learner_is_brought_level_reaches_it_once() {
    let mut net = Net::new(3);
    net.sizes = FROM_THE_LOG;
    let all: Vec<(u32, u32)> = (1..=4).map(|counter| (1, counter)).collect();
    net.give(2, &all, 1, 1);
    net.give(3, &all, 1, 1);
    net.start(&[2, 3]);
    let leader = net.elect();
    net.wait(50);
    net.full = true;
    net.sent.clear();
    net.start(&[1]);
    for _ in 0..3 {
        net.write(leader);
        net.make_room();
    }
    assert!(!net.serves(1), "it is not level yet");
    let last = net.write(leader);
    net.full = false;
    net.make_room();
    net.wait(50);
    let said = net.said(leader, 1);
    let proposed: Vec<Zxid> = said.iter().filter_map(proposal).collect();
    let wanted = all.iter().map(|(epoch, counter)| zxid(*epoch, *counter));
    let wanted: Vec<Zxid> = wanted.chain((1..=4).map(|counter| zxid(2, counter))).collect();
    assert_eq!(proposed, wanted, "each once, in order");
    assert!(net.serves(1));
    assert_eq!(net.committed(1), last);
}

/// ZOOKEEPER-3526, 4352: bounds of the committed log that were made up (0, or the beginning of an epoch) led to a wrong DIFF
/// or TRUNC. Here a plan follows only from records that are in the log, and nothing uncommitted is a bound.
#[test]
fn a_plan_names_only_records_that_are_there() {
    let shapes: [(Zxid, &[(u32, u32)]); 5] = [
        (Zxid::ZERO, &[]),
        (zxid(1, 3), &[]),
        (zxid(1, 1), &[(1, 2), (1, 3)]),
        (Zxid::ZERO, &[(1, 1), (1, 2), (3, 1)]),
        (zxid(2, 2), &[(3, 1), (3, 2)]),
    ];
    for (floor, records) in shapes {
        let mut ours = LogShape::new(floor);
        records.iter().for_each(|(epoch, counter)| ours.push(zxid(*epoch, *counter)));
        let held: Vec<Zxid> = std::iter::once(floor)
            .chain(records.iter().map(|(epoch, counter)| zxid(*epoch, *counter)))
            .collect();
        for (epoch, counter, committed) in (0..5).flat_map(|epoch| {
            let held = &held;
            (0..5).flat_map(move |counter| held.iter().map(move |committed| (epoch, counter, *committed)))
        }) {
            let last = zxid(epoch, counter);
            for apache in [false, true] {
                match choose(last, &ours, committed, apache) {
                    Plan::Diff { after } => assert!(after == last && held.contains(&after), "{last}"),
                    Plan::Trunc { to } => {
                        assert!(
                            held.contains(&to) && to <= committed && to < last && !apache,
                            "{last}, {to}"
                        );
                        assert!(held.iter().any(|held| held.epoch() == epoch && *held < last), "{last}");
                    }
                    Plan::Snap => {}
                }
            }
        }
    }
}

/// ZOOKEEPER-3642, 5094: a snapshot that broke off left a server whose memory was ahead of its disk; the next diff made a
/// hole. Here a state counts when it is on the disk as a whole.
#[test]
fn a_state_that_breaks_off_changes_nothing() {
    let mut learner = confirmed(&[(1, 1), (1, 2)], (1, 1), 2);
    learner.hear(Message::Snap(zxid(1, 9)));
    learner.lose_link();
    learner.greet();
    learner.leader_info(3);
    let out = learner.all_synced();
    assert_eq!(said(&out), [&Message::AckEpoch { last: zxid(1, 2), current: Some(1) }]);
    let old = learner.link;
    assert!(
        !learner.replica.clone().on_snapshot(9_000, old, zxid(1, 9), &mut Vec::new()),
        "nobody announced it"
    );
    learner.hear(Message::Diff(zxid(1, 2)));
    assert!(hangs_up(&learner.propose(1, 10)), "a record behind the state that did not come");
}

/// ZOOKEEPER-3642, 5094, for a cut: what is told of the log afterwards is what the disk holds.
#[test]
fn a_cut_that_breaks_off_is_done_before_the_end_of_the_log_is_told() {
    let mut learner = confirmed(&[(1, 1), (1, 2), (1, 3)], (1, 1), 2);
    let out = learner.hear(Message::Trunc(zxid(1, 1)));
    assert!(matches!(out[..], [Output::Truncate { after, .. }] if after == zxid(1, 1)), "{out:?}");
    let cut = learner.orders[0];
    learner.lose_link();
    learner.greet();
    learner.leader_info(3);
    assert_eq!(said(&learner.synced(cut)), [] as [&Message; 0], "the promise is not durable");
    let out = learner.all_synced();
    assert_eq!(said(&out), [&Message::AckEpoch { last: zxid(1, 1), current: Some(1) }]);
    learner.hear(Message::Diff(zxid(1, 1)));
    assert!(hangs_up(&learner.propose(1, 3)), "what was cut away does not count as there");
}

/// Where the log is to be cut, no file may remember: a snapshot of an unfinished history was all that this server had. It keeps
/// what it has, for that may be committed, and asks for the whole state.
#[test]
fn a_log_that_cannot_be_cut_is_kept_until_the_whole_state_has_come() {
    let mut learner = confirmed(&[(1, 1)], (1, 1), 2);
    learner.hear(Message::Snap(zxid(1, 9)));
    let link = learner.link;
    assert!(learner.replica.on_snapshot(9_000, link, zxid(1, 9), &mut Vec::new()));
    learner.lose_link();
    for wanted in [false, true] {
        learner.greet();
        assert_eq!(learner.wants_state, wanted);
        learner.leader_info(3);
        learner.all_synced();
        let out = learner.hear(if wanted { Message::Snap(zxid(2, 4)) } else { Message::Trunc(zxid(1, 5)) });
        assert!(!out.iter().any(|output| matches!(output, Output::Truncate { .. })), "{out:?}");
        assert_eq!(hangs_up(&out), !wanted);
    }
    let link = learner.link;
    let out = learner.act(|replica, now, out| assert!(replica.on_snapshot(now, link, zxid(2, 4), out)));
    assert!(matches!(out[..], [Output::Truncate { after, .. }] if after == zxid(2, 4)), "{out:?}");
    learner.lose_link();
    learner.greet();
    assert!(!learner.wants_state, "it has come");
}

/// ZOOKEEPER-4409: the thread that acknowledges died of the socket of a leader that was gone. Here a report of the disk that
/// comes too late goes nowhere, and the record counts with the next leader.
#[test]
fn an_ack_for_a_leader_that_is_gone_goes_nowhere() {
    let mut net = Net::new(3);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(100);
    net.hold_disk(1, true);
    net.hold_disk(2, true);
    let written = net.write(3);
    net.kill(3);
    net.sent.clear();
    net.hold_disk(1, false);
    net.hold_disk(2, false);
    assert_eq!(net.said(1, 3), []);
    assert_eq!(net.elect(), 2);
    net.wait(50);
    assert_eq!((net.committed(1), net.committed(2)), (written, written));
}

/// ZOOKEEPER-4541, 4712: a follower that was shut down still wrote records, after it had read where its log ended. Here the
/// end of the log is what was ordered, and it is told when the disk has done all of that.
#[test]
fn the_end_of_the_log_is_told_when_all_that_was_ordered_is_there() {
    let mut learner = confirmed(&[(1, 1)], (1, 1), 2);
    learner.hear(Message::Diff(zxid(1, 1)));
    learner.hear(Message::NewLeader { epoch: 2, config: bytes::Bytes::new() });
    learner.all_synced();
    learner.hear(Message::UpToDate);
    learner.propose(2, 1);
    learner.propose(2, 2);
    let out = learner.lose_link();
    let votes: Vec<Zxid> = out
        .iter()
        .filter_map(|output| match output {
            Output::Notify(ballot) => ballot.notification.vote.map(|vote| vote.zxid),
            _ => None,
        })
        .collect();
    assert_eq!(votes, [zxid(2, 2), zxid(2, 2)], "the vote counts what is under way");
    learner.greet();
    learner.leader_info(3);
    let records: Vec<u64> = learner.orders[..2].to_vec();
    assert_eq!(said(&learner.synced(records[0])), [] as [&Message; 0]);
    assert_eq!(said(&learner.synced(records[1])), [] as [&Message; 0], "the promise comes behind it");
    let out = learner.all_synced();
    assert_eq!(said(&out), [&Message::AckEpoch { last: zxid(2, 2), current: Some(2) }]);
}

/// ZOOKEEPER-4925: what a server got while it was brought level did not enter its committed log, and it handed the hole on
/// when it led. Here every record enters the history; and a gap is refused from whomever it comes.
#[test]
fn what_a_server_was_brought_level_with_it_can_hand_on() {
    let mut net = Net::new(3);
    let all: Vec<(u32, u32)> = (1..=5).map(|counter| (1, counter)).collect();
    net.give(1, &all[..1], 1, 1);
    net.give(2, &all[..2], 1, 1);
    net.give(3, &all, 1, 1);
    net.start(&[2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(50);
    net.write(3);
    net.kill(3);
    net.sent.clear();
    net.start(&[1]);
    assert_eq!(net.elect(), 2);
    net.wait(100);
    let said = net.said(2, 1);
    let proposed: Vec<Zxid> = said.iter().filter_map(proposal).collect();
    let wanted: Vec<Zxid> = (2..=5).map(|counter| zxid(1, counter)).chain([zxid(2, 1)]).collect();
    assert_eq!(proposed, wanted, "{said:?}");
    assert_eq!(net.log(1), net.log(2));
}

/// ZOOKEEPER-4925, the other half.
#[test]
fn a_gap_is_refused_in_every_phase() {
    for phase in 0..3 {
        let mut learner = confirmed(&[(1, 1)], (1, 1), 2);
        learner.hear(Message::Diff(zxid(1, 1)));
        if phase > 0 {
            learner.hear(Message::NewLeader { epoch: 2, config: bytes::Bytes::new() });
        }
        if phase > 1 {
            learner.all_synced();
            learner.hear(Message::UpToDate);
        }
        let before = learner.replica.last_logged();
        let out = learner.propose(2, 2);
        assert!(hangs_up(&out), "phase {phase}: {out:?}");
        assert!(!out.iter().any(|output| matches!(output, Output::Append { .. })), "phase {phase}");
        assert_eq!(learner.replica.last_logged(), before);
    }
}

/// An ack for each record is owed to Apache's leader also when the records have gone from memory, since others had
/// committed them before this disk was done.
#[test]
fn a_slow_disk_acknowledges_what_memory_has_forgotten() {
    let mut net = Net::new(3);
    net.sizes = FROM_THE_LOG;
    net.apache.insert(PeerId(3));
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(100);
    net.hold_disk(1, true);
    net.write(3);
    net.write(3);
    net.sent.clear();
    net.hold_disk(1, false);
    let acks: Vec<Message> = net.said(1, 3);
    assert_eq!(acks, [Message::Ack(zxid(1, 1)), Message::Ack(zxid(1, 2))]);
}
