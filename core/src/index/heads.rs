//! [`Heads`]: how a node tells its keys apart without looking at them.
//!
//! For each key a node keeps eight bytes, and searches those. Which eight is the node's own choice: four columns from the
//! first one in which its keys differ, and four more from the next one in which they differ. Real keys need both: in
//! `t<table>_r<row>` the table tells some keys apart and the row the others, with bytes between them that are equal in all.
//!
//! A search only looks at heads. It is a guess, right for every key that has in common with the node's keys what they have
//! in common with one another. A branch is content with the guess; a leaf then proves it: it has a copy of the columns that
//! its keys share, the template, and a key that matches it and lies between two heads lies between their keys, whichever way
//! the search came. What no template proves, a look at the keys does.
//!
//! A key counts as if it went on with zeroes. That can make two keys look equal, never swap them: whatever is decided here
//! is decided by a column in which they differ, and a tie is settled by the keys.

use std::array;

use super::node::Links;
use super::slots::{self, Keyed, Slots, key_at, keys};

/// The most entries of a node, and the unit of every fixed array in it.
pub(super) const WIDTH: usize = 32;

/// The search looks at the first of each block, then into one block.
const BLOCK: usize = 8;
const BLOCKS: usize = WIDTH / BLOCK;

/// A window into the key; two of them make a head.
const WINDOW: usize = 4;
/// The columns of the template: the last ones in front of the second window.
const COLUMNS: usize = WORDS * 8;
const WORDS: usize = 3;
/// How far behind the first window the second one may begin, so that the template reaches from one to the other.
const SECOND_MAX: usize = COLUMNS - WINDOW;

/// The heads of a node's keys, in key order. Laid out so that all but the heads shares a cache line with a node's version.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Heads {
    /// The columns that all keys share, from `base` to the second window.
    template: [u64; WORDS],
    /// All ones in those columns.
    mask: [u64; WORDS],
    /// The first column of the template. Not 0 for keys that have more in common than a template holds.
    base: u16,
    /// Where the windows begin, counted from `base`.
    first: u8,
    second: u8,
    /// Of the leaf that has these heads.
    pub(super) links: Links,
    /// Unused ones are `u64::MAX`.
    heads: [[u64; BLOCK]; BLOCKS],
}

impl Heads {
    /// The heads of a node's entries, which are in order of their keys.
    pub(super) fn of<T: Keyed>(slots: &Slots<T>) -> Self {
        let mut heads = Self::layout(keys(slots));
        for (at, key) in keys(slots).enumerate() {
            let head = heads.head_of(key);
            heads.set(at, head);
        }
        heads
    }

