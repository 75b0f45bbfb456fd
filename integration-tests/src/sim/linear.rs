//! Is there an order in which one register's operations could have happened one by one, each between its call and its
//! return, so that all answers are right? The search knows nothing of zxids: a server that lies about them is not
//! believed here.
//!
//! The method is that of Wing and Gong with Lowe's memory of configurations that were tried. It is exponential at worst, so
//! it gives up after a bound, which counts as "not refuted".

use std::collections::BTreeSet;

/// Configurations that are tried before the search gives up.
const TRIED_MAX: usize = 20_000;

/// Operations that are looked at: those that were called first.
const OPERATIONS_MAX: usize = 800;

/// What was asked of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Create(u64),
    Set { value: u64, version: i32 },
    Delete { version: i32 },
    Read,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nobody knows whether it happened.
    Unknown,
    Done,
    Set(i32),
    NoNode,
    Exists,
    BadVersion,
    Value(u64, i32),
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) call: u64,
    /// `u64::MAX` when it never returned.
    pub(super) ret: u64,
    pub(super) act: Act,
    pub(super) seen: Seen,
}

type Register = Option<(u64, i32)>;

/// The register after the operation, if the answer fits.
fn step(state: Register, operation: &Operation) -> Option<Register> {
    let seen = operation.seen;
    let unknown = seen == Seen::Unknown;
    let fits = |expected: Seen| unknown || seen == expected;
    let wrong = |expected: i32, version: i32| expected >= 0 && expected != version;
    match (operation.act, state) {
        (Act::Create(value), None) => fits(Seen::Done).then_some(Some((value, 0))),
        (Act::Create(_), Some(_)) => fits(Seen::Exists).then_some(state),
        (Act::Set { .. } | Act::Delete { .. } | Act::Read, None) => fits(Seen::NoNode).then_some(None),
        (Act::Set { version: expected, .. } | Act::Delete { version: expected }, Some((_, version)))
            if wrong(expected, version) =>
        {
            fits(Seen::BadVersion).then_some(state)
        }
        (Act::Set { value, .. }, Some((_, version))) => {
            fits(Seen::Set(version + 1)).then_some(Some((value, version + 1)))
        }
        (Act::Delete { .. }, Some(_)) => fits(Seen::Done).then_some(None),
        (Act::Read, Some((value, version))) => fits(Seen::Value(value, version)).then_some(state),
    }
}

/// The verdict about one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Linearizable,
    Refuted,
    GaveUp,
}

/// Looks for an order. The register does not exist at first.
pub(super) fn check(operations: &[Operation]) -> Verdict {
    let mut operations: Vec<Operation> = operations.to_vec();
    operations.sort_by_key(|operation| operation.call);
    if let Some(cut) = operations.get(OPERATIONS_MAX).map(|operation| operation.call) {
        operations = before(&operations, cut);
    }
    let returning = operations.iter().filter(|operation| operation.ret != u64::MAX).count();
    let mut search = Search {
        done: vec![false; operations.len()],
        tried: BTreeSet::new(),
        operations: &operations,
        first: 0,
        returning,
        over: false,
    };
    match search.run() {
        true => Verdict::Linearizable,
        false if search.over => Verdict::GaveUp,
        false => Verdict::Refuted,
    }
}

/// What is known at this moment. What returns later may have seen what is called later, so nothing is known of it.
fn before(operations: &[Operation], moment: u64) -> Vec<Operation> {
    let called = operations.iter().filter(|operation| operation.call < moment);
    called
        .filter(|operation| operation.ret < moment || operation.act != Act::Read)
        .map(|operation| match operation.ret < moment {
            true => *operation,
            false => Operation { ret: u64::MAX, seen: Seen::Unknown, ..*operation },
        })
        .collect()
}

/// Of operations that no order explains: the first whose return cannot be explained any more.
pub(super) fn culprit(operations: &[Operation]) -> Option<Operation> {
    let mut returned: Vec<Operation> =
        operations.iter().copied().filter(|operation| operation.ret != u64::MAX).collect();
    returned.sort_by_key(|operation| operation.ret);
    let at = returned
        .partition_point(|operation| check(&before(operations, operation.ret + 1)) != Verdict::Refuted);
    returned.get(at).copied()
}

struct Search<'a> {
    operations: &'a [Operation],
    done: Vec<bool>,
    tried: BTreeSet<(Vec<usize>, Register)>,
    /// Everything before this one is done.
    first: usize,
    /// How many are not done and have returned.
    returning: usize,
    over: bool,
}

/// One choice on the way: which operation was taken, and from which state.
struct Choice {
    taken: usize,
    before: Register,
}

