//! Faults that a test build can plant, one at a time, to show that the tests would notice it: `./dev mutants` plants them all.
//!
//! Each stands in the code where somebody could make it. Without the feature `mutants` [`planted`] is `false` when the code is
//! compiled, and nothing of it is left.

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A fault, named after its number in the list of docs/proof.md.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[doc = $what])+ $name,)+
        }

        impl Mutant {
            /// Every fault, by name.
            pub const ALL: &[(&str, Self)] = &[$((stringify!($name), Self::$name),)+];
        }
    };
}

mutants! {
    /// A region is put into the map although its id is there already.
    M1,
    /// A request's epoch may be ahead of the region's.
    M2,
    /// A split into several regions moves the version by one.
    M3,
    /// A merge takes the target's version and one more, whatever the source's is.
    M4,
    /// A region that is gone stays in the index of its store.
    M5,
    /// Of the regions that a new one overlaps only the first is looked at.
    M6,
    /// The empty end of a range comes before all keys.
    M7,
    /// Of two stored regions that overlap the one that is found first is taken.
    M8,
    /// The tombstone of a peer that waited for its first snapshot does not name the peer.
    M9,
    /// A tombstone is written in another batch than the change that it belongs to.
    M10,
    /// A changeset is published before its batch is written.
    M11,
    /// A changeset is published though its batch was not written.
    M12,
    /// The marks of a bootstrap are not synced.
    M13,
    /// A checksum does not cover the key.
    M17,
    /// Bytes from outside are not verified.
    M18,
    /// The host is called while a lock is held.
    M19,
    /// PD is asked for a stream ten times in a row.
    M20,
    /// A heartbeat that was sent before is sent in the place of the newest.
    M21,
    /// A view never learns that its region changed.
    M22,
    /// A merge is rolled back for an error that passes.
    M23,
    /// A directory may have two owners.
    M24,
    /// The memory of a batch is kept.
    M25,
    /// A view keeps the whole state that it has looked its region up in.
    M26,
    /// A check compares a thing with itself.
    M27,
    /// A view goes on with the next incarnation of its region.
    M28,
    /// A command that is refused moves the epoch.
    M29,
}

/// Whether a fault is planted in this process: the one that the environment variable `REGIONMETA_MUTANT` names.
#[cfg(feature = "mutants")]
#[must_use]
pub fn planted(mutant: Mutant) -> bool {
    crate::testkit::planted_mutant() == Some(mutant)
}

/// Whether a fault is planted: never in this build.
#[cfg(not(feature = "mutants"))]
#[must_use]
#[inline(always)]
pub const fn planted(mutant: Mutant) -> bool {
    let _ = mutant;
    false
}
