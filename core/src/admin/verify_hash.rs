//! VerifyHash: every replica compares its hash with the leader's. No metadata changes (spec section 5.9).

use crate::ids::LogIndex;

/// A consistency check ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyHash {
    /// The entry of the ComputeHash.
    pub index: LogIndex,
    /// The leader's hash.
    pub hash: Vec<u8>,
    /// The host's; carried and not interpreted.
    pub context: Vec<u8>,
}
