//! What the commands of a merge have in common: which two regions can become one.

use super::AdminError;
use crate::peer::Peer;
use crate::region::Region;

/// Whether two regions are neighbours on the same stores, with the same roles and witnesses. From the descriptors alone, so
/// every replica says the same.
pub(super) fn check_partners(region: &Region, partner: &Region) -> Result<(), AdminError> {
    let id = region.id();
    let (ours, theirs) = (region.range(), partner.range());
    if id == partner.id() || !(ours.touches(theirs) || theirs.touches(ours)) {
        return Err(AdminError::NotSiblings { region: id, partner: partner.clone() });
    }
    if !same_places(region, partner) {
        return Err(AdminError::OtherPeers { region: id, partner: partner.clone() });
    }
    Ok(())
}

fn same_places(a: &Region, b: &Region) -> bool {
    let has_twin = |peer: Peer| b.peer_on(peer.store_id).is_some_and(|twin| place(twin) == place(peer));
    a.peers().len() == b.peers().len() && a.peers().all(has_twin)
}

fn place(peer: Peer) -> Peer {
    Peer { id: 0.into(), ..peer }
}

/// The peer that puts a region into joint state, if one does.
pub(super) fn joint_peer(region: &Region) -> Option<Peer> {
    region.peers().find(|peer| peer.role.is_joint())
}
