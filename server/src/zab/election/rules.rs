//! One test per rule.

use Standing::{Following, Leading, Looking, Observing};

use super::super::{PeerId, Quorum, Standing, Vote};
use super::Election;
use super::fixtures::{Table, ensemble, leader, majority, says, told, vote, weighted};
use crate::limits::{
    ELECTION_ANSWER_MS, ELECTION_RESEND_MAX_MS, ELECTION_RESEND_MS, ELECTION_WINDOW_MS,
    OBSERVER_ELECTION_DELAY_MS, OBSERVER_RESEND_MAX_MS,
};

/// Server 1 of three that has begun round 1 with this candidature.
fn first_of_three(epoch: i64, zxid: i64) -> Table {
    let mut table = Table::new(1, majority(3));
    assert_eq!(table.look(vote(epoch, zxid, 1)).0, None);
    table
}

#[test]
fn a_server_that_does_not_look_yet_says_nothing() {
    let mut table = Table::new(1, majority(3));
    assert_eq!(table.hear(2, &says(Looking, vote(1, 5, 2), 1)), (None, vec![]));
    assert_eq!(table.hear(4, &says(Looking, None, 1)), (None, vec![]));
    assert_eq!((table.election.next_deadline(), table.after(1)), (None, (None, vec![])));
}

#[test]
fn a_voter_that_is_a_quorum_leads_at_once() {
    let mut table = Table::new(1, ensemble(Quorum::majority([PeerId(1)]), &[2]));
    let (elected, out) = table.look(vote(3, 7, 1));
    assert_eq!((elected.unwrap().vote, elected.unwrap().round), (vote(3, 7, 1), 1));
    assert_eq!(out, []);
    assert_eq!(table.election.standing(), Leading);
    assert_eq!(table.election.next_deadline(), None);
}

#[test]
fn a_round_begins_with_the_own_vote_to_every_other_voter() {
    let mut table = Table::new(1, majority(3));
    let (_, out) = table.look(vote(1, 5, 1));
    assert_eq!(told(&out), [(2, Some(1), 1), (3, Some(1), 1)]);
    assert_eq!(out[0].notification.config, "version=0");
    assert_eq!((out[0].notification.format, out[0].notification.standing), (2, Looking));
    assert_eq!(told(&table.look(vote(1, 5, 1)).1)[0].2, 2, "each look is a new round");
}

#[test]
fn the_epoch_is_compared_first_then_the_zxid_then_the_number() {
    let table = || first_of_three(1, 50);
    assert_eq!(told(&table().hear(3, &says(Looking, vote(2, 10, 3), 1)).1)[0], (2, Some(3), 1));
    assert_eq!(told(&table().hear(3, &says(Looking, vote(0, 90, 3), 1)).1), [(3, Some(1), 1)]);
    assert_eq!(told(&table().hear(2, &says(Looking, vote(1, 51, 2), 1)).1)[0], (2, Some(2), 1));
    assert_eq!(told(&table().hear(3, &says(Looking, vote(1, 49, 3), 1)).1), [(3, Some(1), 1)]);
    assert_eq!(told(&table().hear(2, &says(Looking, vote(1, 50, 2), 1)).1)[0], (2, Some(2), 1));
}

#[test]
fn epochs_and_zxids_are_compared_with_their_signs() {
    let mut table = first_of_three(-1, 50);
    assert_eq!(told(&table.hear(2, &says(Looking, vote(-2, 60, 2), 1)).1), [(2, Some(1), 1)]);
    let mut table = first_of_three(1, 0);
    assert_eq!(told(&table.hear(2, &says(Looking, vote(1, i64::MIN + 1, 2), 1)).1), [(2, Some(1), 1)]);
}

#[test]
fn a_losing_vote_of_the_same_round_is_answered_to_its_sender_only() {
    let mut table = first_of_three(2, 0);
    assert_eq!(told(&table.hear(3, &says(Looking, vote(1, 0, 3), 1)).1), [(3, Some(1), 1)]);
    table.hear(2, &says(Looking, vote(2, 0, 1), 1));
    assert_eq!(told(&table.hear(2, &says(Looking, vote(2, 0, 1), 1)).1), [], "an equal one is not");
}

