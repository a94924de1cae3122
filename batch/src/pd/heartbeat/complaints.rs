//! [`Complaints`]: what is wrong, said once and then seldom.

use std::fmt;
use std::time::Duration;

use super::clock::Now;

/// How long one kind of complaint is kept back after it was said.
const QUIET: Duration = Duration::from_secs(10);

/// One entry for each kind of complaint, of which there are few.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: Vec<Said>,
}

#[derive(Debug)]
struct Said {
    kind: &'static str,
    at: Duration,
    kept_back: u64,
}

impl Complaints {
    /// Logs it, unless one of its kind was logged a moment ago. Whether it was.
    pub(super) fn say(&mut self, kind: &'static str, now: Now, what: &dyn fmt::Display) -> bool {
        let known = self.said.iter_mut().find(|said| said.kind == kind);
        let kept_back = match known {
            Some(said) if now.elapsed.saturating_sub(said.at) < QUIET => {
                said.kept_back += 1;
                return false;
            }
            Some(said) => {
                said.at = now.elapsed;
                std::mem::take(&mut said.kept_back)
            }
            None => {
                self.said.push(Said { kind, at: now.elapsed, kept_back: 0 });
                0
            }
        };
        tracing::warn!(kind, kept_back, error = %what, "PD heartbeats");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_in_a_while() {
        let at = |s| Now { elapsed: Duration::from_secs(s), unix_s: 0 };
        let mut complaints = Complaints::default();
        let said: u32 = (0..100).map(|s| u32::from(complaints.say("one", at(s), &"x"))).sum();
        assert_eq!(said, 10);
        assert!(complaints.say("other", at(99), &"x"));
    }
}
