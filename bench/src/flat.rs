//! The limits' descriptor: what a look-up reads of a region, in one cache line.

use regionmeta::RegionEpoch;

use crate::inline_key::InlineKey;
use crate::map::{Failure, Found};
use crate::model::RegionSpec;

/// A region of at most 23-byte keys, in exactly one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct FlatRegion {
    /// Inclusive.
    pub start: InlineKey,
    /// Exclusive.
    pub end: InlineKey,
    id: u64,
    conf_ver: u32,
    version: u32,
}

const _: () = assert!(size_of::<FlatRegion>() == 64);

impl FlatRegion {
    /// The flat form of a region.
    ///
    /// # Errors
    /// [`Failure::KeyTooLong`].
    pub fn new(spec: &RegionSpec<'_>) -> Result<Self, Failure> {
        Ok(Self {
            start: InlineKey::new(spec.range.start)?,
            end: InlineKey::end(spec.range.end)?,
            id: spec.id,
            conf_ver: spec.epoch.conf_ver as u32,
            version: spec.epoch.version as u32,
        })
    }

    /// Whether the region owns a key.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: &InlineKey) -> bool {
        !key.is_before(&self.start) & key.is_before(&self.end) // without a branch that depends on the keys
    }

    /// The answer to a look-up that ended here.
    #[inline]
    #[must_use]
    pub fn found(&self) -> Found {
        Found { id: self.id, epoch: RegionEpoch::new(self.conf_ver.into(), self.version.into()) }
    }
}