#[test]
fn the_first_vote_of_a_peer_in_a_round_is_answered_even_if_it_is_ours() {
    let mut table = first_of_three(2, 0);
    table.hear(3, &says(Following, vote(1, 0, 2), 1));
    assert_eq!(told(&table.hear(3, &says(Looking, vote(2, 0, 1), 1)).1), [(3, Some(1), 1)]);
    assert_eq!(told(&table.hear(3, &says(Looking, vote(2, 0, 1), 1)).1), []);
}

#[test]
fn the_same_question_is_answered_once_in_a_while() {
    let mut table = first_of_three(2, 0);
    let question = says(Looking, vote(1, 0, 3), 1);
    assert_eq!(table.hear(3, &question).1.len(), 1);
    assert_eq!(table.hear(3, &question).1.len(), 0);
    assert_eq!(table.hear(3, &says(Looking, vote(1, 0, 2), 1)).1.len(), 1, "another question");
    table.after(ELECTION_ANSWER_MS);
    assert_eq!(table.hear(3, &question).1.len(), 1);
}

#[test]
fn a_vote_of_an_earlier_round_is_answered_and_does_not_count() {
    let mut table = first_of_three(2, 0);
    table.look(vote(2, 0, 1));
    let (elected, out) = table.hear(3, &says(Looking, vote(2, 0, 1), 1));
    assert_eq!((leader(elected), told(&out)), (None, vec![(3, Some(1), 2)]));
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None);
    assert_eq!(leader(table.hear(2, &says(Looking, vote(2, 0, 1), 2)).0), None, "server 3 can be reached");
    assert_eq!(leader(table.after(ELECTION_WINDOW_MS).0), Some(1));
}

#[test]
fn votes_that_counted_do_not_count_in_the_next_round() {
    let mut table = Table::new(1, majority(5));
    table.look(vote(2, 0, 1));
    assert_eq!(table.hear(2, &says(Looking, vote(2, 0, 1), 1)).0, None);
    assert_eq!(table.hear(3, &says(Looking, vote(2, 0, 1), 2)).0, None);
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None, "servers 1 and 3 are no quorum of five");
}

#[test]
fn a_later_round_is_joined_with_the_better_of_its_vote_and_our_own_candidature() {
    let mut table = first_of_three(1, 50);
    table.hear(2, &says(Looking, vote(1, 60, 2), 1));
    assert_eq!(table.election.vote(), Some(vote(1, 60, 2)));
    let (_, out) = table.hear(3, &says(Looking, vote(1, 40, 3), 7));
    assert_eq!(told(&out), [(2, Some(1), 7), (3, Some(1), 7)], "what we took over in round 1 is forgotten");
    assert_eq!(table.election.round(), 7);
}

#[test]
fn a_round_is_decided_at_once_when_everybody_agrees() {
    let mut table = first_of_three(2, 0);
    assert_eq!(table.hear(2, &says(Looking, vote(2, 0, 1), 1)).0, None);
    let (elected, _) = table.hear(3, &says(Looking, vote(2, 0, 1), 1));
    assert_eq!((leader(elected), table.election.standing()), (Some(1), Leading));
}

#[test]
fn who_is_suspected_or_cannot_be_reached_is_not_waited_for() {
    let mut table = Table::new(1, majority(3));
    table.election.suspect(PeerId(3));
    table.look(vote(1, 0, 1));
    assert_eq!(leader(table.hear(2, &says(Looking, vote(1, 0, 2), 1)).0), Some(2));
    table.look(vote(1, 0, 1));
    assert_eq!(table.hear(2, &says(Looking, vote(1, 0, 2), 2)).0, None, "a suspicion ends with its election");
    assert_eq!(leader(table.link(3, false).0), Some(2));
}

#[test]
fn a_better_vote_within_the_window_wins() {
    let mut table = first_of_three(1, 0);
    assert_eq!(table.hear(2, &says(Looking, vote(1, 0, 2), 1)).0, None);
    assert_eq!(table.election.next_deadline(), Some(table.now_ms + ELECTION_WINDOW_MS));
    assert_eq!(table.after(ELECTION_WINDOW_MS - 1).0, None);
    assert_eq!(table.hear(3, &says(Looking, vote(1, 1, 3), 1)).0, None);
    assert_eq!(table.after(1).0, None, "the window of the worse vote is no longer open");
    assert_eq!(leader(table.hear(2, &says(Looking, vote(1, 1, 3), 1)).0), Some(3));
}

