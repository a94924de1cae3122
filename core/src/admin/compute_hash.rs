//! ComputeHash: every replica hashes its data at this entry. No metadata changes (spec section 5.9), but the engine must be
//! up to date: what was applied before is written first (spec section 12.2).

/// A consistency check begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComputeHash {
    /// The host's; carried and not interpreted.
    pub context: Vec<u8>,
}
