//! [`LimitedLog`]: a stranger must not be able to fill the log.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far apart two lines are at least.
const PAUSE: Duration = Duration::from_secs(10);

/// Says the first of many warnings at once, and of the others how many there were.
#[derive(Debug, Default)]
pub(super) struct LimitedLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    silent_until: Option<Instant>,
    kept_back: u64,
}

impl LimitedLog {
    pub(super) fn warn(&self, what: &'static str, cause: &dyn Display) {
        if let Some(kept_back) = self.admits(Instant::now()) {
            tracing::warn!(%cause, kept_back, "{what}");
        }
    }

    /// Whether a line may be said now; then, how many were not since the last.
    fn admits(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.silent_until.is_some_and(|until| now < until) {
            state.kept_back = state.kept_back.saturating_add(1);
            return None;
        }
        state.silent_until = Some(now + PAUSE);
        Some(std::mem::take(&mut state.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_the_rest_is_counted() {
        let (log, start) = (LimitedLog::default(), Instant::now());
        assert_eq!(log.admits(start), Some(0));
        for _ in 0..5 {
            assert_eq!(log.admits(start + PAUSE / 2), None);
        }
        assert_eq!(log.admits(start + PAUSE), Some(5));
        assert_eq!(log.admits(start + PAUSE * 3), Some(0));
    }
}