#[test]
fn messages_that_change_nothing_do_not_prolong_the_window() {
    let mut table = first_of_three(1, 0);
    table.hear(2, &says(Looking, vote(1, 0, 2), 1));
    for _ in 1..ELECTION_WINDOW_MS {
        assert_eq!(table.after(1).0, None);
        assert_eq!(table.hear(2, &says(Looking, vote(1, 0, 2), 1)).0, None);
    }
    assert_eq!(leader(table.after(1).0), Some(2));
}

#[test]
fn the_first_message_of_a_channel_counts_but_is_not_decided_upon_at_once() {
    let mut table = first_of_three(1, 0);
    table.link(3, false);
    table.link(2, false);
    assert_eq!(told(&table.link(2, true).1), [(2, Some(1), 1)], "who comes up is told our vote");
    assert_eq!(table.hear(2, &says(Looking, vote(1, 9, 2), 1)).0, None);
    assert_eq!(table.election.vote(), Some(vote(1, 9, 2)));
    assert_eq!(leader(table.hear(2, &says(Looking, vote(1, 9, 2), 1)).0), Some(2), "the second one is fresh");

    let mut table = first_of_three(1, 0);
    table.link(3, false);
    table.link(2, true);
    table.hear(2, &says(Looking, vote(1, 9, 2), 1));
    assert_eq!(leader(table.after(ELECTION_WINDOW_MS).0), Some(2), "it counts");
}

#[test]
fn an_old_first_message_gives_way_to_what_its_sender_does_now() {
    let mut table = first_of_three(1, 0);
    table.link(3, false);
    table.link(2, true);
    assert_eq!(table.hear(2, &says(Looking, vote(1, 9, 2), 1)).0, None);
    assert_eq!(table.hear(2, &says(Following, vote(2, 8, 3), 1)).0, None);
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None, "server 2 supports its old vote no more");
    assert_eq!(leader(table.hear(3, &says(Leading, vote(2, 8, 3), 1)).0), Some(3));
}

#[test]
fn a_channel_that_breaks_takes_its_votes_along() {
    let mut table = first_of_three(1, 0);
    table.hear(2, &says(Looking, vote(1, 0, 2), 1));
    assert_eq!(table.link(2, false).0, None);
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None);
}

#[test]
fn a_vote_is_repeated_with_growing_pauses() {
    let mut table = first_of_three(1, 0);
    let (mut pause_ms, mut said) = (ELECTION_RESEND_MS, 0);
    while pause_ms < ELECTION_RESEND_MAX_MS {
        assert_eq!(table.after(pause_ms - 1), (None, vec![]));
        said += table.after(1).1.len();
        pause_ms *= 2;
    }
    assert_eq!(table.election.next_deadline(), Some(table.now_ms + ELECTION_RESEND_MAX_MS));
    assert_eq!(said, 8 * 2);
    const { assert!(ELECTION_RESEND_MS >= 250, "Apache decides after 200 ms of silence") };
}

#[test]
fn whoever_looks_is_told_of_our_leader() {
    let mut table = Table::new(1, majority(3));
    table.election.suspect(PeerId(3));
    table.look(vote(1, 5, 1));
    table.hear(2, &says(Looking, vote(1, 6, 2), 1));
    assert_eq!(table.election.standing(), Following);
    let (_, out) = table.hear(3, &says(Looking, vote(1, 5, 3), 9));
    assert_eq!(told(&out), [(3, Some(2), 1)]);
    assert_eq!(out[0].notification.standing, Following);
    for standing in [Following, Leading, Observing] {
        assert_eq!(table.hear(3, &says(standing, vote(1, 5, 3), 9)), (None, vec![]), "others do not ask");
    }
}