impl Search<'_> {
    fn run(&mut self) -> bool {
        let mut state: Register = None;
        let mut path: Vec<Choice> = Vec::new();
        let mut from = 0;
        loop {
            if self.returning == 0 {
                // Everything that returned has its place.
                return true;
            }
            match self.candidate(from, state) {
                Some((taken, after)) => {
                    self.mark(taken, true);
                    if self.tried.len() >= TRIED_MAX {
                        self.over = true;
                        return false;
                    }
                    if self.tried.insert((self.key(), after)) {
                        path.push(Choice { taken, before: state });
                        state = after;
                        from = 0;
                    } else {
                        self.mark(taken, false);
                        from = taken + 1;
                    }
                }
                None => {
                    let Some(Choice { taken, before }) = path.pop() else { return false };
                    self.mark(taken, false);
                    state = before;
                    from = taken + 1;
                }
            }
        }
    }

    fn mark(&mut self, at: usize, done: bool) {
        self.done[at] = done;
        if self.operations[at].ret != u64::MAX {
            self.returning = if done { self.returning - 1 } else { self.returning + 1 };
        }
        self.first = if done { self.first } else { self.first.min(at) };
        while self.done.get(self.first) == Some(&true) {
            self.first += 1;
        }
    }

    /// The first operation from here on that may come next: it was called before anything else that is left returned.
    fn candidate(&self, from: usize, state: Register) -> Option<(usize, Register)> {
        let left = || {
            let rest = self.operations.iter().enumerate().skip(self.first);
            rest.filter(|(at, _)| !self.done[*at])
        };
        let mut horizon = u64::MAX;
        for (_, operation) in left() {
            if operation.call > horizon {
                break;
            }
            horizon = horizon.min(operation.ret);
        }
        left()
            .take_while(|(_, operation)| operation.call <= horizon)
            .filter(|(at, _)| *at >= from)
            .find_map(|(at, operation)| step(state, operation).map(|after| (at, after)))
    }

    /// The configuration, short: how many from the beginning are all done, and the others.
    fn key(&self) -> Vec<usize> {
        let rest = (self.first..self.done.len()).filter(|at| self.done[*at]);
        std::iter::once(self.first).chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(call: u64, ret: u64, act: Act, seen: Seen) -> Operation {
        Operation { call, ret, act, seen }
    }

    const SET: Act = Act::Set { value: 2, version: -1 };

    #[test]
    fn what_overlaps_may_take_any_order() {
        let create = operation(0, 1, Act::Create(1), Seen::Done);
        let set = operation(2, 9, SET, Seen::Set(1));
        let old = operation(3, 8, Act::Read, Seen::Value(1, 0));
        let new = operation(3, 8, Act::Read, Seen::Value(2, 1));
        assert_eq!(check(&[create, set, old, new]), Verdict::Linearizable);
    }

    #[test]
    fn a_stale_read_is_refuted() {
        let create = operation(0, 1, Act::Create(1), Seen::Done);
        let set = operation(2, 3, SET, Seen::Set(1));
        let stale = operation(4, 5, Act::Read, Seen::Value(1, 0));
        assert_eq!(check(&[create, set, stale]), Verdict::Refuted);
    }

    #[test]
    fn an_unknown_write_happened_or_did_not_but_not_both() {
        let create = operation(0, 1, Act::Create(1), Seen::Done);
        let lost = operation(2, u64::MAX, SET, Seen::Unknown);
        let old = operation(4, 5, Act::Read, Seen::Value(1, 0));
        let new = operation(6, 7, Act::Read, Seen::Value(2, 1));
        assert_eq!(check(&[create, lost, old]), Verdict::Linearizable);
        assert_eq!(check(&[create, lost, old, new]), Verdict::Linearizable);
        let back = operation(8, 9, Act::Read, Seen::Value(1, 0));
        assert_eq!(check(&[create, lost, old, new, back]), Verdict::Refuted);
    }

    #[test]
    fn a_condition_that_fails_changes_nothing() {
        let create = operation(0, 1, Act::Create(1), Seen::Done);
        let bad = operation(2, 3, Act::Set { value: 3, version: 7 }, Seen::BadVersion);
        let read = operation(4, 5, Act::Read, Seen::Value(1, 0));
        let gone = operation(6, 7, Act::Delete { version: 0 }, Seen::Done);
        let none = operation(8, 9, Act::Read, Seen::NoNode);
        assert_eq!(check(&[create, bad, read, gone, none]), Verdict::Linearizable);
        assert_eq!(check(&[create, gone, bad]), Verdict::Linearizable);
    }
}
