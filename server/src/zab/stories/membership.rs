//! Changing the ensemble while it runs.

use super::net::{Net, zxid};
use crate::zab::{Message, PeerId, Role};

/// Three voters that have elected the third, of as many servers as are given.
fn three_of(count: u64) -> Net {
    let mut net = Net::changeable(count, &[1, 2, 3], &[]);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(100);
    net
}

#[test]
fn the_first_leader_gives_the_members_the_version_of_its_epoch() {
    let mut net = three_of(3);
    for me in 1..=3 {
        assert_eq!(net.version(me), zxid(1, 0), "{me}");
        assert_eq!(net.server(me).saved.0.version, zxid(1, 0).0);
        assert!(net.server(me).saved.1.is_none());
    }
    net.kill(3);
    assert_eq!(net.elect(), 2);
    net.wait(100);
    assert_eq!(net.version(1), zxid(1, 0), "once is enough");
}

#[test]
fn a_follower_leaves_and_comes_back() {
    let mut net = three_of(3);
    let out = net.change(3, &[1, 3], &[]);
    assert_eq!((net.version(1), net.version(3)), (out, out));
    assert_eq!(net.version(2), out, "it follows on without a vote");
    net.hold_disk(1, true);
    let write = net.write(3);
    assert_eq!(net.committed(3), out, "the one that left is not counted");
    net.hold_disk(1, false);
    assert_eq!((net.committed(3), net.committed(2)), (write, write));
    let back = net.change(3, &[1, 2, 3], &[]);
    net.hold_disk(1, true);
    let write = net.write(3);
    assert_eq!((net.version(2), net.committed(3)), (back, write));
}

#[test]
fn a_server_that_no_configuration_names_follows_is_asked_in_and_counts() {
    let mut net = three_of(4);
    net.start(&[4]);
    net.wait(1_000);
    assert!(net.serves(4), "it is level");
    let now_ms = net.now_ms;
    assert_eq!(net.server(3).replica.level(now_ms).len(), 4);
    let change = net.change(3, &[1, 2, 3, 4], &[]);
    assert_eq!((net.version(4), net.committed(4)), (change, change));
    net.kill(1);
    net.hold_disk(2, true);
    net.write(3);
    assert_eq!(net.committed(3), change, "two of four are no quorum");
    net.hold_disk(2, false);
    assert_eq!(net.committed(3), zxid(1, 2));
}

/// Until it is committed a configuration needs both quorums, and so does everything behind it.
#[test]
fn what_is_proposed_behind_a_configuration_needs_the_old_quorum_and_the_new_one() {
    let mut net = Net::changeable(5, &[1, 2, 3], &[]);
    net.start(&[1, 2, 3, 4, 5]);
    assert_eq!(net.elect(), 3);
    net.wait(1_000);
    let before = net.write(3);
    // The old quorum is 1, 2 and 3; the new one is 3, 4 and 5.
    net.hold_disk(4, true);
    net.hold_disk(5, true);
    let change = net.change(3, &[3, 4, 5], &[]);
    let behind = net.write(3);
    assert_eq!(net.committed(3), before, "the old quorum has it, the new one has not");
    net.hold_disk(1, true);
    net.hold_disk(2, true);
    net.hold_disk(4, false);
    assert_eq!(net.committed(3), behind, "the old ones had it before");
    let last = net.write(3);
    assert_eq!(net.committed(3), last, "the new quorum alone decides");
    assert_eq!((net.version(3), net.version(4)), (change, change));
    net.hold_disk(1, false);
    net.hold_disk(2, false);
    net.hold_disk(5, false);
    assert_eq!(net.version(1), change);
}

#[test]
fn the_old_quorum_is_needed_as_well() {
    let mut net = Net::changeable(5, &[1, 2, 3], &[]);
    net.start(&[1, 2, 3, 4, 5]);
    assert_eq!(net.elect(), 3);
    net.wait(1_000);
    let before = net.write(3);
    net.hold_disk(1, true);
    net.hold_disk(2, true);
    net.change(3, &[3, 4, 5], &[]);
    assert_eq!(net.committed(3), before, "the new quorum has it, the old one has not");
    net.hold_disk(1, false);
    assert_eq!(net.committed(3), zxid(1, 2));
}