/// ZOOKEEPER-1732, 1805: and the epoch that they say is that of their leader once it is established.
#[test]
fn the_vote_takes_the_new_epoch_once_established() {
    let mut table = Table::new(1, majority(3));
    table.election.suspect(PeerId(3));
    table.look(vote(1, 5, 1));
    table.election.established(9);
    assert_eq!(table.election.vote(), Some(vote(1, 5, 1)), "not while looking");
    table.hear(2, &says(Looking, vote(1, 6, 2), 1));
    table.election.established(2);
    let (_, out) = table.hear(3, &says(Looking, vote(1, 5, 3), 1));
    assert_eq!(out[0].notification.vote, Some(vote(2, 6, 2)));
}

#[test]
fn a_non_voter_is_answered_in_every_state_and_never_counted() {
    let mut table = first_of_three(1, 0);
    let (elected, out) = table.hear(4, &says(Looking, None, 9));
    assert_eq!((leader(elected), told(&out)), (None, vec![(4, Some(1), 1)]));
    let (elected, out) = table.hear(4, &says(Looking, vote(5, 5, 2), 9));
    assert_eq!((leader(elected), told(&out)), (None, vec![(4, Some(1), 1)]));
    assert_eq!((table.election.round(), table.election.vote()), (1, Some(vote(1, 0, 1))));
}

#[test]
fn strangers_and_votes_for_strangers_are_ignored() {
    let mut table = first_of_three(1, 0);
    assert_eq!(table.hear(9, &says(Looking, vote(5, 5, 9), 9)), (None, vec![]));
    assert_eq!(table.hear(2, &says(Looking, vote(5, 5, 9), 9)), (None, vec![]));
    assert_eq!(table.hear(2, &says(Looking, vote(5, 5, 4), 9)), (None, vec![]), "an observer cannot lead");
    assert_eq!(
        table.hear(1, &says(Looking, vote(5, 5, 1), 9)),
        (None, vec![]),
        "nor do we talk to ourselves"
    );
    assert_eq!(table.link(9, true), (None, vec![]));
    assert_eq!(table.election.round(), 1);
}

#[test]
fn a_log_that_is_not_trusted_neither_votes_nor_is_voted_for() {
    let mut table = first_of_three(0, -1);
    table.link(3, false);
    assert_eq!(table.hear(2, &says(Looking, vote(0, -1, 1), 1)).0, None);
    assert_eq!(table.hear(2, &says(Looking, vote(1, 5, 2), 1)).0, None);
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None);
    assert_eq!(table.hear(2, &says(Following, vote(1, 5, 3), 4)).0, None);
    table.link(3, true);
    assert_eq!(leader(table.hear(3, &says(Leading, vote(1, 5, 3), 4)).0), Some(3), "it joins");

    let mut table = first_of_three(0, 0);
    assert_eq!(table.hear(2, &says(Looking, vote(7, -1, 2), 1)), (None, vec![]));
}

/// ZOOKEEPER-1732, 1805, 1818: a joiner found no quorum of equal votes. Here the zxid and the round of those who have
/// decided are not compared,
#[test]
fn a_joiner_follows_a_quorum_whose_zxids_and_rounds_differ() {
    let mut table = Table::new(1, majority(5));
    table.look(vote(1, 0, 1));
    assert_eq!(table.hear(2, &says(Following, vote(3, 0x10, 5), 4)).0, None);
    assert_eq!(table.hear(3, &says(Following, vote(3, 0x17, 5), 9)).0, None);
    let (elected, _) = table.hear(5, &says(Leading, vote(3, 0x10, 5), 4));
    assert_eq!(elected.map(|elected| (elected.vote.leader.0, elected.round)), Some((5, 4)));
    assert_eq!((table.election.standing(), table.election.round()), (Following, 4));
}

#[test]
fn votes_of_other_rounds_must_agree_in_their_epoch() {
    let mut table = Table::new(1, majority(5));
    table.look(vote(1, 0, 1));
    table.hear(2, &says(Following, vote(2, 0, 5), 4));
    table.hear(3, &says(Following, vote(2, 0, 5), 4));
    assert_eq!(table.hear(5, &says(Leading, vote(3, 0, 5), 4)).0, None);
    assert_eq!(table.hear(2, &says(Following, vote(3, 0, 5), 4)).0, None);
    assert_eq!(leader(table.hear(3, &says(Following, vote(3, 0, 5), 4)).0), Some(5));
}