    /// Chooses the columns. The empty key does not count: its head, 0, is at most that of any other.
    fn layout<'k>(keys: impl Iterator<Item = &'k [u8]> + Clone) -> Self {
        let keys = keys.filter(|key| !key.is_empty());
        let some_key = keys.clone().next().unwrap_or(&[]);
        let last_key = keys.clone().last().unwrap_or(&[]);
        let first = differing_column(keys.clone(), some_key, shared_columns(some_key, last_key)).unwrap_or(0);
        let adjacent = first + WINDOW;
        let second = differing_column(keys, some_key, adjacent).unwrap_or(adjacent);
        let second = if second - first > SECOND_MAX { adjacent } else { second };
        // Keys are at most 64 KiB long; of two that differ only at the very end, the last columns do not fit.
        let base = second.saturating_sub(COLUMNS).min(usize::from(u16::MAX));
        let mask = array::from_fn(|at| {
            let ones = |column: usize| ones_before(column.saturating_sub(base), at);
            ones(first) | (ones(second) & !ones(adjacent))
        });
        let template = array::from_fn(|at| word(some_key, base + at * 8) & mask.get(at).unwrap_or(&0));
        Self {
            template,
            mask,
            base: base as u16,
            first: (first - base).min(COLUMNS) as u8,
            second: (second - base).min(COLUMNS) as u8,
            links: Links::default(),
            heads: [[u64::MAX; BLOCK]; BLOCKS],
        }
    }

    /// How many keys are at most `key`, as far as the heads can tell.
    #[inline(always)]
    pub(super) fn guess(&self, key: &[u8]) -> Guess {
        let head = self.head(key);
        let position = self.count_at_most(head);
        Guess { position, is_tie: self.get(position.wrapping_sub(1)) == Some(head) }
    }

    /// Whether the key has in common with the node's keys what they have in common with one another, so that a guess is
    /// right unless it is a tie.
    #[inline(always)]
    pub(super) fn suits(&self, key: &[u8]) -> bool {
        self.matches(key) && self.base == 0
    }

    /// Whether the key has the columns of the template.
    #[inline(always)]
    fn matches(&self, key: &[u8]) -> bool {
        let base = usize::from(self.base);
        let words = self.template.iter().zip(&self.mask).enumerate();
        let differing =
            words.fold(0, |found, (at, (template, mask))| found | ((word(key, base + at * 8) ^ template) & mask));
        differing == 0
    }

    /// How many keys are at most `key`: the guess, set right by the keys where it is wrong.
    pub(super) fn position<T: Keyed>(&self, key: &[u8], slots: &Slots<T>) -> usize {
        let len = slots::len(slots);
        let guess = self.guess(key).position.min(len);
        let (mut low, mut high) = match guess.checked_sub(1) {
            Some(before) if key_at(slots, before) > key => (0, before),
            _ if guess < len && key_at(slots, guess) <= key => (guess + 1, len),
            _ => return guess,
        };
        while low < high {
            let middle = low.midpoint(high);
            if key_at(slots, middle) <= key { low = middle + 1 } else { high = middle }
        }
        low
    }

    #[inline(always)]
    fn head(&self, key: &[u8]) -> u64 {
        let base = usize::from(self.base);
        window(key, base + usize::from(self.first)) << 32 | window(key, base + usize::from(self.second))
    }

    fn head_of(&self, key: &[u8]) -> u64 {
        if key.is_empty() { 0 } else { self.head(key) }
    }

    /// How many heads are at most `head`, without a branch on any of them. Unused ones count if `head` is the largest there
    /// is, which is a tie then.
    #[inline(always)]
    fn count_at_most(&self, head: u64) -> usize {
        let [_, others @ ..] = &self.heads;
        let block: usize = others.iter().map(|[first, ..]| usize::from(*first <= head)).sum();
        // Halving takes no branch either, and compiles to less than adding up eight comparisons does.
        let mut inside = 0;
        if let Some(heads) = self.heads.get(block) {
            for step in [4, 2, 1] {
                let middle = heads.get(inside + step - 1).copied().unwrap_or(u64::MAX);
                inside += step * usize::from(middle <= head);
            }
            inside += usize::from(heads.get(inside).copied().unwrap_or(u64::MAX) <= head);
        }
        block * BLOCK + inside
    }

    #[inline(always)]
    fn get(&self, at: usize) -> Option<u64> {
        self.heads.as_flattened().get(at).copied()
    }

    fn set(&mut self, at: usize, head: u64) {
        if let Some(slot) = self.heads.as_flattened_mut().get_mut(at) {
            *slot = head;
        }
    }

    /// Follows an entry that was put in at a position. Chooses the columns anew if they do not suit its key.
    pub(super) fn inserted<T: Keyed>(&mut self, at: usize, slots: &Slots<T>) {
        let head = self.fitting(at, slots);
        let tied = |head| self.get(at.wrapping_sub(1)) == Some(head) || self.get(at) == Some(head);
        match (head.filter(|head| !tied(*head)), self.heads.as_flattened_mut().get_mut(at..)) {
            (Some(head), Some(moved)) => {
                moved.rotate_right(1);
                self.set(at, head);
            }
            _ => self.choose_anew(slots),
        }
    }

    /// Follows an entry whose key has changed.
    pub(super) fn changed<T: Keyed>(&mut self, at: usize, slots: &Slots<T>) {
        match self.fitting(at, slots) {
            Some(head) => self.set(at, head),
            None => self.choose_anew(slots),
        }
    }

    fn choose_anew<T: Keyed>(&mut self, slots: &Slots<T>) {
        *self = Self { links: self.links, ..Self::of(slots) };
    }

    /// The head of the key at a position, if the columns suit it: it shares what all others share.
    fn fitting<T: Keyed>(&self, at: usize, slots: &Slots<T>) -> Option<u64> {
        let key = key_at(slots, at);
        if key.is_empty() {
            return Some(0);
        }
        (self.matches(key) && self.shares_base(at, slots)).then(|| self.head(key))
    }

    /// Whether the key at a position shares the columns in front of the template with the others.
    fn shares_base<T: Keyed>(&self, at: usize, slots: &Slots<T>) -> bool {
        let base = usize::from(self.base);
        if base == 0 {
            return true;
        }
        // The last key stands for the others, or the one in front of it does. The empty key shares nothing.
        let last = slots::len(slots).saturating_sub(1);
        let other = key_at(slots, if at == last { last.wrapping_sub(1) } else { last });
        !other.is_empty() && shared_columns_up_to(key_at(slots, at), other, base) == base
    }

    /// The heads from a position on leave. Both parts keep the columns, which tell fewer keys apart just as well, so that no
    /// key is read.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self { links: self.links.split_off(at), ..self.clone() };
        right.heads.as_flattened_mut().rotate_left(at.min(WIDTH));
        right.truncate(WIDTH.saturating_sub(at));
        self.truncate(at);
        right
    }

    fn truncate(&mut self, len: usize) {
        self.heads.as_flattened_mut().iter_mut().skip(len).for_each(|head| *head = u64::MAX);
    }

    pub(super) fn remove(&mut self, at: usize) {
        if let Some(moved) = self.heads.as_flattened_mut().get_mut(at..) {
            moved.rotate_left(1);
            self.set(WIDTH - 1, u64::MAX);
        }
    }
}

