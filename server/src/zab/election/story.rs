//! Whole ensembles in one thread: servers that crash, come back, lose each other and find together again.
//!
//! A seed is one story; a failure names it. `ELECTION_SEEDS=100000 cargo test --release election::story` tells more.

use std::collections::BTreeSet;

use super::super::PeerId;
use super::world::{Happening, Id, Role, World};

/// From the end of all trouble until everybody follows one leader.
const HEALED_WITHIN_MS: i64 = 5_000;
/// From the first server that misses a dead leader until everybody has elected the next.
const FAIL_OVER_WITHIN_MS: i64 = 40;
/// Notifications that one server may send in a healed second: nobody talks without end.
const BALLOTS_PER_SECOND_MAX: usize = 1_000;

/// Servers start, go through trouble, and are left in peace: how long it takes them to find together.
fn trouble_and_peace(seed: u64) -> i64 {
    let mut world = World::new(seed);
    for id in world.ids() {
        let after_ms = world.some(100);
        world.later(after_ms, Happening::Start(id));
    }
    world.trouble_until_ms = world.rng.i64(0..3_000);
    world.later(50, Happening::Trouble);
    world.run_until(world.trouble_until_ms, |_| false);
    world.heal();
    let healed_ms = world.now_ms;
    // Everybody is up by then, and has noticed what broke.
    world.run_until(healed_ms + 60, |_| false);
    let settled = world.run_until(healed_ms + HEALED_WITHIN_MS, World::is_settled);
    let roles: Vec<_> =
        world.servers.iter().map(|(id, server)| (id, &server.role, &server.election)).collect();
    assert!(settled, "seed {seed}: not settled after {HEALED_WITHIN_MS} ms: {roles:#?}");
    let (took_ms, leader) = (world.now_ms - healed_ms, world.leader());
    world.run_until(world.now_ms + 700, |_| false);
    assert!(world.is_settled() && world.leader() == leader, "seed {seed}: peace does not last");
    let seconds = usize::try_from(took_ms / 1_000).expect("time goes forward") + 1;
    let most = world.ballots.values().max().copied().unwrap_or(0);
    assert!(most <= seconds * BALLOTS_PER_SECOND_MAX, "seed {seed}: {most} notifications in {took_ms} ms");
    took_ms
}

/// The leader of an ensemble in peace dies: how long it takes the others to elect the best of them.
fn fail_over(seed: u64) -> Option<i64> {
    let mut world = World::new(seed);
    world.delay_ms = 2;
    for id in world.ids() {
        world.later(0, Happening::Start(id));
    }
    assert!(world.run_until(5_000, World::is_settled), "seed {seed}: no leader to begin with");
    world.run_until(world.now_ms + 100, |_| false);
    let dead = world.leader()?;
    for _ in 0..world.rng.u8(0..4) {
        world.write(dead);
    }
    let rest: BTreeSet<Id> = world.ids().into_iter().filter(|id| *id != dead).collect();
    if !world.is_quorum(&rest) {
        return None;
    }
    world.behind = 0;
    let died_ms = world.now_ms;
    world.crash(dead);
    let best = rest.iter().filter(|id| world.members.quorum.has_weight(PeerId(**id)));
    let best = best.filter_map(|id| world.candidature(*id)).max().map(|vote| vote.leader.0);
    let voters: Vec<Id> = rest.iter().copied().filter(|id| world.is_voter(*id)).collect();
    let elected = world.run_until(died_ms + 5_000, |world| {
        voters.iter().all(|id| match &world.servers[id].role {
            Role::Leading { .. } => Some(*id) == best,
            Role::Following { leader, .. } => Some(*leader) == best,
            Role::Looking | Role::Down => false,
        })
    });
    let took_ms = world.now_ms - died_ms;
    assert!(
        elected && took_ms <= FAIL_OVER_WITHIN_MS,
        "seed {seed}: {best:?} was not elected in {took_ms} ms"
    );
    assert!(world.run_until(died_ms + 5_000, World::is_settled), "seed {seed}: not settled");
    assert_eq!((world.leader(), world.behind), (best, 0), "seed {seed}");
    Some(took_ms)
}

/// How many stories are told.
fn seeds() -> u64 {
    std::env::var("ELECTION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

#[test]
fn after_any_trouble_everybody_follows_one_leader() {
    let mut took_ms: Vec<i64> = (0..seeds()).map(trouble_and_peace).collect();
    took_ms.sort_unstable();
    println!("median {} ms, worst {:?} ms", took_ms[took_ms.len() / 2], took_ms.last());
}

#[test]
fn when_a_leader_dies_the_best_of_the_others_is_elected_soon() {
    let mut took_ms: Vec<i64> = (0..seeds()).filter_map(fail_over).collect();
    assert!(took_ms.len() > 100, "{} stories are about a fail-over", took_ms.len());
    took_ms.sort_unstable();
    println!("median {} ms, worst {:?} ms", took_ms[took_ms.len() / 2], took_ms.last());
}