#[test]
fn an_epoch_that_one_of_two_formats_lacks_is_not_compared() {
    let mut table = first_of_three(1, 0);
    let mut old = says(Following, vote(0, 0, 3), 4);
    old.format = 0;
    assert_eq!(table.hear(2, &old).0, None);
    assert_eq!(leader(table.hear(3, &says(Leading, vote(2, 0, 3), 4)).0), Some(3));
}

#[test]
fn followers_of_our_own_round_are_compared_by_leader_alone() {
    let mut table = first_of_three(1, 0);
    assert_eq!(table.hear(2, &says(Following, vote(1, 0, 3), 1)).0, None);
    assert_eq!(leader(table.hear(3, &says(Leading, vote(2, 0, 3), 1)).0), Some(3));
}

#[test]
fn our_own_vote_counts_for_a_leader_of_our_round() {
    let mut table = first_of_three(1, 0);
    table.link(2, false);
    table.link(3, true);
    table.hear(3, &says(Looking, vote(1, 7, 3), 1));
    assert_eq!(leader(table.hear(3, &says(Leading, vote(1, 7, 3), 1)).0), Some(3));
    let mut table = first_of_three(1, 0);
    assert_eq!(table.hear(3, &says(Leading, vote(1, 7, 3), 1)).0, None, "but not if it names somebody else");
}

#[test]
fn a_vote_counts_for_a_leader_that_is_established_by_now() {
    let mut table = Table::new(1, majority(5));
    table.look(vote(1, 0, 1));
    table.hear(2, &says(Looking, vote(1, 7, 5), 1));
    assert_eq!(table.hear(3, &says(Looking, vote(1, 6, 5), 1)).0, None);
    assert_eq!(leader(table.hear(5, &says(Leading, vote(2, 7, 5), 1)).0), Some(5), "servers 1, 2 and 5");
    table.look(vote(1, 0, 1));
    table.hear(2, &says(Looking, vote(1, 7, 5), 2));
    assert_eq!(table.hear(5, &says(Leading, vote(2, 8, 5), 2)).0, None, "another candidature");
    assert_eq!(table.hear(5, &says(Leading, vote(2, 7, 5), 1)).0, None, "another round");
}

#[test]
fn who_has_decided_for_our_vote_supports_it_under_its_new_epoch() {
    let mut table = first_of_three(1, 0);
    table.hear(2, &says(Looking, vote(1, 7, 3), 1));
    assert_eq!(table.hear(2, &says(Following, vote(2, 7, 3), 1)).0, None);
    assert_eq!(leader(table.after(ELECTION_WINDOW_MS).0), Some(3));
    let mut table = first_of_three(1, 0);
    table.hear(2, &says(Looking, vote(1, 7, 3), 1));
    assert_eq!(table.hear(2, &says(Looking, vote(0, 7, 3), 1)).0, None);
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None, "of a vote that is cast, all must be equal");
}

#[test]
fn nobody_is_followed_who_does_not_say_that_it_leads() {
    let mut table = Table::new(1, majority(5));
    table.look(vote(1, 0, 1));
    for from in 2..=4 {
        assert_eq!(table.hear(from, &says(Following, vote(2, 0, 5), 4)).0, None);
    }
    assert_eq!(table.hear(5, &says(Looking, vote(2, 0, 5), 5)).0, None);
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None);
}

#[test]
fn who_looks_again_supports_its_leader_no_more() {
    let mut table = Table::new(1, majority(5));
    table.look(vote(1, 0, 1));
    table.hear(2, &says(Following, vote(2, 0, 5), 4));
    table.hear(3, &says(Following, vote(2, 0, 5), 4));
    table.hear(3, &says(Looking, vote(2, 0, 3), 0));
    assert_eq!(table.hear(5, &says(Leading, vote(2, 0, 5), 4)).0, None);
}

#[test]
fn we_lead_when_others_have_decided_for_us_first_but_not_for_what_we_were() {
    let mut table = first_of_three(1, 5);
    assert_eq!(table.hear(2, &says(Following, vote(1, 3, 1), 1)).0, None);
    assert_eq!(table.hear(3, &says(Following, vote(1, 3, 1), 1)).0, None);
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None);
    assert_eq!(table.hear(2, &says(Following, vote(1, 5, 1), 2)).0, None, "another round");
    assert_eq!(leader(table.hear(3, &says(Following, vote(1, 5, 1), 1)).0), Some(1));
}

