//! How fast handshakes are taken (`connection_throttle_*`): a bucket of tokens, and on request a chance of refusal that
//! rises while the bucket is empty and falls while it is nearly full.

/// What the bucket holds and how it fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottleOptions {
    /// Tokens that the bucket holds; 0 if handshakes are not throttled.
    pub tokens: u32,
    /// Milliseconds between refills.
    pub fill_ms: u32,
    /// Tokens that a refill brings.
    pub fill_count: u32,
    /// Milliseconds between changes of the chance of refusal; `None` if there is none.
    pub freeze_ms: Option<u32>,
    /// What the chance rises by while the bucket is empty.
    pub drop_increase: f64,
    /// What the chance falls by while little is missing.
    pub drop_decrease: f64,
    /// The share of the bucket that may be missing for the chance to fall.
    pub decrease_ratio: f64,
    /// Whether a handshake takes a token for each unit of its weight rather than one.
    pub weighted: bool,
}

impl Default for ThrottleOptions {
    /// No throttling; Apache's numbers where somebody switches it on.
    fn default() -> Self {
        ThrottleOptions {
            tokens: 0,
            fill_ms: 1,
            fill_count: 1,
            freeze_ms: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            weighted: false,
        }
    }
}

/// What a handshake asks for. Apache's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// A session that everybody must hear of.
    Global,
    /// A session that is known already.
    Renewal,
    /// A session that stays here.
    Local,
}

impl Handshake {
    fn weight(self) -> u32 {
        match self {
            Handshake::Global => 3,
            Handshake::Renewal => 2,
            Handshake::Local => 1,
        }
    }
}

/// The bucket.
#[derive(Debug)]
pub(super) struct Throttle {
    options: ThrottleOptions,
    tokens: u32,
    filled_ms: i64,
    frozen_ms: i64,
    drop_chance: f64,
    chance: fastrand::Rng,
}

impl Throttle {
    pub(super) fn new(options: ThrottleOptions, seed: u64, now_ms: i64) -> Self {
        let chance = fastrand::Rng::with_seed(seed);
        Throttle {
            options,
            tokens: options.tokens,
            filled_ms: now_ms,
            frozen_ms: now_ms,
            drop_chance: 0.0,
            chance,
        }
    }

    /// The chance with which handshakes are refused, 0 to 1.
    #[cfg(test)]
    pub(super) fn drop_chance(&self) -> f64 {
        self.drop_chance
    }

    /// Whether a handshake is taken now.
    pub(super) fn admits(&mut self, handshake: Handshake, now_ms: i64) -> bool {
        let options = self.options;
        if options.tokens == 0 {
            return true;
        }
        let passed = now_ms - self.filled_ms;
        if passed > i64::from(options.fill_ms) {
            let refills =
                passed.saturating_mul(options.fill_count.into()) / i64::from(options.fill_ms.max(1));
            let tokens = i64::from(self.tokens).saturating_add(refills).min(options.tokens.into());
            self.tokens = u32::try_from(tokens).unwrap_or(options.tokens);
            self.filled_ms = now_ms;
        }
        if let Some(freeze_ms) = options.freeze_ms {
            self.adjust(freeze_ms, now_ms);
            if self.chance.f64() < self.drop_chance {
                return false;
            }
        }
        let needed = if options.weighted { handshake.weight() } else { 1 };
        match self.tokens.checked_sub(needed) {
            Some(left) => self.tokens = left,
            None => return false,
        }
        true
    }

    fn adjust(&mut self, freeze_ms: u32, now_ms: i64) {
        if now_ms - self.frozen_ms <= i64::from(freeze_ms) {
            return;
        }
        self.frozen_ms = now_ms;
        let missing = self.options.tokens - self.tokens;
        if self.tokens == 0 {
            self.drop_chance = (self.drop_chance + self.options.drop_increase).min(1.0);
        } else if f64::from(missing) <= (f64::from(self.options.tokens) * self.options.decrease_ratio).round()
        {
            self.drop_chance = (self.drop_chance - self.options.drop_decrease).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(throttle: &mut Throttle, handshake: Handshake, now_ms: i64) -> usize {
        (0..100).take_while(|_| throttle.admits(handshake, now_ms)).count()
    }

    #[test]
    fn a_bucket_empties_and_fills_with_time() {
        let options = ThrottleOptions { tokens: 6, fill_ms: 10, fill_count: 2, ..ThrottleOptions::default() };
        let mut throttle = Throttle::new(options, 1, 0);
        assert_eq!(admitted(&mut throttle, Handshake::Global, 0), 6);
        assert_eq!(admitted(&mut throttle, Handshake::Global, 10), 0);
        assert_eq!(admitted(&mut throttle, Handshake::Global, 20), 4);
        assert_eq!(admitted(&mut throttle, Handshake::Global, 100_000), 6, "never more than it holds");
        let mut none = Throttle::new(ThrottleOptions::default(), 1, 0);
        assert_eq!(admitted(&mut none, Handshake::Global, 0), 100);
    }

    #[test]
    fn kinds_of_handshakes_weigh_differently_on_request() {
        for (handshake, expected) in [(Handshake::Global, 2), (Handshake::Renewal, 3), (Handshake::Local, 6)]
        {
            let options = ThrottleOptions { tokens: 6, weighted: true, ..ThrottleOptions::default() };
            assert_eq!(admitted(&mut Throttle::new(options, 1, 0), handshake, 0), expected);
        }
    }

    #[test]
    fn the_chance_of_refusal_rises_while_the_bucket_is_empty_and_falls_again() {
        let options = ThrottleOptions {
            tokens: 1,
            fill_ms: 1_000,
            freeze_ms: Some(10),
            drop_increase: 0.5,
            drop_decrease: 0.25,
            ..ThrottleOptions::default()
        };
        let mut throttle = Throttle::new(options, 1, 0);
        let mut chances = Vec::new();
        for now_ms in [0, 20, 40, 60, 2_000, 2_020] {
            throttle.admits(Handshake::Global, now_ms);
            chances.push(throttle.drop_chance());
        }
        assert_eq!(chances[..4], [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(chances[4], 0.75, "there is a token again");
    }
}
