//! Children of splits that have not asked for votes, because their parent followed (spec section 12.5): the store whose parent
//! leads has children that ask. If it is this store's parent that comes to lead, its children are to ask after all, unless they
//! have found a leader meanwhile.

use std::collections::HashMap;

use regionmeta::RegionId;

/// At most one entry for each peer of the store.
#[derive(Debug, Default)]
pub(super) struct QuietChildren {
    parents: HashMap<RegionId, RegionId>,
    by_parent: HashMap<RegionId, Vec<RegionId>>,
}

impl QuietChildren {
    pub(super) fn add(&mut self, parent: RegionId, child: RegionId) {
        self.parents.insert(child, parent);
        self.by_parent.entry(parent).or_default().push(child);
    }

    /// The parent has a leader, or is gone: nobody waits for it any more. Those that did.
    pub(super) fn take(&mut self, parent: RegionId) -> Vec<RegionId> {
        let children = self.by_parent.remove(&parent).unwrap_or_default();
        for child in &children {
            self.parents.remove(child);
        }
        children
    }

    /// The child has a leader, or is gone.
    pub(super) fn forget(&mut self, child: RegionId) {
        let Some(parent) = self.parents.remove(&child) else { return };
        let Some(children) = self.by_parent.get_mut(&parent) else { return };
        children.retain(|quiet| *quiet != child);
        if children.is_empty() {
            self.by_parent.remove(&parent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_who_has_a_leader() {
        let mut quiet = QuietChildren::default();
        let id = RegionId::new;
        for (parent, child) in [(1, 10), (1, 11), (2, 20), (10, 30)] {
            quiet.add(id(parent), id(child));
        }
        quiet.forget(id(10));
        assert_eq!(quiet.take(id(1)), [id(11)]);
        quiet.forget(id(11));
        quiet.forget(id(20));
        assert_eq!(quiet.take(id(2)), []);
        assert_eq!(quiet.take(id(10)), [id(30)]);
        assert!(quiet.parents.is_empty() && quiet.by_parent.is_empty());
    }
}
