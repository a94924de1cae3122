//! Looking up many keys at once: a group goes down the tree in step, so that their cache misses overlap.

use super::cursor::leaf_of;
use super::node::Child;
use super::own::ChildRef;
use super::tree::KeyTree;
use crate::region::Region;

/// Lookups in flight. More than a core's outstanding misses gain nothing.
const GROUP: usize = 16;

impl KeyTree {
    /// Calls `found` with the position of each key and the region that owns it.
    pub(super) fn locate_many<'a>(&'a self, keys: &[&[u8]], mut found: impl FnMut(usize, Option<&'a Region>)) {
        for (group, keys) in keys.chunks(GROUP).enumerate() {
            self.locate_group(keys, |at, region| found(group * GROUP + at, region));
        }
    }

    /// Starts loading what leads to each of these keys, and the region there.
    pub(super) fn prefetch_all<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            let mut group = [&[][..]; GROUP];
            let len = group.iter_mut().zip(keys.by_ref()).map(|(place, key)| *place = key).count();
            self.locate_group(group.get(..len).unwrap_or_default(), |_, _| {});
        }
    }

    fn locate_group<'a>(&'a self, keys: &[&[u8]], mut found: impl FnMut(usize, Option<&'a Region>)) {
        let mut nodes = [Some(self.root()); GROUP];
        // All leaves have one depth, so whoever is at a branch shows that the others are.
        while let Some(ChildRef::Branch(_)) = nodes.first().copied().flatten().map(Child::get) {
            for (node, key) in nodes.iter_mut().zip(keys) {
                *node = node.and_then(|node| step_down(node, key));
            }
        }
        let mut guesses = [None; GROUP];
        for ((node, key), guess) in nodes.iter().zip(keys).zip(&mut guesses) {
            *guess = node.and_then(leaf_of).map(|leaf| leaf.guess_and_prefetch(key));
        }
        for (at, (guess, key)) in guesses.into_iter().zip(keys).enumerate() {
            let region = guess.and_then(|(leaf, guess)| leaf.confirm(guess, key));
            region.into_iter().for_each(Region::prefetch);
            found(at, region.or_else(|| self.locate_by_keys(key)));
        }
    }
}

#[inline(always)]
fn step_down<'a>(node: &'a Child, key: &[u8]) -> Option<&'a Child> {
    let ChildRef::Branch(branch) = node.get() else { return None };
    let child = branch.child(branch.position(key))?;
    child.prefetch_search();
    Some(child)
}
