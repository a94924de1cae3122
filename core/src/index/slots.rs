//! A node's entries: a fixed array of which the first so many are in use.

use std::array;

use super::heads::WIDTH;

pub(super) type Slots<T> = [Option<T>; WIDTH];

/// What a node orders its entries by.
pub(super) trait Keyed {
    fn key(&self) -> &[u8];
}

pub(super) fn keys<T: Keyed>(slots: &Slots<T>) -> impl Iterator<Item = &[u8]> + Clone {
    slots.iter().flatten().map(T::key)
}

/// The key at a position; empty if there is nothing.
#[inline]
pub(super) fn key_at<T: Keyed>(slots: &Slots<T>, at: usize) -> &[u8] {
    slots.get(at).and_then(Option::as_ref).map_or(&[], T::key)
}

/// How many entries there are.
pub(super) fn len<T>(slots: &Slots<T>) -> usize {
    slots.iter().position(Option::is_none).unwrap_or(WIDTH)
}

pub(super) fn empty<T>() -> Slots<T> {
    array::from_fn(|_| None)
}

/// The first [`WIDTH`] of `items`.
pub(super) fn fill<T>(items: impl IntoIterator<Item = T>) -> Slots<T> {
    let mut items = items.into_iter().take(WIDTH);
    array::from_fn(|_| items.next())
}

/// Puts an item in front of the one at a position. There must be room for it.
pub(super) fn insert<T>(slots: &mut Slots<T>, at: usize, item: T) {
    if let Some(moved) = slots.get_mut(at..) {
        moved.rotate_right(1);
    }
    if let Some(slot) = slots.get_mut(at) {
        *slot = Some(item);
    }
}

pub(super) fn remove<T>(slots: &mut Slots<T>, at: usize) -> Option<T> {
    let moved = slots.get_mut(at..)?;
    moved.rotate_left(1);
    moved.last_mut()?.take()
}

/// Takes out everything from a position on.
pub(super) fn split_off<T>(slots: &mut Slots<T>, at: usize) -> Slots<T> {
    let moved = slots.get_mut(at..).unwrap_or_default();
    fill(moved.iter_mut().map_while(Option::take))
}

/// Spreads the items of two neighbours: all into the left one if they fit, half and half if not.
pub(super) fn balance<T>(left: &mut Slots<T>, right: &mut Slots<T>) {
    let len = left.iter().chain(right.iter()).flatten().count();
    let share = if len <= WIDTH { len } else { len.div_ceil(2) };
    let mut items = take_all(left).into_iter().chain(take_all(right)).flatten();
    *left = fill(items.by_ref().take(share));
    *right = fill(items);
}

fn take_all<T>(slots: &mut Slots<T>) -> Slots<T> {
    std::mem::replace(slots, empty())
}
