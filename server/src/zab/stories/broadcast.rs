//! Electing, proposing, committing.

use super::net::{Net, zxid};
use crate::zab::{Message, PeerId, Role};

#[test]
fn three_servers_elect_the_highest_number_and_commit_with_two_disks() {
    let mut net = Net::new(3);
    net.start(&[1, 2, 3]);
    let leader = net.elect();
    assert_eq!(leader, 3);
    net.wait(100);
    assert!(net.serves(1) && net.serves(2));
    net.hold_disk(1, true);
    let first = net.write(3);
    assert_eq!(first, zxid(1, 1));
    assert_eq!((net.committed(3), net.committed(2)), (first, first));
    net.hold_disk(2, true);
    let second = net.write(3);
    assert_eq!(net.committed(3), first, "one disk of three is no quorum");
    net.hold_disk(1, false);
    assert_eq!((net.committed(3), net.committed(1)), (second, second));
}

#[test]
fn the_longest_history_wins_and_all_of_it_is_committed() {
    let mut net = Net::new(3);
    net.give(1, &[(1, 1), (1, 2), (1, 3)], 1, 1);
    net.give(2, &[(1, 1), (1, 2)], 1, 1);
    net.give(3, &[(1, 1)], 1, 1);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 1);
    net.wait(100);
    for me in 1..=3 {
        assert_eq!(net.log(me), [(1, 1), (1, 2), (1, 3)]);
        assert_eq!(net.committed(me), zxid(1, 3));
    }
    assert_eq!(net.write(1), zxid(2, 1));
    assert_eq!(net.committed(3), zxid(2, 1));
}

#[test]
fn a_longer_history_of_an_older_epoch_loses() {
    let mut net = Net::new(3);
    net.give(1, &[(1, 1), (2, 1)], 2, 2);
    net.give(2, &[(1, 1), (2, 1)], 2, 2);
    net.give(3, &[(1, 1), (1, 2), (1, 3), (1, 4)], 1, 1);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 2);
    net.wait(200);
    assert_eq!(net.log(3), [(1, 1), (2, 1)], "what only it had was never committed");
    assert!(net.serves(3));
}

#[test]
fn an_old_leader_that_is_cut_off_commits_nothing_any_more() {
    let mut net = Net::new(3);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(100);
    let before = net.write(3);
    // Its proposals still arrive nowhere; it has not noticed yet.
    net.cut(3, 1);
    net.cut(3, 2);
    if matches!(net.role(3), Role::Leading(_)) && net.server(3).replica.next_zxid().is_some() {
        net.write(3);
        assert_eq!(net.committed(3), before);
    }
    net.wait(15_000);
    assert_eq!(net.leader(), Some(2));
    let after = net.write(2);
    assert_eq!(after, zxid(2, 1));
    assert_eq!(net.committed(1), after);
    assert_eq!(net.committed(3), before);
}

/// ZOOKEEPER-1277: the counter must not run over into the epoch.
#[test]
fn zk_1277_the_end_of_the_counter_begins_the_next_epoch() {
    let mut net = Net::new(1);
    net.start(&[1]);
    assert_eq!(net.elect(), 1);
    net.server(1).replica.use_up(u32::MAX - 2);
    let last = net.propose(1);
    assert_eq!(last, zxid(1, u32::MAX - 1), "Apache never proposes the last counter either");
    assert_eq!(net.server(1).replica.next_zxid(), None);
    net.act(PeerId(1), |replica, now, out| replica.resign(now, out));
    net.run();
    assert_eq!(net.elect(), 1);
    assert_eq!(net.committed(1), last, "what was under way is not lost");
    assert_eq!(net.write(1), zxid(2, 1));
    assert_eq!(net.committed(1), zxid(2, 1));
}

/// ZOOKEEPER-2845: the vote is the end of the log, also of what nobody knows to be committed.
#[test]
fn zk_2845_what_is_logged_and_not_committed_counts_in_the_next_election() {
    let mut net = Net::new(3);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(100);
    net.hold_disk(3, true);
    net.hold_disk(2, true);
    let written = net.write(3);
    assert_eq!(net.log(1), [(1, 1)]);
    net.hold_disk(2, false);
    net.kill(3);
    net.kill(2);
    net.hold_disk(3, false);
    // Server 2 comes back without what its disk had not done, server 1 still has it.
    net.server(2).log.clear();
    net.start(&[2]);
    assert_eq!(net.elect(), 1);
    net.wait(100);
    assert_eq!((net.committed(1), net.committed(2)), (written, written));
}

/// ZOOKEEPER-2307: an epoch is on disk before anybody hears of it.
#[test]
fn zk_2307_no_epoch_is_named_or_promised_before_it_is_durable() {
    let mut net = Net::new(3);
    net.hold_disk(3, true);
    net.start(&[1, 3]);
    net.wait(100);
    assert!(matches!(net.role(3), Role::Leading(_)));
    assert_eq!(net.said(3, 1), [], "no LeaderInfo");
    net.hold_disk(1, true);
    net.hold_disk(3, false);
    assert!(matches!(net.said(3, 1)[..], [Message::LeaderInfo { epoch: 1, .. }]));
    assert_eq!(net.said(1, 3), []);
    net.hold_disk(1, false);
    net.wait(100);
    assert!(net.serves(1));
}

/// An epoch that was promised to one leader is not promised to a second one.
#[test]
fn a_promise_is_given_once() {
    let mut net = Net::new(3);
    // Server 1 has promised epoch 1 to somebody who is gone.
    net.give(1, &[], 1, 0);
    net.hold_disk(3, true);
    net.start(&[1, 3]);
    net.wait(100);
    net.hold_disk(3, false);
    let said = net.said(3, 1);
    assert!(
        matches!(said.first(), Some(Message::LeaderInfo { epoch: 2, .. })),
        "the epoch is above every promise: {said:?}"
    );
}
