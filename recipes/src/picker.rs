//! Which instance is picked, of those that there are; computes only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::discovery::ServiceView;
use crate::instance::ServiceInstance;

/// How an instance is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any.
    Random,
    /// The same as long as it may be picked, then any other, which is kept from then on.
    Sticky,
}

/// When an instance that others complain about is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownPolicy {
    /// After how many errors. 0 stands for never.
    pub errors: u32,
    /// How long after its first error everything is forgotten.
    pub forget_after: Duration,
}

impl Default for DownPolicy {
    /// Curator's: 2 errors, 30 s.
    fn default() -> DownPolicy {
        DownPolicy { errors: 2, forget_after: Duration::from_secs(30) }
    }
}

/// The errors of one instance.
#[derive(Clone, Copy, Debug)]
struct Errors {
    count: u32,
    since: Instant,
}

/// What a provider remembers between two picks. It is bounded by the instances that there are.
#[derive(Debug)]
pub(crate) struct Picker {
    strategy: Strategy,
    policy: DownPolicy,
    turn: usize,
    kept: Option<String>,
    errors: HashMap<String, Errors>,
}

impl Picker {
    pub(crate) fn new(strategy: Strategy, policy: DownPolicy) -> Picker {
        Picker { strategy, policy, turn: 0, kept: None, errors: HashMap::new() }
    }

    /// The name of the node that is picked, and its instance. `chance` is a number below its argument.
    pub(crate) fn pick<T>(
        &mut self,
        view: &ServiceView<T>,
        now: Instant,
        chance: impl FnOnce(usize) -> usize,
    ) -> Option<(String, Arc<ServiceInstance<T>>)> {
        self.errors.retain(|name, errors| {
            view.instances.contains_key(name) && now < errors.since + self.policy.forget_after
        });
        let up: Vec<_> =
            view.instances.iter().filter(|(name, one)| one.enabled && !self.is_down(name)).collect();
        if up.is_empty() {
            return None;
        }
        let kept = up.iter().position(|(name, _)| self.kept.as_ref() == Some(name));
        let at = match (self.strategy, kept) {
            (Strategy::RoundRobin, _) => self.turn % up.len(),
            (Strategy::Sticky, Some(at)) => at,
            (Strategy::Sticky | Strategy::Random, _) => chance(up.len()),
        };
        self.turn = self.turn.wrapping_add(1);
        let (name, one) = up[at];
        if self.strategy == Strategy::Sticky {
            self.kept = Some(name.clone());
        }
        Some((name.clone(), Arc::clone(one)))
    }

    /// Somebody could not use an instance.
    pub(crate) fn note_error<T>(&mut self, view: &ServiceView<T>, name: &str, now: Instant) {
        if view.instances.contains_key(name) {
            let errors = self.errors.entry(name.to_owned()).or_insert(Errors { count: 0, since: now });
            if now >= errors.since + self.policy.forget_after {
                *errors = Errors { count: 0, since: now };
            }
            errors.count = errors.count.saturating_add(1);
        }
    }

    fn is_down(&self, name: &str) -> bool {
        self.policy.errors > 0
            && self.errors.get(name).is_some_and(|errors| errors.count >= self.policy.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(names: &[&str]) -> ServiceView<()> {
        let one = |name: &&str| ((*name).to_owned(), Arc::new(ServiceInstance::new("s").id(*name)));
        ServiceView { instances: names.iter().map(one).collect(), ..ServiceView::default() }
    }

    fn picks(picker: &mut Picker, view: &ServiceView<()>, now: Instant, times: usize) -> String {
        let mut seen = String::new();
        for _ in 0..times {
            seen += &picker.pick(view, now, |below| below - 1).map_or("-".to_owned(), |(name, _)| name);
        }
        seen
    }

    #[test]
    fn each_strategy_picks_in_its_way() {
        let (now, all) = (Instant::now(), view(&["a", "b", "c"]));
        let picker = |strategy| Picker::new(strategy, DownPolicy::default());
        assert_eq!(picks(&mut picker(Strategy::RoundRobin), &all, now, 5), "abcab");
        assert_eq!(picks(&mut picker(Strategy::Random), &all, now, 3), "ccc", "as chance has it");
        let mut sticky = picker(Strategy::Sticky);
        assert_eq!(picks(&mut sticky, &all, now, 2), "cc");
        assert_eq!(picks(&mut sticky, &view(&["a", "b"]), now, 2), "bb", "it has gone");
        assert_eq!(picks(&mut sticky, &all, now, 2), "bb", "and is not taken up again");
        assert_eq!(picks(&mut sticky, &view(&[]), now, 1), "-");
    }

    #[test]
    fn an_instance_is_down_after_errors_and_forgiven_in_time() {
        let (now, all) = (Instant::now(), view(&["a", "b"]));
        let mut picker = Picker::new(Strategy::RoundRobin, DownPolicy::default());
        picker.note_error(&all, "a", now);
        assert_eq!(picks(&mut picker, &all, now, 2), "ab", "one error is none");
        picker.note_error(&all, "a", now);
        assert_eq!(picks(&mut picker, &all, now, 2), "bb");
        picker.note_error(&all, "b", now);
        picker.note_error(&all, "b", now);
        assert_eq!(picks(&mut picker, &all, now, 1), "-", "all are down");
        assert_eq!(picks(&mut picker, &all, now + Duration::from_secs(30), 2).len(), 2);
        picker.note_error(&all, "unknown", now);
        assert!(picker.errors.is_empty(), "nobody is remembered who is not there");
    }

    #[test]
    fn what_is_not_enabled_is_never_picked() {
        let mut all = view(&["a", "b"]);
        let mut off = ServiceInstance::new("s").id("a");
        off.enabled = false;
        all.instances.insert("a".to_owned(), Arc::new(off));
        let mut picker = Picker::new(Strategy::RoundRobin, DownPolicy { errors: 0, ..DownPolicy::default() });
        assert_eq!(picks(&mut picker, &all, Instant::now(), 2), "bb");
        picker.note_error(&all, "b", Instant::now());
        assert_eq!(picks(&mut picker, &all, Instant::now(), 1), "b", "without a policy nobody is down");
    }
}
