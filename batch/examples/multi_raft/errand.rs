//! What a host asks of PD, beside heartbeats. PD may take long to answer and Raft's thread must not wait, so the host only
//! notes down what it wants to know: who drives it asks, and brings the answer.

use regionmeta::{AdminRequest, PeerId, Region, RegionId};
use regionmeta_batch::pd::{PdClient, PdError, Proposal};
use regionmeta_batch::peers::Effect;

use super::Done;
use super::host::Host;

#[derive(Debug)]
pub(crate) enum Errand {
    /// How PD knows the region of a peer that has had no leader for very long.
    LookUp { region: RegionId, peer: PeerId },
    /// Ids for a split at these keys.
    Split { region: Region, keys: Vec<Vec<u8>> },
    /// What a split has made.
    ReportSplit { regions: Vec<Region> },
}

/// What PD has answered.
#[derive(Debug)]
pub(crate) enum Brought {
    Found { region: RegionId, peer: PeerId, known: Option<Region> },
    Split(AdminRequest),
    Nothing,
}

impl Errand {
    pub(crate) fn run(self, pd: &dyn PdClient) -> Result<Brought, PdError> {
        match self {
            Self::LookUp { region, peer } => {
                let known = pd.get_region_by_id(region)?.map(|known| known.region);
                Ok(Brought::Found { region, peer, known })
            }
            Self::Split { region, keys } => Ok(Brought::Split(Proposal::split(pd, &region, keys, false)?)),
            Self::ReportSplit { regions } => pd.report_batch_split(&regions).map(|()| Brought::Nothing),
        }
    }
}

impl Host {
    pub(crate) fn take_in(&mut self, brought: Brought) -> Done {
        match brought {
            Brought::Found { region, peer, known } => {
                self.follow(self.peers.on_pd_region(region, peer, known.as_ref()).into_iter().collect(), None)
            }
            Brought::Split(request) => self.propose(&request),
            Brought::Nothing => Ok(()),
        }
    }

    /// The leader tells PD what its split has made: all those of which PD gets a heartbeat.
    pub(super) fn note_split(&mut self, effects: &[Effect]) {
        if !effects.iter().any(|effect| matches!(effect, Effect::Create { campaign: true, .. })) {
            return;
        }
        let mut regions: Vec<_> = effects.iter().filter_map(|effect| self.reported(effect)).collect();
        regions.sort_by(|a, b| a.start_key().cmp(b.start_key()));
        self.errands.push(Errand::ReportSplit { regions });
    }

    fn reported(&self, effect: &Effect) -> Option<Region> {
        if let Effect::Heartbeat { region } = effect { self.region(*region) } else { None }
    }
}
