//! Who changes the members while everybody else works: one client with the rights of the super user.
//!
//! It asks for what incidents put before it, all of it in one go, and otherwise looks at the configuration. So a change is asked
//! for while another is under way, and must be refused. When the faults are over it asks for one more, which must go through.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use docent::proto::Request;
use docent::proto::ops::AuthRequest;
use docent_server::zab::PeerId;

use super::config_checks::CONFIG;
use super::members::{Roll, Rolls, Wish};

/// What proves that it is the super user.
pub(super) const SUPER: &str = "super:secret";

/// Wishes that wait; more are forgotten.
const WISHES_MAX: usize = 3;

/// The members' keeper.
#[derive(Debug, Default)]
pub(super) struct Operator {
    wishes: VecDeque<Wish>,
    /// What is asked and not answered, in order.
    pub(super) asked: VecDeque<Wish>,
    /// The faults are over.
    pub(super) healing: bool,
    turns: u64,
}

/// What it does next.
#[derive(Debug)]
pub(super) enum Next {
    /// All of these, without waiting for an answer in between.
    Change(Vec<Wish>),
    /// It reads the configuration, behind a `sync` or as it is.
    Look { synced: bool },
}

impl Operator {
    /// Its first request on every connection.
    pub(super) fn auth() -> Request {
        let auth = Some(Bytes::from_static(SUPER.as_bytes()));
        Request::Auth(AuthRequest { kind: 0, scheme: "digest".to_owned(), auth })
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        if self.wishes.len() < WISHES_MAX {
            self.wishes.push_back(wish);
        }
    }

    pub(super) fn next(&mut self, rolls: &Rolls) -> Next {
        self.turns += 1;
        if self.turns.is_multiple_of(4) {
            return Next::Look { synced: self.turns.is_multiple_of(8) };
        }
        let mut wishes: Vec<Wish> = self.wishes.drain(..).collect();
        if wishes.is_empty() && self.healing {
            wishes.push(again(rolls.last()));
        }
        if wishes.is_empty() {
            return Next::Look { synced: false };
        }
        self.asked.extend(wishes.iter().cloned());
        Next::Change(wishes)
    }

    pub(super) fn path() -> String {
        CONFIG.to_owned()
    }
}

fn nothing() -> Wish {
    Wish { joining: BTreeMap::new(), leaving: BTreeSet::new(), whole: None, from: -1, nonsense: false }
}

/// A member joins as what it is: nothing but the version changes.
fn again(roll: &Roll) -> Wish {
    let joining = roll.members.iter().next().map(|(peer, votes)| (*peer, *votes));
    Wish { joining: joining.into_iter().collect(), ..nothing() }
}

/// A change that somebody may want, or should not.
pub(super) fn draw(
    chance: &mut fastrand::Rng,
    rolls: &Rolls,
    servers: &[PeerId],
    leader: Option<PeerId>,
) -> Wish {
    let roll = rolls.last();
    let pick = |chance: &mut fastrand::Rng, peers: &[PeerId]| {
        (!peers.is_empty()).then(|| peers[chance.usize(..peers.len())])
    };
    let outside: Vec<PeerId> =
        servers.iter().copied().filter(|peer| !roll.members.contains_key(peer)).collect();
    let inside: Vec<PeerId> = roll.members.keys().copied().collect();
    let mut wish = nothing();
    let joins = |peer: Option<PeerId>, votes: bool| peer.map(|peer| (peer, votes));
    match chance.u8(..14) {
        0..3 => {
            let votes = chance.u8(..4) > 0;
            wish.joining.extend(joins(pick(chance, &outside).or(pick(chance, &inside)), votes));
        }
        3 | 4 => wish.leaving.extend(pick(chance, &inside)),
        5 => wish.leaving.extend(leader),
        6 | 7 => {
            let peer = if chance.bool() { leader } else { pick(chance, &inside) };
            let votes = peer.is_some_and(|peer| !roll.votes(peer));
            wish.joining.extend(joins(peer, votes));
        }
        8 | 9 => {
            wish.leaving.extend(pick(chance, &inside));
            let votes = chance.bool();
            wish.joining.extend(joins(pick(chance, &outside), votes));
            let other = pick(chance, &inside);
            let votes = other.is_some_and(|peer| !roll.votes(peer));
            wish.joining.extend(joins(other, votes));
            let gone = wish.leaving.clone();
            wish.joining.retain(|peer, _| !gone.contains(peer));
        }
        10 => {
            wish.whole = Some(
                servers
                    .iter()
                    .filter_map(|peer| {
                        let votes = chance.u8(..3) > 0;
                        (chance.u8(..3) > 0).then_some((*peer, votes))
                    })
                    .collect(),
            )
        }
        11 => {
            // More servers than there are, that nobody has ever seen.
            let count = roll.voters().count() as u64 + 1;
            wish.joining.extend((100..100 + count).map(|number| (PeerId(number), true)));
        }
        12 => wish.leaving.extend(inside),
        _ => {
            wish.nonsense = true;
            wish.leaving.extend(pick(chance, &inside));
        }
    }
    wish.whole = wish.whole.filter(|whole| !whole.is_empty());
    wish.from = match chance.u8(..5) {
        0 => roll.version,
        1 => {
            let versions: Vec<i64> = rolls.versions().collect();
            versions[chance.usize(..versions.len())]
        }
        _ => -1,
    };
    wish
}
