//! Who a store is.

use crate::ids::{ClusterId, StoreId};

/// Identity of a store, written once when it is bootstrapped (spec section 1.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StoreIdent {
    /// The cluster that the store belongs to.
    pub cluster_id: ClusterId,
    /// The store's own id, never 0.
    pub store_id: StoreId,
    /// How the host encodes its data keys; this library only compares it.
    pub api_version: u32,
}
