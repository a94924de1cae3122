//! Looking up many keys at once: a group goes down the tree in step, so that their cache misses overlap.

use super::heads::Probe;
use super::node::Node;
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

    fn locate_group<'a>(&'a self, keys: &[&[u8]], mut found: impl FnMut(usize, Option<&'a Region>)) {
        let mut probes = [Probe::new(&[]); GROUP];
        probes.iter_mut().zip(keys).for_each(|(probe, key)| *probe = Probe::new(key));
        let mut nodes = [Some(self.root()); GROUP];
        // All leaves have one depth, so whoever is at a branch shows that the others are.
        while let [Some(Node::Branch(_)), ..] = nodes {
            for (node, probe) in nodes.iter_mut().zip(&probes).take(keys.len()) {
                if let Some(Node::Branch(branch)) = *node {
                    *node = branch.child(branch.position(probe));
                    if let Some(child) = node {
                        child.prefetch();
                    }
                }
            }
        }
        for (at, (node, probe)) in nodes.iter().zip(&probes).take(keys.len()).enumerate() {
            let Some(Node::Leaf(leaf)) = node else { continue };
            found(at, leaf.locate(probe));
        }
    }
}
