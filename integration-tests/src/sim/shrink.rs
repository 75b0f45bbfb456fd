//! A failing run made smaller: as few faults, clients and servers and as little time as still show the same broken rule.

use super::plan::{Fault, Plan};
use super::{Failure, run};

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 120;

/// Tries smaller plans as long as one breaks the same rule. Answers the smallest, its failure, and the runs it took.
#[must_use]
pub fn shrink(plan: &Plan, failure: &Failure) -> (Plan, Failure, u32) {
    let mut smallest = (plan.clone(), failure.clone());
    let mut runs = 0;
    loop {
        let mut better = None;
        for candidate in candidates(&smallest.0, &smallest.1) {
            runs += 1;
            if runs > RUNS_MAX {
                return (smallest.0, smallest.1, RUNS_MAX);
            }
            if let Err(found) = run(&candidate, false, false).result
                && found.rule == failure.rule
            {
                better = Some((candidate, found));
                break;
            }
        }
        match better {
            Some(found) => smallest = found,
            None => return (smallest.0, smallest.1, runs),
        }
    }
}

fn candidates(plan: &Plan, failure: &Failure) -> Vec<Plan> {
    let mut candidates = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        candidates.push(candidate);
    };
    let faults: Vec<Fault> = plan.faults.keys().copied().collect();
    if faults.len() > 2 {
        let half = faults.len() / 2;
        add(&|plan| plan.faults.retain(|fault, _| faults[..half].contains(fault)));
        add(&|plan| plan.faults.retain(|fault, _| faults[half..].contains(fault)));
    }
    for fault in &faults {
        add(&|plan| {
            plan.faults.remove(fault);
        });
    }
    // No fault behind the failure can have caused it.
    if failure.at_ms + 1 < plan.chaos_ms {
        add(&|plan| plan.chaos_ms = failure.at_ms + 1);
    }
    if plan.chaos_ms > 200 {
        add(&|plan| plan.chaos_ms /= 2);
        add(&|plan| plan.chaos_ms = plan.chaos_ms * 4 / 5);
    }
    if plan.observers > 0 {
        add(&|plan| plan.observers = 0);
    }
    if plan.servers > 3 {
        add(&|plan| plan.servers = 3);
    }
    if plan.clients > 1 {
        add(&|plan| plan.clients = 1);
        add(&|plan| plan.clients -= 1);
    }
    candidates
}
