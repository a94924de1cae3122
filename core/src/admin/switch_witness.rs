//! BatchSwitchWitness: peers become witnesses, or stop being ones (spec section 5.9).

use std::collections::HashSet;

use super::{AdminError, ApplyContext, Outcome};
use crate::ids::PeerId;
use crate::meta::Reason;
use crate::peer::{Peer, PeerState};
use crate::region::{Region, RegionDraft};

/// One peer's new flag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WitnessSwitch {
    /// Whose.
    pub peer_id: PeerId,
    /// Whether it is a witness from now on.
    pub is_witness: bool,
}

/// The witness flags of some peers change. Each is a change of membership: `conf_ver` moves by their number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchSwitchWitness {
    /// The changes, at most one a peer.
    pub switches: Vec<WitnessSwitch>,
}

pub(super) fn plan(
    current: &Region,
    command: &BatchSwitchWitness,
    context: &ApplyContext<'_>,
) -> Result<Outcome, AdminError> {
    let (region, switches) = (current.id(), &command.switches);
    if switches.is_empty() {
        return Err(AdminError::MissingSwitches { region });
    }
    let mut seen = HashSet::new();
    if let Some(again) = switches.iter().find(|switch| !seen.insert(switch.peer_id)) {
        return Err(AdminError::PeerChangedTwice { region, peer: again.peer_id });
    }
    let mut draft = current.to_draft();
    draft.epoch = draft
        .epoch
        .with_conf_ver_moved(switches.len() as u64)
        .map_err(|cause| AdminError::EpochOverflow { region, cause })?;
    for switch in switches {
        flip(current, &mut draft.peers, *switch)?;
    }
    let state = state_here(current, &draft, context);
    let region = RegionDraft { state, ..draft }.build()?;
    Ok(Outcome::Changed { region, reason: Reason::SwitchWitness })
}

fn flip(current: &Region, peers: &mut [Peer], switch: WitnessSwitch) -> Result<(), AdminError> {
    let (region, peer) = (current.id(), switch.peer_id);
    let existing = peers.iter_mut().find(|existing| existing.id == peer);
    let existing = existing.ok_or(AdminError::SwitchOfUnknownPeer { region, peer })?;
    if existing.is_witness == switch.is_witness {
        return Err(AdminError::NothingToSwitch { region, existing: *existing });
    }
    existing.is_witness = switch.is_witness;
    Ok(())
}

/// A witness that is to hold data has none yet: it waits for a snapshot.
fn state_here(before: &Region, after: &RegionDraft<'_>, context: &ApplyContext<'_>) -> PeerState {
    let was_witness = before.peer_on(context.store_id).is_some_and(|peer| peer.is_witness);
    let mine = after.peers.iter().find(|peer| peer.store_id == context.store_id);
    match was_witness && mine.is_some_and(|peer| !peer.is_witness) {
        true => PeerState::Unavailable,
        false => PeerState::Normal,
    }
}