#[test]
fn an_observer_votes_for_nobody_and_joins() {
    let mut table = Table::new(4, majority(3));
    let (elected, out) = table.look(None);
    assert_eq!((leader(elected), told(&out)), (None, vec![(1, None, 1), (2, None, 1), (3, None, 1)]));
    for from in 1..=3 {
        assert_eq!(table.hear(from, &says(Looking, vote(1, 0, 3), 0)), (None, vec![]), "or it never ends");
        assert_eq!(table.hear(from, &says(Looking, vote(1, 0, 3), 1)), (None, vec![]));
    }
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None);
    assert_eq!(table.hear(1, &says(Following, vote(1, 0, 3), 1)).0, None);
    assert_eq!(leader(table.hear(3, &says(Leading, vote(1, 0, 3), 1)).0), Some(3));
    assert_eq!(table.election.standing(), Observing);
}

#[test]
fn an_observer_that_lost_its_leader_rests_before_it_asks_and_keeps_asking() {
    let mut table = Table::new(4, majority(3));
    table.look(None);
    let (_, out) = table.look(None);
    assert_eq!(out, []);
    let at_ms = table.election.next_deadline().unwrap();
    assert!((0..=OBSERVER_ELECTION_DELAY_MS).contains(&(at_ms - table.now_ms)), "{at_ms} {}", table.now_ms);
    assert_eq!(table.after(at_ms - table.now_ms).1.len(), 3);
    for _ in 0..20 {
        let pause_ms = table.election.next_deadline().unwrap() - table.now_ms;
        assert!(pause_ms <= OBSERVER_RESEND_MAX_MS, "{pause_ms}");
        assert_eq!(table.after(pause_ms).1.len(), 3);
    }
}

#[test]
fn observers_that_asked_are_told_the_result() {
    let mut table = Table::new(1, majority(3));
    table.election.suspect(PeerId(3));
    table.look(vote(1, 5, 1));
    table.hear(4, &says(Looking, None, 1));
    let (elected, out) = table.hear(2, &says(Looking, vote(1, 5, 1), 1));
    assert_eq!((leader(elected), told(&out)), (Some(1), vec![(2, Some(1), 1), (4, Some(1), 1)]));
    assert_eq!(out[1].notification.standing, Leading);
}

#[test]
fn weight_0_is_never_elected_and_does_not_count() {
    let mut table = Table::new(1, weighted());
    table.look(vote(1, 0, 1));
    assert_eq!(told(&table.hear(7, &says(Looking, vote(9, 9, 7), 1)).1), [(7, Some(1), 1)]);
    assert_eq!(table.election.vote(), Some(vote(1, 0, 1)));
    for from in [7, 4, 5] {
        assert_eq!(table.hear(from, &says(Looking, vote(1, 0, 1), 1)).0, None);
    }
    assert_eq!(table.after(ELECTION_WINDOW_MS).0, None, "one of three of weight in the first group");
    table.hear(2, &says(Looking, vote(1, 0, 1), 1));
    assert_eq!(leader(table.after(ELECTION_WINDOW_MS).0), Some(1));
}

#[test]
fn weight_0_gives_way_to_any_candidate_and_is_not_waited_for() {
    let mut table = Table::new(7, weighted());
    table.look(vote(9, 9, 7));
    assert_eq!(told(&table.hear(1, &says(Looking, vote(1, 0, 1), 1)).1).len(), 6);
    assert_eq!(table.election.vote(), Some(vote(1, 0, 1)));

    let mut table = Table::new(1, weighted());
    table.look(vote(1, 0, 1));
    let last = [2, 3, 4, 5, 6].map(|from| table.hear(from, &says(Looking, vote(1, 0, 1), 1)).0)[4];
    assert_eq!(leader(last), Some(1));
}

#[test]
fn two_servers_of_weight_0_do_not_argue() {
    let mut table = Table::new(7, weighted());
    table.look(vote(9, 9, 7));
    assert_eq!(table.hear(1, &says(Looking, vote(8, 8, 7), 1)).1.len(), 1, "the first vote of a peer");
    assert_eq!(table.hear(1, &says(Looking, vote(7, 7, 7), 1)).1, []);
}