/// A server that is being asked in has the longest log: without the vote of the one that slept through the change nobody
/// is elected, and that one has never heard of the newcomer.
#[test]
fn who_slept_through_a_change_votes_for_whom_it_adds() {
    let mut net = Net::changeable(3, &[1, 2], &[]);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 2);
    net.wait(1_000);
    net.kill(1);
    // It leads on for a while.
    let change = net.change(2, &[1, 2, 3], &[]);
    net.hold_disk(2, true);
    let last = net.write(2);
    assert_eq!((change, last, net.log(3)), (zxid(1, 1), zxid(1, 2), vec![(1, 1), (1, 2)]));
    net.kill(2);
    net.hold_disk(2, false);
    assert_eq!(net.log(2), [(1, 1)], "the newcomer alone has the last write");
    net.start(&[1, 2]);
    assert_eq!(net.elect(), 3);
    net.wait(1_000);
    assert_eq!((net.committed(1), net.version(1)), (last, change));
    assert!(net.serves(1) && net.serves(2));
}

/// The leader dies with a configuration that only the new quorum has. The old quorum must not begin an epoch without it
/// in which the new one begins another.
#[test]
fn two_quorums_never_elect_two_leaders_of_one_epoch() {
    let mut net = Net::changeable(5, &[1, 2, 3], &[]);
    net.start(&[1, 2, 3, 4, 5]);
    assert_eq!(net.elect(), 3);
    net.wait(1_000);
    net.hold_disk(1, true);
    net.hold_disk(2, true);
    let change = net.change(3, &[3, 4, 5], &[]);
    net.kill(3);
    net.kill(1);
    net.kill(2);
    net.wait(3_000);
    assert_eq!(net.leader(), None, "the new quorum alone does not decide");
    net.hold_disk(1, false);
    net.hold_disk(2, false);
    net.cut(1, 4);
    net.cut(1, 5);
    net.cut(2, 4);
    net.cut(2, 5);
    net.start(&[1, 2]);
    assert_eq!(net.elect(), 2, "the old quorum has never heard of it");
    net.wait(1_000);
    assert_eq!((net.version(2), net.log(1)), (zxid(1, 0), Vec::new()));
    assert!(!matches!(net.role(4), Role::Leading(_)) && net.server(4).saved.1.is_some());
    assert_eq!(change, zxid(1, 1));
}

#[test]
fn a_leader_that_leaves_hands_over_to_the_designated_one() {
    let mut net = three_of(3);
    net.write(3);
    net.sent.clear();
    let change = net.change(3, &[1, 2], &[]);
    let said = net.said(3, 2);
    let designated = said.iter().find_map(|message| match message {
        Message::CommitAndActivate { zxid, leader } if *zxid == change => Some(*leader),
        _ => None,
    });
    assert_eq!(designated, Some(PeerId(2)));
    assert_eq!(net.leader(), Some(2), "without an election");
    assert_eq!(net.server(2).epochs.current, 2);
    net.wait(300);
    assert!(net.serves(1) && net.serves(3), "the one that left follows, uncounted");
    net.hold_disk(1, true);
    let write = net.write(2);
    assert_eq!(net.committed(2), change);
    net.hold_disk(1, false);
    assert_eq!(net.committed(3), write);
}

#[test]
fn voters_become_observers_and_observers_voters() {
    let mut net = Net::changeable(4, &[1, 2, 3], &[4]);
    net.start(&[1, 2, 3, 4]);
    assert_eq!(net.elect(), 3);
    net.wait(2_500);
    let write = net.write(3);
    assert_eq!(net.committed(4), write);
    let change = net.change(3, &[2, 3, 4], &[1]);
    net.wait(1_000);
    assert_eq!((net.version(1), net.version(4), net.leader()), (change, change, Some(3)));
    net.hold_disk(2, true);
    let write = net.write(3);
    assert_eq!((net.committed(3), net.committed(4), net.committed(1)), (write, write, write));
    net.hold_disk(4, true);
    net.write(3);
    assert_eq!(net.committed(3), write, "an observer is not counted");
}

#[test]
fn a_leader_becomes_an_observer() {
    let mut net = three_of(3);
    let change = net.change(3, &[1, 2], &[3]);
    assert_eq!(net.leader(), Some(2));
    net.wait(500);
    assert!(net.serves(1) && net.serves(3));
    let write = net.write(2);
    assert_eq!((net.committed(3), net.version(3)), (write, change));
}

