//! [`Pace`]: how many heartbeats a second; [`Backoff`]: how long to leave PD alone after it failed.

use std::time::Duration;

/// A bucket of tokens that fills at a constant rate. A heartbeat takes one.
#[derive(Debug)]
pub(super) struct Pace {
    per_s: f64,
    burst: f64,
    tokens: f64,
    filled_at: Duration,
}

impl Pace {
    pub(super) fn new(per_s: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_s: f64::from(per_s.max(1)), burst, tokens: burst, filled_at: Duration::ZERO }
    }

    /// Whether a heartbeat may go now.
    pub(super) fn is_ready(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + since.as_secs_f64() * self.per_s).min(self.burst);
        self.tokens >= 1.0
    }

    /// One has gone.
    pub(super) fn spend(&mut self) {
        self.tokens -= 1.0;
    }

    /// How long until the next one may go.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.per_s)
    }
}

/// Doubles with each failure, up to a bound. Each pause is a random part of that, at least half, so that the stores of a
/// cluster do not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// 0 when nothing has failed.
    failures: u32,
    until: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, failures: 0, until: Duration::ZERO, random: seed }
    }

    /// How long to wait before the next attempt.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    pub(super) fn fail(&mut self, now: Duration) {
        let whole = self.min.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        let part = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        self.until = now + half + half.mul_f64(part);
    }

    /// PD has been well for long enough.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// SplitMix64: not to be guessed by nobody, only different from store to store.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }
}

/// Spreads numbers that lie close together.
pub(in crate::pd) const fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_keep_at_least_half() {
        let mut backoff = Backoff::new(ms(100), ms(2_000), 7);
        for round in 0..40 {
            let whole = ms(100 << round.min(10)).min(ms(2_000));
            backoff.fail(ms(5));
            let wait = backoff.wait(ms(5));
            assert!(wait >= whole / 2 && wait <= whole, "{round}: {wait:?} of {whole:?}");
        }
        backoff.succeed();
        backoff.fail(ms(5));
        assert!(backoff.wait(ms(5)) <= ms(100));
    }

    #[test]
    fn two_stores_do_not_come_back_together() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(ms(1_000), ms(1_000), seed);
            (0..8).map(move |_| {
                backoff.fail(ms(0));
                backoff.wait(ms(0))
            })
        };
        assert!(pauses(1).zip(pauses(2)).all(|(one, other)| one != other));
    }

    #[test]
    fn no_more_go_than_the_rate_and_one_burst() {
        let mut pace = Pace::new(100, 10);
        let mut sent = 0;
        for step in 0..10_000 {
            while pace.is_ready(ms(step)) {
                pace.spend();
                sent += 1;
            }
            assert!(pace.wait() <= ms(11));
        }
        assert!((1_000..=1_011).contains(&sent), "{sent}");
        // An hour without any saves up one burst, and no more.
        let after = (0..100).take_while(|_| pace.is_ready(ms(3_610_000)).then(|| pace.spend()).is_some()).count();
        assert_eq!(after, 10);
    }
}
