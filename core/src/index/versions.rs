//! [`Versions`]: which versions of an index are still read, and what waits for them to end.
//!
//! Each version that somebody may read has the things of which it is the last user. When it ends, each of them goes to the
//! version before it, if that one is old enough to use it too, and is freed if there is none. So a version that is held for
//! long keeps what it uses itself, and nothing of what came and went after it (I9).
//!
//! A version has ended when its [`Life`] has no other holder. Who lets go of one lowers a reference count, and that is all:
//! freeing is done by writers, who come by with the next change anyway.

use std::collections::VecDeque;

use super::garbage::{Garbage, Spares};
use crate::ids::Sequence;
use crate::sync::Arc;

/// How many versions a writer looks at each time, so that a change costs the same however many are held.
const LOOKS: usize = 8;

/// The versions, oldest first. The last one is the newest, which is being read.
pub(super) struct Versions<L> {
    living: VecDeque<Version<L>>,
    /// Where the next look begins.
    next: usize,
}

struct Version<L> {
    number: Sequence,
    life: Arc<L>,
    /// What no later living version uses.
    garbage: Vec<Garbage>,
}

impl<L> Versions<L> {
    /// The first version of an index.
    pub(super) fn new(number: Sequence, life: Arc<L>) -> Self {
        Self { living: VecDeque::from([Version { number, life, garbage: Vec::new() }]), next: 0 }
    }

    /// The number of the newest version.
    pub(super) fn newest(&self) -> Sequence {
        self.living.back().map_or(Sequence::default(), |version| version.number)
    }

    /// The next version, and what it does not use of the one before.
    pub(super) fn push(&mut self, number: Sequence, life: Arc<L>, garbage: Vec<Garbage>) {
        if let Some(before) = self.living.back_mut() {
            before.garbage.extend(garbage);
        }
        self.living.push_back(Version { number, life, garbage: Vec::new() });
    }

    /// Looks whether versions have ended, and returns what can be freed. Looks at a few versions; costs what was
    /// freed, or handed down to an older version that is held.
    pub(super) fn collect(&mut self) -> Ripe<L> {
        let mut ripe = Ripe::none();
        // The one that was just replaced has mostly ended by now, and the others are looked at in turn.
        if let Some(replaced) = self.living.len().checked_sub(2) {
            self.look_at(replaced, &mut ripe);
        }
        for _ in 0..LOOKS.min(self.living.len().saturating_sub(1)) {
            if self.next + 1 >= self.living.len() {
                self.next = 0;
            }
            if !self.look_at(self.next, &mut ripe) {
                self.next += 1;
            }
        }
        ripe
    }

    /// As [`collect`](Self::collect), of all versions. Costs O(versions), and what was freed or handed down.
    pub(super) fn collect_all(&mut self) -> Ripe<L> {
        let mut ripe = Ripe::none();
        // From the oldest on, so that a thing is handed down once, to the version that keeps it.
        let mut at = 0;
        while at < self.living.len() {
            at += usize::from(!self.look_at(at, &mut ripe));
        }
        ripe
    }

    /// Whether a version has ended. If it has, it is gone.
    fn look_at(&mut self, at: usize, ripe: &mut Ripe<L>) -> bool {
        let is_newest = at + 1 >= self.living.len();
        // With the count at one nobody else can raise it. `get_mut` reads it with Acquire, and every holder lowers it with
        // Release, so whatever they read has been read by now.
        if is_newest || self.living.get_mut(at).is_none_or(|version| Arc::get_mut(&mut version.life).is_none()) {
            return false;
        }
        let Some(ended) = self.living.remove(at) else { return false };
        let older = at.checked_sub(1).and_then(|before| self.living.get_mut(before));
        let number = older.as_ref().map(|older| older.number);
        let (mut inherited, freed): (Vec<_>, Vec<_>) =
            ended.garbage.into_iter().partition(|one| Some(one.born) <= number);
        older.into_iter().for_each(|older| older.garbage.append(&mut inherited));
        ripe.garbage.extend(freed);
        ripe.ended.push(ended.life);
        true
    }

    /// No versions: what is left in the place of those that were taken out.
    pub(super) fn none() -> Self {
        Self { living: VecDeque::new(), next: 0 }
    }

    /// Everything that still waits, from an owner who is the last to know: it can be freed when no version is left.
    pub(super) fn into_garbage(self) -> Vec<Garbage> {
        self.living.into_iter().flat_map(|version| version.garbage).collect()
    }
}

/// What nobody uses any more, and the lives of the versions that did. All of it is freed when this is dropped: best where
/// nobody waits.
#[must_use]
pub(crate) struct Ripe<L> {
    garbage: Vec<Garbage>,
    ended: Vec<Arc<L>>,
}

impl<L> Ripe<L> {
    fn none() -> Self {
        Self { garbage: Vec::new(), ended: Vec::new() }
    }

    /// Keeps the memory of some nodes for the next ones.
    pub(super) fn keep_some(&mut self, spares: &mut Spares) {
        spares.refill(&mut self.garbage);
    }
}

impl<L> Drop for Ripe<L> {
    #[expect(unsafe_code, reason = "frees what plain pointers led to")]
    fn drop(&mut self) {
        for one in self.garbage.drain(..) {
            // SAFETY: it is only made by `look_at`, of things whose last user has ended and whose other users had ended
            // before: a thing is handed down to the next older living version that may use it, and freed when there is
            // none.
            unsafe { one.free() };
        }
    }
}
