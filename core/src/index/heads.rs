//! [`Heads`]: how a node tells its keys apart without looking at them.
//!
//! For each key a node keeps eight bytes, and searches those. Which eight is the node's own choice: four columns from the
//! first one in which its keys differ, and four more from the next one in which they differ. Real keys need both: in
//! `t<table>_r<row>` the table tells some keys apart and the row the others, with bytes between them that are equal in all.
//!
//! The columns in front of either window are the same in every key of the node, so one copy of them, the template, is
//! enough to compare a probe with all keys at once. A probe that matches the template is ordered by its eight bytes; one
//! that does not lies before or behind whole runs of keys. Keys themselves are read only when eight bytes tie.
//!
//! A key counts as if it went on with zeroes. That can make two keys look equal, never swap them: whatever is decided here
//! is decided by a column in which they differ, and a tie is settled by the keys.

use std::array;
use std::cmp::Ordering;

use super::slots::{Keyed, Slots, key_at, keys};

/// The most entries of a node, and the unit of every fixed array in it.
pub(super) const WIDTH: usize = 32;

/// The search looks at the first of each block, then into one block.
const BLOCK: usize = 8;
const BLOCKS: usize = WIDTH / BLOCK;

/// A window into the key; two of them make a head.
const WINDOW: usize = 4;
/// The columns that a template can hold, and in which windows can begin.
const COLUMNS: usize = WORDS * 8;
const WORDS: usize = 4;
/// The last column at which the first window may begin, so that the second one has room.
const FIRST_MAX: usize = COLUMNS - WINDOW;

/// A key that is searched for, brought into the form that nodes compare with. Made once for a whole descent.
#[derive(Clone, Copy)]
pub(super) struct Probe<'k> {
    pub(super) key: &'k [u8],
    /// Its first columns as numbers, then what a window may reach beyond them.
    words: [u64; WORDS + 2],
}

impl<'k> Probe<'k> {
    #[inline]
    pub(super) fn new(key: &'k [u8]) -> Self {
        Self::behind(key, 0)
    }

    /// A probe of what follows the first `base` bytes.
    #[inline]
    fn behind(key: &'k [u8], base: usize) -> Self {
        let rest = key.get(base..).unwrap_or(&[]);
        Self { key, words: array::from_fn(|at| word(rest, at * 8)) }
    }

    /// Four columns from `column` on.
    #[inline(always)]
    fn window(&self, column: u8) -> u64 {
        let word = |at: usize| self.words.get(at).map_or(0, |word| u128::from(*word));
        let (at, bits) = (usize::from(column / 8), u32::from(column % 8) * 8);
        ((word(at) << 64 | word(at + 1)) << bits >> 96) as u64
    }
}

/// Eight bytes of a key as a number that sorts as they do; zeroes behind its end.
#[inline(always)]
fn word(key: &[u8], from: usize) -> u64 {
    match (key.get(from..).and_then(|rest| rest.first_chunk()), key.last_chunk()) {
        (Some(whole), _) => u64::from_be_bytes(*whole),
        // The last eight bytes, without those in front of `from`.
        (None, Some(last)) => {
            let bits = (from + 8 - key.len()) * 8;
            u64::from_be_bytes(*last).checked_shl(bits as u32).unwrap_or(0)
        }
        (None, None) if from == 0 => key.iter().rev().fold(0, |word, byte| word >> 8 | u64::from(*byte) << 56),
        (None, None) => 0,
    }
}

/// The heads of a node's keys, in key order.
#[derive(Clone)]
pub(super) struct Heads {
    /// The columns that all keys share, in front of either window.
    template: [u64; WORDS],
    /// All ones in those columns.
    mask: [u64; WORDS],
    /// Columns count from here. 0, unless the keys have more in common than a template can hold.
    base: u32,
    first: u8,
    second: u8,
    len: u8,
    /// 1 if the first key is the empty one, 0 if not. Every probe is at or behind the empty key, so it need not be told
    /// apart from the others, and does not count when columns are chosen.
    lowest: u8,
    /// Unused ones are `u64::MAX`.
    heads: [[u64; BLOCK]; BLOCKS],
}

impl Heads {
    /// The heads of a node's entries, which are in order of their keys.
    pub(super) fn of<T: Keyed>(slots: &Slots<T>) -> Self {
        let mut heads = Self::layout(keys(slots));
        for (at, key) in keys(slots).enumerate() {
            let head = if key.is_empty() { 0 } else { heads.head(&Probe::behind(key, heads.base())) };
            heads.put(at, head);
        }
        heads
    }

