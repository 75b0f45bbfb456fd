//! Promises that are kept against leaders which do not know of them.

use super::by_hand::{Learner, hangs_up, said};
use super::net::Net;
use crate::zab::Message;

/// A voter has promised more than the epoch that two others lead with meanwhile. It is not left out for ever, and it does
/// not break its word: the leader gives way, and the next epoch is above the promise.
#[test]
fn a_leader_gives_way_to_a_voter_that_has_promised_more() {
    let mut net = Net::new(3);
    net.give(1, &[], 5, 0);
    net.start(&[2, 3]);
    assert_eq!(net.elect(), 3);
    net.wait(50);
    let before = net.write(3);
    assert_eq!(before.epoch(), 1);
    net.start(&[1]);
    net.wait(2_000);
    let leader = net.elect();
    assert!(net.serves(1), "the voter takes part again");
    assert_eq!(net.server(1).epochs.accepted, 6, "the epoch is above what was promised");
    let after = net.write(leader);
    assert_eq!((after.epoch(), net.committed(1)), (6, after));
    assert_eq!(net.log(1)[0], (1, 1), "nothing is lost over it");
}

/// A leader that never heard of the promise, because it does not ask, or because it was elected by others: it is refused,
/// and neither the disk nor the leader is given anything.
#[test]
fn a_leader_of_a_lower_epoch_than_promised_is_refused() {
    let mut learner = Learner::greeting(&[(1, 1)], (5, 1));
    let out = learner.leader_info(4);
    assert!(hangs_up(&out), "{out:?}");
    assert_eq!((said(&out), &learner.orders), (vec![], &vec![]));
    assert_eq!(learner.replica.epochs().accepted, 5);
}

/// What was promised is promised to one leader: asked for the same epoch again, a voter follows, but gives no promise that
/// another leader could count, too.
#[test]
fn the_same_epoch_is_not_promised_twice() {
    let mut learner = Learner::greeting(&[(1, 1)], (5, 1));
    learner.leader_info(5);
    let out = learner.all_synced();
    assert!(matches!(said(&out)[..], [Message::AckEpoch { current: None, .. }]), "{out:?}");
    let mut learner = Learner::greeting(&[(1, 1)], (5, 1));
    learner.leader_info(6);
    let out = learner.all_synced();
    assert!(matches!(said(&out)[..], [Message::AckEpoch { current: Some(1), .. }]), "{out:?}");
}
