//! [`Snapshot::check_epoch`]: may a request of this epoch still be served?

use super::Snapshot;
use crate::epoch::{EpochHalves, RegionEpoch};
use crate::ids::RegionId;
use crate::index::Entry;
use crate::region::Region;

/// Why a request may not be served by the region that it names.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EpochRefusal {
    /// The map does not have the region: it was merged or destroyed, or it lives on another store.
    #[error("region {region} is not in the map: it was merged, destroyed or never created")]
    RegionNotFound {
        /// The region that was asked for.
        region: RegionId,
    },
    /// The epochs differ in a half that is checked. The request may be older than the region, or newer.
    #[error("a request of epoch {asked} does not match {current}")]
    EpochNotMatch {
        /// The epoch of the request.
        asked: RegionEpoch,
        /// The region as it is here, so that the client learns of it.
        current: Region,
    },
}

impl Snapshot {
    /// The region `id`, if those halves of its epoch that `halves` names equal `epoch`. One lookup by id; no allocation,
    /// and a refusal shares the region's buffer.
    ///
    /// # Errors
    /// [`EpochRefusal`]: there is no such region, or it has another epoch, older or newer.
    pub fn check_epoch(
        &self,
        id: RegionId,
        epoch: RegionEpoch,
        halves: EpochHalves,
    ) -> Result<Entry<'_>, EpochRefusal> {
        let entry = self.get(id).ok_or(EpochRefusal::RegionNotFound { region: id })?;
        if entry.region().epoch().matches(epoch, halves) {
            return Ok(entry);
        }
        Err(EpochRefusal::EpochNotMatch { asked: epoch, current: entry.region().clone() })
    }
}