/// What is under way when the leader dies is completed by the next one, which needs both quorums for it.
#[test]
fn the_next_leader_completes_what_was_under_way() {
    let mut net = three_of(4);
    net.start(&[4]);
    net.wait(1_000);
    net.hold_disk(3, true);
    net.hold_disk(2, true);
    let change = net.change(3, &[1, 2, 4], &[]);
    assert_eq!(net.committed(3), zxid(0, 0));
    net.kill(3);
    net.hold_disk(2, false);
    net.elect();
    net.wait(1_000);
    for me in [1, 2, 4] {
        assert_eq!((net.version(me), net.committed(me) >= change), (change, true), "{me}");
        assert!(net.server(me).saved.1.is_none());
    }
}

#[test]
fn a_configuration_that_is_cut_out_of_the_log_is_forgotten() {
    let mut net = three_of(3);
    let before = net.write(3);
    net.cut(3, 1);
    net.cut(3, 2);
    if net.server(3).replica.next_zxid().is_some() {
        net.change(3, &[1, 3], &[]);
        assert!(net.server(3).saved.1.is_some());
    }
    net.wait(3_000);
    assert_eq!(net.leader(), Some(2));
    net.write(2);
    net.kill(3);
    net.join(3, 1);
    net.join(3, 2);
    net.start(&[3]);
    net.wait(3_000);
    assert!(net.serves(3) && net.committed(3) > before);
    assert!(net.server(3).saved.1.is_none() && net.version(3) == zxid(1, 0));
}

#[test]
fn who_slept_through_a_change_takes_it_over_from_those_who_have_a_leader() {
    let mut net = Net::changeable(5, &[1, 2, 3], &[]);
    net.start(&[1, 2, 3, 4, 5]);
    assert_eq!(net.elect(), 3);
    net.wait(1_000);
    net.kill(1);
    let change = net.change(3, &[1, 3, 4, 5, 2], &[]);
    let change_again = net.change(3, &[1, 3, 4, 5], &[]);
    assert_ne!(change, change_again);
    net.start(&[1]);
    net.wait(1_000);
    assert!(net.serves(1));
    assert_eq!(net.version(1), change_again);
}

#[test]
fn a_learner_that_comes_while_a_change_is_under_way_does_not_take_it_for_committed() {
    let mut net = three_of(3);
    net.kill(1);
    net.hold_disk(2, true);
    let change = net.change(3, &[2, 3], &[]);
    net.start(&[1]);
    net.wait(1_000);
    assert!(net.serves(1));
    // Its disk has it, and so has the old quorum; the new one has not.
    assert_eq!((net.version(3), net.version(1)), (zxid(1, 0), zxid(1, 0)));
    assert_eq!(net.server(1).saved.1.as_ref().map(|seen| seen.zxid()), Some(change));
    net.hold_disk(2, false);
    assert_eq!((net.version(3), net.version(1)), (change, change));
}

#[test]
fn apaches_followers_are_told_in_their_own_words() {
    let mut net = three_of(4);
    net.apache.insert(PeerId(1));
    net.kill(1);
    net.start(&[1, 4]);
    net.wait(4_000);
    net.sent.clear();
    net.write(3);
    let change = net.change(3, &[1, 2, 3, 4], &[]);
    let said = net.said(3, 1);
    let commits: Vec<&Message> =
        said.iter().filter(|message| !matches!(message, Message::Proposal { .. })).collect();
    assert_eq!(
        commits,
        [&Message::Commit(zxid(1, 1)), &Message::CommitAndActivate { zxid: change, leader: PeerId(3) }]
    );
}

/// A follower of Apache's that is told of a configuration between `NewLeader` and `UpToDate` takes it for in force only if it
/// is the first proposal that it was sent, and otherwise holds on to the one before, its file included.
#[test]
fn apaches_followers_hear_of_commits_when_they_are_level() {
    let mut net = three_of(3);
    net.apache.insert(PeerId(1));
    net.kill(1);
    net.hold_disk(1, true);
    net.sent.clear();
    net.start(&[1]);
    // Its promise; its ack waits.
    net.one_order(1);
    let write = net.write(3);
    let change = net.change(3, &[1, 2, 3], &[]);
    let last = net.write(3);
    assert_eq!((net.committed(3), net.version(3)), (last, change));
    let before = net.said(3, 1);
    assert!(matches!(before[..], [.., Message::NewLeader { .. }, _, _, _]), "{before:?}");
    net.hold_disk(1, false);
    net.wait(100);
    let activated = Message::CommitAndActivate { zxid: change, leader: PeerId(3) };
    let behind = [Message::UpToDate, Message::Commit(write), activated, Message::Commit(last)];
    assert_eq!(net.said(3, 1), behind);
    assert_eq!((net.version(1), net.committed(1)), (change, last));
}
