//! PrepareFlashback: from now on the region takes only what is part of the flashback (spec section 5.9). The epoch stays, so the
//! epoch does not identify a descriptor.

use super::{AdminError, Outcome};
use crate::meta::Reason;
use crate::region::{Region, RegionDraft};

/// Flashback mode begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrepareFlashback {
    /// Reads below this timestamp still pass.
    pub start_ts: u64,
}

pub(super) fn plan(current: &Region, flashback: PrepareFlashback) -> Result<Outcome, AdminError> {
    let region = RegionDraft { flashback_start_ts: Some(flashback.start_ts), ..current.to_draft() }.build()?;
    Ok(Outcome::Changed { region, reason: Reason::Flashback })
}