    /// Chooses the columns.
    fn layout<'k>(keys: impl Iterator<Item = &'k [u8]> + Clone) -> Self {
        let lowest = keys.clone().take(1).filter(|key| key.is_empty()).count();
        let keys = keys.skip(lowest);
        let first_key = keys.clone().next().unwrap_or(&[]);
        let mut base = 0;
        let mut differ = differing(keys.clone(), first_key, base);
        if next_column(&differ, 0).is_none_or(|column| column > FIRST_MAX) {
            base = common_prefix(first_key, keys.clone().last().unwrap_or(&[]));
            differ = differing(keys, first_key, base);
        }
        let first = next_column(&differ, 0).unwrap_or(0);
        let second = next_column(&differ, first + WINDOW).unwrap_or(first + WINDOW);
        let mask = array::from_fn(|word| {
            ones_before(first, word) | (ones_before(second, word) & !ones_before(first + WINDOW, word))
        });
        let words = Probe::behind(first_key, base).words;
        Self {
            template: array::from_fn(|word| words.get(word).unwrap_or(&0) & mask.get(word).unwrap_or(&0)),
            mask,
            base: base as u32,
            first: first as u8,
            second: second as u8,
            len: 0,
            lowest: lowest as u8,
            heads: [[u64::MAX; BLOCK]; BLOCKS],
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    fn base(&self) -> usize {
        self.base as usize
    }

    /// How many keys are at most the probe's.
    #[inline(always)]
    pub(super) fn position<T: Keyed>(&self, probe: &Probe<'_>, slots: &Slots<T>) -> usize {
        let position = match self.base {
            0 => self.position_in_columns(probe, slots),
            _ => self.position_behind_base(probe, slots),
        };
        position.max(usize::from(self.lowest))
    }

    #[inline(always)]
    fn position_in_columns<T: Keyed>(&self, probe: &Probe<'_>, slots: &Slots<T>) -> usize {
        if self.mismatch(probe) != 0 {
            return self.position_by_template(probe);
        }
        let head = self.head(probe);
        let position = self.count_at_most(head);
        if self.get(position.wrapping_sub(1)) != Some(head) {
            return position;
        }
        self.position_in_tie(position, probe, slots)
    }

    /// The keys share more than a template holds: the shared part is compared with that of the first key.
    #[cold]
    #[inline(never)]
    fn position_behind_base<T: Keyed>(&self, probe: &Probe<'_>, slots: &Slots<T>) -> usize {
        let shared = prefix(key_at(slots, usize::from(self.lowest)), self.base());
        match prefix(probe.key, self.base()).cmp(shared) {
            Ordering::Less => 0,
            Ordering::Greater => self.len(),
            Ordering::Equal => {
                let behind = Probe::behind(probe.key, self.base());
                self.position_in_columns(&behind, slots)
            }
        }
    }

    /// The probe differs from all keys in a column of the template, which puts it in front of them all or behind them all;
    /// if that column lies between the windows, then all that have its first window.
    #[cold]
    fn position_by_template(&self, probe: &Probe<'_>) -> usize {
        let masked = probe.words.iter().zip(&self.mask).map(|(word, mask)| word & mask);
        let order = masked.cmp(self.template.iter().copied());
        let differ = array::from_fn(|at| {
            let word = |of: &[u64]| of.get(at).copied().unwrap_or(0);
            (word(&probe.words) ^ word(&self.template)) & word(&self.mask)
        });
        if next_column(&differ, 0).is_some_and(|column| column < usize::from(self.first)) {
            return if order == Ordering::Less { 0 } else { self.len() };
        }
        let window = probe.window(self.first) << 32;
        match order {
            Ordering::Less => self.iter().filter(|head| *head < window).count(),
            _ => self.iter().filter(|head| *head <= window | u64::from(u32::MAX)).count(),
        }
    }

    /// The head of the probe is that of the key in front of `position`, and perhaps of more: only the keys can tell.
    #[cold]
    #[inline(never)]
    fn position_in_tie<T: Keyed>(&self, position: usize, probe: &Probe<'_>, slots: &Slots<T>) -> usize {
        let head = self.get(position.wrapping_sub(1));
        let (mut low, mut high) = (self.iter().take_while(|before| Some(*before) < head).count(), position);
        while low < high {
            let middle = low.midpoint(high);
            if key_at(slots, middle) <= probe.key { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Not 0 if the probe differs from the keys in a column that they share.
    #[inline(always)]
    fn mismatch(&self, probe: &Probe<'_>) -> u64 {
        let words = probe.words.iter().zip(&self.template).zip(&self.mask);
        words.fold(0, |found, ((word, template), mask)| found | ((word ^ template) & mask))
    }

    #[inline(always)]
    fn head(&self, probe: &Probe<'_>) -> u64 {
        probe.window(self.first) << 32 | probe.window(self.second)
    }

    /// How many heads are at most `head`, without a branch on any of them.
    #[inline(always)]
    fn count_at_most(&self, head: u64) -> usize {
        let begun: usize = self.heads.iter().map(|[first, ..]| usize::from(*first <= head)).sum();
        let block = begun.saturating_sub(1);
        // Halving takes no branch either, and compiles to less than adding up eight comparisons does.
        let mut inside = 0;
        if let Some(heads) = self.heads.get(block) {
            for step in [4, 2, 1] {
                let middle = heads.get(inside + step - 1).copied().unwrap_or(u64::MAX);
                inside += step * usize::from(middle <= head);
            }
            inside += usize::from(heads.get(inside).copied().unwrap_or(u64::MAX) <= head);
        }
        (block * BLOCK + inside).min(self.len())
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.heads.as_flattened().iter().copied().take(self.len())
    }

    #[inline(always)]
    fn get(&self, at: usize) -> Option<u64> {
        self.heads.as_flattened().get(at).copied()
    }

    fn put(&mut self, at: usize, head: u64) {
        if at < WIDTH {
            let len = self.len();
            if let Some(heads) = self.heads.as_flattened_mut().get_mut(at..=len) {
                heads.rotate_right(1);
            }
            if let Some(slot) = self.heads.as_flattened_mut().get_mut(at) {
                *slot = head;
            }
            self.len += 1;
        }
    }

    /// Follows an entry that was put in at a position. Chooses the columns anew if they do not suit its key.
    pub(super) fn inserted<T: Keyed>(&mut self, at: usize, slots: &Slots<T>) {
        let head = self.fitting(at, self.len(), slots);
        let tied = |head| self.get(at.wrapping_sub(1)) == Some(head) || (at < self.len() && self.get(at) == Some(head));
        match head.filter(|head| !tied(*head)) {
            Some(head) => self.put(at, head),
            None => *self = Self::of(slots),
        }
    }

    /// Follows an entry whose key has changed.
    pub(super) fn changed<T: Keyed>(&mut self, at: usize, slots: &Slots<T>) {
        let head = self.fitting(at, self.len().saturating_sub(1), slots);
        match (head, self.heads.as_flattened_mut().get_mut(at)) {
            (Some(head), Some(slot)) if at > 0 || self.lowest == 0 => *slot = head,
            _ => *self = Self::of(slots),
        }
    }

    /// The head of the key at a position, if the columns suit it: it shares what all others share. `last` is the last
    /// position, whose key stands for the others, or the one in front of it does.
    fn fitting<T: Keyed>(&self, at: usize, last: usize, slots: &Slots<T>) -> Option<u64> {
        let (key, other) = (key_at(slots, at), key_at(slots, if at == last { last.wrapping_sub(1) } else { last }));
        let probe = Probe::behind(key, self.base());
        let fits = prefix(key, self.base()) == prefix(other, self.base()) && self.mismatch(&probe) == 0;
        (fits && !key.is_empty()).then(|| self.head(&probe))
    }

    /// The heads from a position on leave. Both parts keep the columns, which tell fewer keys apart just as well, so that no
    /// key is read.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self { lowest: if at == 0 { self.lowest } else { 0 }, ..self.clone() };
        right.heads.as_flattened_mut().rotate_left(at.min(WIDTH));
        right.truncate(self.len().saturating_sub(at));
        self.truncate(at);
        right
    }

    fn truncate(&mut self, len: usize) {
        self.heads.as_flattened_mut().iter_mut().skip(len).for_each(|head| *head = u64::MAX);
        self.len = self.len.min(len as u8);
    }

    pub(super) fn remove(&mut self, at: usize) {
        let len = self.len();
        if let Some(heads) = self.heads.as_flattened_mut().get_mut(at..len) {
            heads.rotate_left(1);
            heads.last_mut().into_iter().for_each(|last| *last = u64::MAX);
            self.len -= 1;
            if at == 0 {
                self.lowest = 0;
            }
        }
    }
}

fn prefix(key: &[u8], bytes: usize) -> &[u8] {
    key.get(..bytes).unwrap_or(key)
}

fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

/// Not 0 in every column in which some key differs from `first`.
fn differing<'k>(keys: impl Iterator<Item = &'k [u8]>, first: &[u8], base: usize) -> [u64; WORDS] {
    let first = Probe::behind(first, base).words;
    keys.fold([0; WORDS], |mut differ, key| {
        let words = Probe::behind(key, base).words;
        differ.iter_mut().zip(words.iter().zip(&first)).for_each(|(differ, (word, first))| *differ |= word ^ first);
        differ
    })
}

/// The first column from `from` on that is not 0.
fn next_column(words: &[u64; WORDS], from: usize) -> Option<usize> {
    let mut words = words.iter().enumerate().map(|(at, word)| (at, word & !ones_before(from, at)));
    words.find(|(_, word)| *word != 0).map(|(at, word)| at * 8 + word.leading_zeros() as usize / 8)
}

/// All ones in those columns of a word that come before `column`.
fn ones_before(column: usize, word: usize) -> u64 {
    let columns = column.saturating_sub(word * 8).min(8) as u32;
    !u64::MAX.checked_shr(columns * 8).unwrap_or(0)
}
