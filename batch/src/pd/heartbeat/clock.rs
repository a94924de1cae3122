//! [`Clock`]: what time it is, so that a test can say so.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Since a moment that the clock has chosen. Never goes back.
    pub elapsed: Duration,
    /// Seconds since 1970, as people count them. May be set back.
    pub unix_s: u64,
}

/// Where the time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// This moment.
    fn now(&self) -> Now;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock that begins to count now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { elapsed: self.started.elapsed(), unix_s: unix.as_secs() }
    }
}
