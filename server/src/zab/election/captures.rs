//! What Apache's servers said to one of them is said to ours in its place: it must come to the same result, and where
//! the real one answered a question, ours gives the same answer.

use Standing::{Looking, Observing};

use super::super::{Notification, Standing, Vote};
use super::fixtures::{Table, leader, majority, says, vote};
use super::{Ballot, Elected};

const CAPTURE: &str = include_str!("../../../tests/golden/election/apache-3.8.0.txt");

/// A line of a capture.
struct Line {
    at_ms: i64,
    from: u64,
    to: u64,
    notification: Notification,
}

/// The lines of a section, from one point of time on.
fn section(name: &str, from_ms: i64) -> Vec<Line> {
    let (_, text) = CAPTURE.split_once(&format!("== {name}\n")).unwrap();
    let lines = text.lines().take_while(|line| !line.is_empty()).map(line);
    lines.filter(|line| line.at_ms >= from_ms).collect()
}

fn line(text: &str) -> Line {
    let words: Vec<&str> = text.split(' ').collect();
    let [at_ms, from, to, standing, candidate, zxid, round, epoch] = words[..] else { panic!("{text}") };
    let standing = match standing {
        "looking" => Standing::Looking,
        "following" => Standing::Following,
        "leading" => Standing::Leading,
        other => panic!("{other}"),
    };
    let vote: Option<Vote> = (candidate != "-").then(|| {
        vote(epoch.parse().unwrap(), i64::from_str_radix(zxid, 16).unwrap(), candidate.parse().unwrap())
    });
    let notification = says(standing, vote, round.parse().unwrap());
    let number = |word: &str| word.parse::<u64>().unwrap();
    Line { at_ms: at_ms.parse().unwrap(), from: number(from), to: number(to), notification }
}

/// A server of ours in the place of a real one.
struct Play {
    table: Table,
    /// Whom it elected, and when.
    elected: Option<(u64, i64)>,
    said: Vec<(u64, Notification)>,
    /// The epoch of the leader that it will have.
    epoch: u32,
}

impl Play {
    fn note(&mut self, (outcome, out): (Option<Elected>, Vec<Ballot>)) {
        self.said.extend(out.into_iter().map(|ballot| (ballot.to.0, ballot.notification)));
        if let Some(leader) = leader(outcome) {
            assert_eq!(self.elected.replace((leader, self.table.now_ms)), None, "elected twice");
            self.table.election.established(self.epoch);
        }
    }

    fn wait_until(&mut self, at_ms: i64) {
        while let Some(due_ms) = self.table.election.next_deadline().filter(|due_ms| *due_ms <= at_ms) {
            let outcome = self.table.after(due_ms - self.table.now_ms);
            self.note(outcome);
        }
        self.table.now_ms = at_ms;
    }
}

/// Starts `me` at the first line with this candidature, and lets it hear what was said to the real one.
fn play(lines: &[Line], me: u64, own: Option<Vote>, epoch: u32) -> Play {
    let mut table = Table::new(me, majority(3));
    for peer in 1..=4 {
        table.link(peer, false);
    }
    table.now_ms = lines[0].at_ms;
    let mut play = Play { table, elected: None, said: Vec::new(), epoch };
    let began = play.table.look(own);
    play.note(began);
    for line in lines.iter().filter(|line| line.to == me) {
        play.wait_until(line.at_ms);
        let outcome = play.table.hear(line.from, &line.notification);
        play.note(outcome);
    }
    play.wait_until(play.table.now_ms + 100);
    play
}

/// Checks that ours answered with its leader whenever the real one did, and the same.
fn check_answers(lines: &[Line], me: u64, play: &Play) -> usize {
    let said =
        |line: &Line| (line.to, line.notification.standing, line.notification.vote, line.notification.round);
    let answers = lines.iter().filter(|line| line.from == me && line.notification.standing != Looking);
    let mut count = 0;
    for answer in answers.map(said) {
        let ours = play.said.iter().map(|(to, ours)| (*to, ours.standing, ours.vote, ours.round));
        assert!(
            ours.clone().any(|ours| ours == answer),
            "{answer:?} is not in {:?}",
            ours.collect::<Vec<_>>()
        );
        count += 1;
    }
    count
}

#[test]
fn a_cold_start_elects_the_larger_number() {
    let lines = section("cold-start-and-join", 0);
    let second = play(&lines, 2, Some(vote(0, 0, 2)), 1);
    assert_eq!(second.elected, Some((2, 550)), "at once: nobody else can be reached");
    assert_eq!(check_answers(&lines, 2, &second), 2);
    let first = play(&lines, 1, Some(vote(0, 0, 1)), 1);
    assert_eq!(first.elected, Some((2, 555)), "after the window: the only message may be old");
    assert_eq!(check_answers(&lines, 1, &first), 2);
}

#[test]
fn a_new_voter_and_a_new_observer_join_the_leader() {
    let lines = section("cold-start-and-join", 1_000);
    let third = play(&lines, 3, Some(vote(0, 0, 3)), 1);
    assert_eq!(third.elected, Some((2, 1_536)));
    assert_eq!(check_answers(&lines, 3, &third), 1);
    let observer = play(&lines, 4, None, 1);
    assert_eq!(observer.elected, Some((2, 1_582)));
    assert_eq!(observer.table.election.standing(), Observing);
}

#[test]
fn a_server_that_comes_back_with_the_longest_log_joins_the_leader() {
    let lines = section("rejoin-after-crash", 0);
    assert_eq!(play(&lines, 1, Some(vote(1, 0x1_0000_000b, 1)), 1).elected, Some((2, 6_240)));
}

#[test]
fn a_new_leader_stays_when_the_old_one_comes_back_with_more() {
    let lines = section("new-leader-and-old-leader-rejoin", 0);
    let third = play(&lines, 3, Some(vote(1, 0x1_0000_0015, 3)), 2);
    assert_eq!(third.elected, Some((3, 10_579)));
    assert_eq!(check_answers(&lines, 3, &third), 1);
    let first = play(&lines, 1, Some(vote(1, 0x1_0000_0015, 1)), 2);
    assert_eq!(first.elected, Some((3, 10_402)));
    assert_eq!(check_answers(&lines, 1, &first), 1);
    let old = section("new-leader-and-old-leader-rejoin", 11_000);
    assert_eq!(play(&old, 2, Some(vote(1, 0x1_0000_0016, 2)), 2).elected, Some((3, 11_759)));
}

#[test]
fn a_wiped_server_is_not_led_astray_by_an_old_vote() {
    let lines = section("wiped-server-joins", 0);
    let first = play(&lines, 1, Some(vote(0, 0, 1)), 2);
    assert_eq!(first.elected, Some((3, 13_961)));
    assert!(
        first.said.iter().any(|(_, said)| said.vote == Some(vote(1, 0x1_0000_0016, 2))),
        "it took it over"
    );
    assert_eq!(check_answers(&lines, 1, &first), 1);
    assert_eq!(play(&section("wiped-server-joins", 16_000), 4, None, 2).elected, Some((3, 16_270)));
}