#[test]
fn a_round_at_the_end_of_its_range_does_no_harm() {
    let mut table = first_of_three(1, 0);
    table.hear(2, &says(Looking, vote(1, 5, 2), i64::MAX));
    assert_eq!(table.election.round(), i64::MAX);
    table.look(vote(1, 0, 1));
    table.link(3, false);
    assert_eq!(leader(table.hear(2, &says(Looking, vote(1, 5, 2), i64::MAX)).0), Some(2));
}

#[test]
fn a_server_that_has_left_its_leader_says_nothing_until_it_looks() {
    let mut table = Table::new(1, majority(3));
    table.election.suspect(PeerId(3));
    table.look(vote(1, 5, 1));
    table.hear(2, &says(Looking, vote(1, 6, 2), 1));
    table.election.settle(Looking);
    assert_eq!((table.election.standing(), table.election.next_deadline()), (Looking, None));
    assert_eq!(table.hear(3, &says(Looking, vote(1, 6, 3), 1)), (None, vec![]));
}

/// A server without a vote that looks, where the members may be changed; its log ends with this.
fn without_a_vote(end: impl Into<Option<Vote>>) -> Table {
    let mut table = Table::new(4, majority(3));
    table.election = Election::new(PeerId(4), 1, true);
    table.look(end);
    table
}

#[test]
fn who_has_no_vote_that_it_knows_of_seconds_one_that_its_log_does_not_outrun() {
    let said = says(Looking, vote(1, 50, 2), 7);
    for end in [vote(1, 50, 4), vote(1, 49, 4), vote(0, 90, 4)] {
        let mut table = without_a_vote(end);
        let (elected, out) = table.hear(2, &said);
        assert_eq!((elected, told(&out)), (None, vec![(2, Some(2), 7)]), "{end:?}");
        assert_eq!((out[0].notification.vote, out[0].notification.standing), (said.vote, Looking));
        assert_eq!(table.hear(2, &said), (None, vec![]), "once is enough");
        assert_eq!(table.election.vote(), None, "it stands for nobody");
        assert!(told(&table.after(ELECTION_RESEND_MS).1).contains(&(2, None, 1)), "it asks soon who leads");
    }
    for end in [Some(vote(1, 51, 4)), Some(vote(2, 1, 4)), None] {
        assert_eq!(without_a_vote(end).hear(2, &said), (None, vec![]), "{end:?}");
    }
    assert_eq!(
        told(&without_a_vote(vote(1, 50, 4)).hear(5, &said).1),
        [(5, Some(2), 7)],
        "nor does it know all"
    );

    let mut closed = Table::new(4, majority(3));
    closed.look(vote(1, 50, 4));
    assert_eq!(closed.hear(2, &said), (None, vec![]), "where the members are for ever the same");
    let mut voter = first_of_three(1, 50);
    assert_eq!(voter.hear(4, &says(Looking, vote(1, 50, 1), 1)).0, None);
    assert_eq!(voter.after(ELECTION_WINDOW_MS).0, None, "a voter does not count it");
}

#[test]
fn among_equals_one_whom_the_old_configuration_names_is_voted_for() {
    let of = |ids: &[u64]| Quorum::majority(ids.iter().copied().map(PeerId));
    let under_way = ensemble(Quorum::joint(of(&[1, 2]), of(&[1, 2, 4])), &[]);
    let begun = |me: u64| {
        let mut table = Table::new(me, under_way.clone());
        table.look(vote(1, 50, me));
        table
    };
    let voted = |mut table: Table, from: u64, heard| {
        table.hear(from, &says(Looking, heard, 1));
        table.election.vote().unwrap().leader
    };
    assert_eq!(voted(begun(2), 4, vote(1, 50, 4)), PeerId(2));
    assert_eq!(voted(begun(4), 2, vote(1, 50, 2)), PeerId(2));
    assert_eq!(voted(begun(4), 1, vote(1, 50, 1)), PeerId(1));
    assert_eq!(voted(begun(2), 4, vote(1, 51, 4)), PeerId(4), "a longer log counts for more");
    assert_eq!(voted(begun(1), 2, vote(1, 50, 2)), PeerId(2), "then the number");
}
