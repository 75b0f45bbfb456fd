//! The simulation in the daily tests: runs that found something once, and some that nobody has seen.
//!
//! `SIM_SEEDS` says how many fresh seeds, `SIM_SECONDS` for how long at most. `cargo sim` has more to offer.

use std::time::{Duration, Instant};

use docent_integration_tests::sim::{CrashPoint, Fault, Plan, explain, run};

/// Seeds that showed a defect once, with what went wrong. The defect is gone, and the seed stays.
const SEEDS: &[(u64, u64, &str)] = &[
    (1, 3, "a sync that waited for the number of an epoch kept the answer of the next write from its client"),
    (18, 3, "the first piece of a snapshot overtook the word that announces it"),
    (29, 3, "a write behind a sync was applied, not answered, and asked for again: it took effect twice"),
    (43, 3, "a read between two writes that survived their leader kept the second from being answered"),
    (
        10_456,
        3,
        "a write from a connection that its client had left took effect behind the client's later ones",
    ),
    (51, 1, "a sync failed while a server started"),
];

/// The same, for runs that need their length and must do without some faults: `cargo sim SEED --for MS --without …`.
const SHAPED: &[(u64, i64, &[Fault], &str)] = &[
    (
        20_258,
        991,
        &[Fault::Power, Fault::Pause, Fault::Rolling],
        "a leader that was cut off and replaced answered a sync, and old data behind it",
    ),
    (10_594, 5_234, &[Fault::DiskStop], "the same, of a leader that others had left"),
];

/// The same, with all that came later: changes of the members, above all.
const CHANGING: &[(u64, u64, &str)] = &[
    (
        13,
        3,
        "a change that the full disk had no file for was forgotten with a restart, although the log had it",
    ),
    (150, 5, "a file about a change that never became durable hid an earlier one that the log had"),
    (46, 3, "a server was alone for ever, since all members that it knew had left as it had"),
    (349, 3, "a wiped voter was offered a log that was purged, in one election after the other"),
    (
        219,
        3,
        "whose vote a change needed that only the last voter had in its log did not know that it has one",
    ),
    (46, 5, "the same, among five"),
];

/// The same, of plans that draw all that there is to draw, with so many servers if it says how many.
type Whole = (u64, Option<u64>, i64, &'static [Fault], &'static str);

const WHOLE: &[Whole] = &[
    (
        523_712_116_508,
        Some(3),
        6_313,
        &[Fault::ClientNap, Fault::Wipe, Fault::DiskFull, Fault::Point],
        "a leader that stood still while the others went on with a newer epoch hears of its own establishment, and was \
         taken to task for what they had committed",
    ),
    (
        418_580_757_624,
        None,
        9_303,
        &[],
        "what only one server had written and taken a snapshot of is committed by its establishment as the leader",
    ),
    (
        20_329,
        None,
        8_000,
        &[Fault::Kill],
        "two who knew of a change voted for the new server, which the third did not know and could not vote for",
    ),
    (
        22_276,
        None,
        7_908,
        &[Fault::Partition, Fault::DiskStop, Fault::ClientCut],
        "a server was to cut its log behind what the only snapshot that it had holds, and could not",
    ),
    (
        22_376,
        None,
        10_000,
        &[],
        "a write between a change's proposal and its commit waited for ever for a server that the change had dismissed",
    ),
    (
        22_703,
        None,
        1_291,
        &[Fault::Isolate, Fault::Power, Fault::QuorumLoss, Fault::ClientNap, Fault::DiskFull],
        "a follower that was brought level over one change and told of the next forgot the first",
    ),
    (
        200_041_890,
        None,
        1_200,
        &[],
        "a newcomer was told of the change that asks it in, and served before that counted by a list of its own",
    ),
    (
        300_003_029,
        None,
        1_200,
        &[],
        "a leader that stood still commits by the word of a voter whose folder was emptied since, and that all others cover",
    ),
    (
        400_002_546,
        None,
        1_200,
        &[],
        "an observer with a new link asked once more for a write that its leader had under way, and it took effect twice",
    ),
    (
        500_047_190,
        None,
        1_200,
        &[],
        "an observer of a leader that nobody had written to yet waited for a transaction with the number of its epoch",
    ),
    (
        600_006_051,
        None,
        1_200,
        &[],
        "a leader died before anybody had written down the version that it gave the members, and the next gave its own",
    ),
    (
        1_279,
        None,
        494,
        &[
            Fault::Isolate,
            Fault::DiskStop,
            Fault::Pause,
            Fault::QuorumLoss,
            Fault::Rolling,
            Fault::ClientNap,
            Fault::Wipe,
            Fault::Mute,
        ],
        "a node whose time was over was deleted by its name, when a node that stays had taken its place",
    ),
    (
        963_746_722_038,
        None,
        25_000,
        &[],
        "a new leader held on to a connection that its client had left, and refused the client's writes elsewhere for ever",
    ),
    (
        9_119_237,
        None,
        1_500,
        &[],
        "a server that was being asked in had the longest log, and a voter that had not heard of it elected nobody for ever",
    ),
];

