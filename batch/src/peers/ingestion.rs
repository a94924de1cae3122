//! The last step of a snapshot: its data comes in, and a destroy that meets it waits, or takes its place (spec section 10).

use std::collections::HashMap;

use regionmeta::{PeerId, PeerState, Region, RegionDraft, RegionId};

use super::{Destroyed, Effect, Peers, SnapshotError};
use crate::apply::ApplyError;
use crate::storage::Storage;

/// How a snapshot ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Finished {
    /// The region is Normal: add it to the pool.
    Normal(Region),
    /// The peer was to be destroyed meanwhile, and now it was.
    Destroyed {
        /// What is left of it.
        tombstone: Region,
        /// What the host has to do.
        effects: Vec<Effect>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ingestion {
    Running {
        then_destroy: Option<PeerId>,
    },
    /// The peer is being destroyed.
    Cancelled,
}

/// At most one for each region that is Applying.
#[derive(Debug, Default)]
pub(super) struct Ingestions {
    by_region: HashMap<RegionId, Ingestion>,
}

impl Ingestions {
    /// Keeps data from coming in; `false` if it does already.
    pub(super) fn cancel(&mut self, region: RegionId) -> bool {
        *self.by_region.entry(region).or_insert(Ingestion::Cancelled) == Ingestion::Cancelled
    }

    /// Whether a peer can be destroyed now; if not, that is remembered.
    pub(super) fn cancel_for(&mut self, region: RegionId, peer: PeerId) -> bool {
        let cancelled = self.cancel(region);
        if let Some(Ingestion::Running { then_destroy }) = self.by_region.get_mut(&region) {
            *then_destroy = Some(peer);
        }
        cancelled
    }

    /// The destroy is done, or has failed.
    pub(super) fn cancelled(&mut self, region: RegionId) {
        if self.by_region.get(&region) == Some(&Ingestion::Cancelled) {
            self.by_region.remove(&region);
        }
    }

    /// The data is there. Who is to be destroyed.
    fn finish(&mut self, region: RegionId) -> Option<PeerId> {
        match self.by_region.remove(&region)? {
            Ingestion::Running { then_destroy } => then_destroy,
            Ingestion::Cancelled => None,
        }
    }

    fn start(&mut self, region: RegionId) -> bool {
        let is_new = !self.by_region.contains_key(&region);
        self.by_region.entry(region).or_insert(Ingestion::Running { then_destroy: None });
        is_new
    }
}

impl<S: Storage> Peers<S> {
    /// Asks whether the data of a persisted snapshot is still wanted, right before the region's range is cleared and filled.
    /// If so, a destroy waits for [`finish_snapshot`](Self::finish_snapshot). `false` if the peer is gone or going, if the
    /// region is not Applying, or if this was asked before.
    #[must_use]
    pub fn start_ingestion(&self, region: RegionId) -> bool {
        let mut state = self.lock();
        let snapshot = self.store().meta().snapshot();
        let applies = snapshot.get(region).is_some_and(|entry| entry.region().state() == PeerState::Applying);
        applies && state.ingestions.start(region)
    }

    /// The data of the region is there: it is Normal from now on, unless its peer was to be destroyed meanwhile. One synced
    /// write; two more for a destroy.
    ///
    /// # Errors
    /// [`SnapshotError`]; after a failed write the store is poisoned.
    pub fn finish_snapshot(&self, region: RegionId) -> Result<Finished, SnapshotError> {
        let mut batch = self.store().begin();
        let current = batch.region(region).ok_or(ApplyError::RegionNotFound { region })?;
        if current.state() != PeerState::Applying {
            return Err(SnapshotError::NotApplying { region, state: current.state() });
        }
        let normal = RegionDraft { state: PeerState::Normal, ..current.to_draft() }.build()?;
        batch.finish_snapshot(&normal)?;
        batch.commit()?;
        let Some(peer) = self.lock().ingestions.finish(region) else { return Ok(Finished::Normal(normal)) };
        Ok(match self.destroy(region, peer)? {
            Destroyed::Buried { tombstone, effects } => Finished::Destroyed { tombstone, effects },
            // Nobody splits or ingests a region that is initialized and in nobody's pool.
            Destroyed::Replaced | Destroyed::NotYet | Destroyed::Later => Finished::Normal(normal),
        })
    }
}
