//! Violations: how many there were, and the first of them in words.

use serde::{Deserialize, Serialize};

/// How many are kept as text; the count goes on.
const TEXTS_MAX: usize = 100;

/// Checks that did not hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Violations {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

impl Violations {
    pub(super) fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < TEXTS_MAX {
            self.first.push(text());
        }
    }

    /// Adds what somebody else found.
    pub(super) fn absorb(&mut self, other: Self) {
        self.count += other.count;
        let room = TEXTS_MAX.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let mut violations = Violations::default();
        for number in 0..250 {
            violations.add(|| number.to_string());
        }
        violations.absorb(violations.clone());
        assert_eq!((violations.count, violations.first.len()), (500, TEXTS_MAX));
        assert_eq!(violations.first.last().map(String::as_str), Some("99"));
    }
}
