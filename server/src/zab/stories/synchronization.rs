//! Bringing learners level.

use super::net::{Net, zxid};
use crate::zab::{Message, Role};

/// ZOOKEEPER-1154: a follower that has what was never committed must lose it.
#[test]
fn zk_1154_what_was_never_committed_is_cut_away() {
    let mut net = Net::new(3);
    net.give(1, &[(1, 1)], 2, 2);
    net.give(2, &[(1, 1)], 2, 2);
    net.give(3, &[(1, 1), (1, 2)], 1, 1);
    net.start(&[1, 2]);
    let leader = net.elect();
    net.wait(50);
    net.write(leader);
    net.sent.clear();
    net.start(&[3]);
    net.wait(200);
    let said = net.said(leader, 3);
    assert!(said.contains(&Message::Trunc(zxid(1, 1))), "{said:?}");
    assert_eq!(net.log(3), [(1, 1), (3, 1)]);
    assert!(net.serves(3));
}

/// ZOOKEEPER-3911, 4646: the leader's history is acknowledged when it is durable, not before.
/// ZOOKEEPER-4643, 4785: and `currentEpoch` is written behind it.
/// ZOOKEEPER-4685: and no record is acknowledged before it as a whole.
#[test]
fn zk_3911_a_history_is_acknowledged_when_it_is_durable() {
    let mut net = Net::new(3);
    net.give(2, &[(1, 1), (1, 2)], 1, 1);
    net.give(3, &[(1, 1), (1, 2)], 1, 1);
    net.start(&[2, 3]);
    let leader = net.elect();
    net.wait(50);
    net.write(leader);
    net.sent.clear();
    net.start(&[1]);
    net.wait(100);
    let said = net.said(1, leader);
    let acks: Vec<&Message> = said.iter().filter(|message| matches!(message, Message::Ack(_))).collect();
    assert_eq!(acks.first(), Some(&&Message::Ack(zxid(2, 0))), "{said:?}");
    assert_eq!(net.server(1).epochs.current, 2);
    assert_eq!(net.log(1), [(1, 1), (1, 2), (2, 1)]);
}

#[test]
fn a_held_disk_holds_the_ack_of_the_history() {
    let mut net = Net::new(3);
    net.start(&[2, 3]);
    let leader = net.elect();
    net.wait(50);
    net.write(leader);
    net.write(leader);
    net.sent.clear();
    net.hold_disk(1, true);
    net.start(&[1]);
    net.wait(100);
    let said = net.said(1, leader);
    assert!(
        !said.iter().any(|message| matches!(message, Message::Ack(_) | Message::AckEpoch { .. })),
        "{said:?}"
    );
    assert!(!net.serves(1));
    net.hold_disk(1, false);
    net.wait(50);
    assert!(net.serves(1));
    assert_eq!(net.committed(1), zxid(1, 2));
}

/// ZOOKEEPER-4394: what is not committed yet follows `NewLeader`.
#[test]
fn zk_4394_what_is_outstanding_comes_behind_the_history() {
    let mut net = Net::new(3);
    net.start(&[2, 3]);
    let leader = net.elect();
    net.wait(50);
    let done = net.write(leader);
    let other = 5 - leader;
    net.hold_disk(other, true);
    let outstanding = net.write(leader);
    net.sent.clear();
    net.hold_disk(1, false);
    net.start(&[1]);
    let said = net.said(leader, 1);
    let at = |wanted: &dyn Fn(&Message) -> bool| said.iter().position(wanted);
    let history = at(&|message| matches!(message, Message::Proposal { zxid, .. } if *zxid == done));
    let new_leader = at(&|message| matches!(message, Message::NewLeader { .. }));
    let late = at(&|message| matches!(message, Message::Proposal { zxid, .. } if *zxid == outstanding));
    let up = at(&|message| matches!(message, Message::UpToDate));
    assert!(history < new_leader && new_leader < late && late < up, "{said:?}");
    assert_eq!(net.committed(1), outstanding, "its disk made the quorum");
}

