//! Newtypes for the numbers that name things. They cost nothing, cannot be mixed up, and offer no arithmetic but what makes
//! sense: ids only compare, log indexes have a successor.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $label:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a raw number. No check is made here: a [`Region`](crate::Region) refuses the ids that cannot be.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($label, "{}"), self.0)
            }
        }

        impl From<u64> for $name {
            fn from(raw: u64) -> Self {
                Self(raw)
            }
        }
    };
}

number!(
    /// Names a region. PD's allocator hands it out; it is never 0 and never used twice (spec section 1.1).
    RegionId, "r"
);
number!(
    /// Names one peer, that is one replica of one region on one store. Peer ids come from the same allocator as region ids,
    /// so a later peer of a region on a store always has a larger id than the one before it (spec section 1.3).
    PeerId, "p"
);
number!(
    /// Names a store: the process and the disk that holds peers.
    StoreId, "s"
);
number!(
    /// Names a cluster. Two clusters that meet by accident tell each other apart by it.
    ClusterId, "c"
);
number!(
    /// A Raft term. It orders the leaders of one Raft group and is not comparable between regions.
    Term, "t"
);
number!(
    /// A position in one region's Raft log.
    LogIndex, "i"
);

number!(
    /// The version counter of a [`StoreMeta`](crate::StoreMeta): 0 when it is empty, one more with each changeset, or
    /// report of sizes, that is published. It orders everything that one store's readers can see; it is not stored and means nothing elsewhere.
    Sequence, "#"
);

impl LogIndex {
    /// The index after this one; `None` at the end of the number range.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_tells_ids_apart_in_logs() {
        assert_eq!(format!("{:?} {}", RegionId::new(7), RegionId::new(7)), "r7 7");
        assert_eq!(format!("{:?}", PeerId::new(7)), "p7");
    }

    #[test]
    fn the_last_log_index_has_no_successor() {
        assert_eq!(LogIndex::new(5).next(), Some(LogIndex::new(6)));
        assert_eq!(LogIndex::new(u64::MAX).next(), None);
    }
}
