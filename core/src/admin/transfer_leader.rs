//! TransferLeader: a new leader is asked for. Raft does it; no metadata changes (spec section 5.9).

use crate::peer::Peer;

/// One of these peers is to lead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferLeader {
    /// The candidates; the host takes the best. They are not held against the region: the command checks no epoch, so the
    /// membership may have moved on.
    pub transferees: Vec<Peer>,
}
