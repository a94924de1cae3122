//! Split: the old form, which cuts a region in two. It is executed as a BatchSplit with one request (spec section 5.5).

use super::{AdminError, BatchSplit, Outcome, SplitRequest, batch_split};
use crate::region::Region;

/// A split at one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// The new region.
    pub request: SplitRequest,
    /// Whether the right half keeps the parent's id; otherwise the left one does.
    pub right_derive: bool,
    /// As in [`BatchSplit::shares_size`].
    pub shares_size: bool,
}

pub(super) fn plan(current: &Region, split: &Split) -> Result<Outcome, AdminError> {
    let Split { request, right_derive, shares_size } = split.clone();
    batch_split::plan(current, &BatchSplit { requests: vec![request], right_derive, shares_size })
}