/// ZOOKEEPER-2355: what the leader says it will send is not what we have.
#[test]
fn zk_2355_a_diff_that_breaks_off_leaves_what_has_come() {
    let mut net = Net::new(3);
    net.start(&[2, 3]);
    let leader = net.elect();
    net.wait(50);
    for _ in 0..3 {
        net.write(leader);
    }
    net.hold_disk(1, true);
    net.start(&[1]);
    net.wait(10);
    net.kill(1);
    net.hold_disk(1, false);
    assert!(net.log(1).len() < 3);
    net.start(&[1]);
    net.wait(100);
    assert_eq!(net.log(1), [(1, 1), (1, 2), (1, 3)]);
}

/// ZOOKEEPER-2418: a hole between what memory holds and what the log holds is not stepped over.
#[test]
fn zk_2418_a_log_that_does_not_reach_back_gives_the_whole_state() {
    let mut net = Net::new(3);
    for me in [2, 3] {
        net.server(me).floor = zxid(1, 9);
        net.server(me).epochs = crate::zab::Epochs { accepted: 1, current: 1 };
    }
    net.give(1, &[(1, 1), (1, 2)], 1, 1);
    net.start(&[2, 3]);
    let leader = net.elect();
    net.wait(50);
    net.write(leader);
    net.sent.clear();
    net.start(&[1]);
    net.wait(100);
    let said = net.said(leader, 1);
    assert!(said.contains(&Message::Snap(zxid(2, 1))), "{said:?}");
    assert!(net.serves(1));
    assert_eq!(net.committed(1), zxid(2, 1));
    assert_eq!(net.write(leader), zxid(2, 2));
    assert_eq!(net.log(1), [(2, 2)]);
}

/// Apache's server keeps its log when it is sent the whole state, and reads on behind the snapshot when it starts again. A
/// record that was never committed came back to life there, because the snapshot had the lower number.
#[test]
fn a_snapshot_for_apache_is_above_everything_that_it_may_have() {
    for apache in [true, false] {
        let mut net = Net::new(3);
        net.give(1, &[(1, 1), (1, 2), (1, 3)], 1, 1);
        net.give(2, &[(1, 1), (1, 2)], 1, 1);
        net.give(3, &[(1, 1), (1, 2)], 1, 1);
        if apache {
            net.apache.insert(crate::zab::PeerId(1));
        }
        net.start(&[2, 3]);
        let leader = net.elect();
        net.wait(50);
        net.sent.clear();
        net.start(&[1]);
        net.wait(100);
        let said = net.said(leader, 1);
        assert_eq!(said.contains(&Message::Snap(zxid(2, 0))), apache, "{said:?}");
        assert_eq!(said.contains(&Message::Trunc(zxid(1, 2))), !apache, "{said:?}");
    }
}

/// A follower that has a record which is not committed yet keeps it and says again that it has it; until it is
/// committed nobody sees it there.
#[test]
fn what_is_logged_and_not_committed_is_not_served_after_a_restart() {
    let mut net = Net::new(5);
    net.start(&[1, 2, 3, 4, 5]);
    let leader = net.elect();
    assert_eq!(leader, 5);
    net.wait(100);
    for me in [2, 3, 4] {
        net.hold_disk(me, true);
    }
    let written = net.write(5);
    assert_eq!(net.log(1), [(1, 1)]);
    net.kill(1);
    net.start(&[1]);
    net.wait(50);
    assert!(!net.serves(1), "two disks of five are no quorum");
    assert!(matches!(net.role(1), Role::Learning(_)));
    net.hold_disk(2, false);
    net.wait(20);
    assert_eq!(net.committed(5), written);
    assert!(net.serves(1));
}

#[test]
fn a_new_leader_commits_what_the_old_one_left_with_a_quorum() {
    let mut net = Net::new(3);
    net.start(&[1, 2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(100);
    // All three log it, nobody hears of the commit.
    net.hold_disk(1, true);
    net.hold_disk(2, true);
    let written = net.write(3);
    net.kill(3);
    net.hold_disk(1, false);
    net.hold_disk(2, false);
    net.wait(500);
    assert_eq!(net.leader(), Some(2));
    assert_eq!((net.committed(1), net.committed(2)), (written, written));
    net.start(&[3]);
    net.wait(500);
    assert_eq!(net.committed(3), written);
}