/// A run that holds all rules, or a panic with its story.
fn holds(plan: &Plan) {
    if let Err(failure) = run(plan, false, false).result {
        panic!("{}", explain(plan, &failure));
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn seeds_that_found_something_hold_now() {
    for (seed, servers, story) in SEEDS {
        println!("seed {seed}: {story}");
        let mut plan = Plan::of(*seed, Some(*servers)).as_before();
        plan.chaos_ms = plan.chaos_ms.min(8_000);
        holds(&plan);
    }
    for (seed, servers, story) in CHANGING {
        println!("seed {seed}: {story}");
        holds(&Plan::of(*seed, Some(*servers)));
    }
    for (seed, chaos_ms, without, story) in SHAPED {
        println!("seed {seed}: {story}");
        let mut plan = Plan::of(*seed, None).as_before();
        plan.chaos_ms = *chaos_ms;
        plan.faults.retain(|fault, _| !without.contains(fault));
        holds(&plan);
    }
    for (seed, servers, chaos_ms, without, story) in WHOLE {
        println!("seed {seed}: {story}");
        let mut plan = Plan::of(*seed, *servers);
        plan.chaos_ms = *chaos_ms;
        plan.faults.retain(|fault, _| !without.contains(fault));
        holds(&plan);
    }
}

#[test]
fn fresh_seeds_hold() {
    let (count, seconds) = (from_env("SIM_SEEDS", 20), from_env("SIM_SECONDS", 10));
    let began = Instant::now();
    let first = fastrand::u64(..1 << 40);
    for seed in first..first + count {
        if began.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        let mut plan = Plan::of(seed, None);
        plan.chaos_ms = plan.chaos_ms.min(4_000);
        println!("{plan}");
        holds(&plan);
    }
}

#[test]
fn a_seed_is_one_run() {
    for (seed, servers) in [(6, 3), (2, 1)] {
        let mut plan = Plan::of(seed, Some(servers));
        plan.chaos_ms = 2_000;
        let (first, second) = (run(&plan, false, false), run(&plan, true, false));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.stats.steps, second.stats.steps, "seed {seed}");
        plan.seed += 1;
        assert_ne!(first.hash, run(&plan, false, false).hash);
    }
}

/// Without faults there is one leader, and nobody is brought level but at the start.
#[test]
fn without_faults_nothing_happens_twice() {
    let mut plan = Plan::of(3, Some(3));
    plan.faults.clear();
    plan.chaos_ms = 2_000;
    let ran = run(&plan, false, false);
    assert_eq!(ran.result, Ok(()));
    assert_eq!((ran.stats.leaders, ran.stats.boots), (1, 3 + plan.observers));
}

/// A run with one kind of fault has that fault and no other.
#[test]
fn each_fault_happens_when_it_is_asked_for() {
    for fault in Fault::ALL {
        let mut plan = Plan::of(5, Some(3));
        plan.faults = [(fault, 400)].into();
        plan.chaos_ms = 2_500;
        let ran = run(&plan, false, false);
        assert_eq!(ran.result, Ok(()), "{fault}");
        let counted: Vec<Fault> = ran.stats.faults.keys().copied().collect();
        let silent = matches!(fault, Fault::SlowDisk | Fault::Skew);
        assert_eq!(counted, if silent { vec![] } else { vec![fault] });
    }
}

/// At every arrow of the order in which things are made durable a server dies, in front of it and behind it: on its disk it
/// finds what the moment says, and the ensemble goes on without loss.
#[test]
fn a_crash_at_any_arrow_costs_nothing() {
    const TIMES: u64 = 3;
    for point in CrashPoint::ALL {
        let mut died = 0;
        for seed in 0.. {
            assert!(seed < 100, "{point} was met {died} times in {seed} seeds");
            let mut plan = Plan::of(seed, Some(3));
            plan.faults = [(Fault::Point, 200), (Fault::Mute, 700), (Fault::Wipe, 900)].into();
            plan.point = Some(point);
            plan.chaos_ms = 2_500;
            let ran = run(&plan, false, false);
            if let Err(failure) = ran.result {
                panic!("{point}: {}", explain(&plan, &failure));
            }
            died += ran.stats.points.get(&point).copied().unwrap_or(0);
            if died >= TIMES {
                println!("{point}: {died} deaths in {} seeds", seed + 1);
                break;
            }
        }
    }
}

/// Every way to bring a learner level is gone often: from memory, from the log, in pieces, and by a cut.
#[test]
fn every_way_of_bringing_a_learner_level_is_gone() {
    let (mut reads, mut cuts, mut states, mut in_pieces) = (0, 0, 0, 0);
    for seed in 0..30 {
        let mut plan = Plan::of(seed, Some(3));
        plan.faults = [(Fault::Mute, 400), (Fault::Wipe, 900), (Fault::Kill, 1_500)].into();
        plan.chaos_ms = 4_000;
        let ran = run(&plan, false, false);
        assert_eq!(ran.result, Ok(()), "{plan}");
        reads += ran.stats.log_reads[0];
        cuts += ran.stats.syncs[1];
        states += ran.stats.syncs[2];
        in_pieces += ran.stats.in_pieces;
    }
    println!("{reads} reads of the log, {cuts} cuts, {states} states, {in_pieces} of them in pieces");
    assert!(reads > 100 && cuts > 20 && in_pieces > 10, "{reads}, {cuts}, {in_pieces}");
}