/// What heads say about a key.
#[derive(Clone, Copy)]
pub(super) struct Guess {
    /// How many keys are at most that key, if the node's columns suit it and it is no tie.
    pub(super) position: usize,
    /// The key has the same head as the last of these, so that only the keys can tell.
    pub(super) is_tie: bool,
}

/// Four bytes of a key as a number that sorts as they do; zeroes behind its end.
#[inline(always)]
fn window(key: &[u8], from: usize) -> u64 {
    match key.get(from..).and_then(|rest| rest.first_chunk()) {
        Some(whole) => u64::from(u32::from_be_bytes(*whole)),
        None => window_at_end(key, from),
    }
}

#[cold]
#[inline(never)]
fn window_at_end(key: &[u8], from: usize) -> u64 {
    word(key, from) >> 32
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
        (None, None) => word_of_short(key, from),
    }
}

/// Of a key that has less than eight bytes.
#[inline(never)]
fn word_of_short(key: &[u8], from: usize) -> u64 {
    key.get(from..).unwrap_or(&[]).iter().rev().fold(0, |word, byte| word >> 8 | u64::from(*byte) << 56)
}

/// How many columns two keys share, none of which lies behind the end of both.
fn shared_columns(left: &[u8], right: &[u8]) -> usize {
    shared_columns_up_to(left, right, left.len().max(right.len()))
}

fn shared_columns_up_to(left: &[u8], right: &[u8], columns: usize) -> usize {
    let differs = |at: &usize| word(left, *at) != word(right, *at);
    let at = (0..columns).step_by(8).find(differs).unwrap_or(columns);
    (at + (word(left, at) ^ word(right, at)).leading_zeros() as usize / 8).min(columns)
}

/// The first column from `from` on in which some key differs from `one`.
fn differing_column<'k>(keys: impl Iterator<Item = &'k [u8]>, one: &[u8], from: usize) -> Option<usize> {
    keys.filter_map(|key| differs_from(key, one, from)).min()
}

fn differs_from(key: &[u8], one: &[u8], from: usize) -> Option<usize> {
    let end = key.len().max(one.len());
    let at = (from..end).step_by(8).find(|at| word(key, *at) != word(one, *at))?;
    Some(at + (word(key, at) ^ word(one, at)).leading_zeros() as usize / 8)
}

/// All ones in those columns of a word that come before `column`.
fn ones_before(column: usize, word: usize) -> u64 {
    let columns = column.saturating_sub(word * 8).min(8) as u32;
    !u64::MAX.checked_shr(columns * 8).unwrap_or(0)
}
