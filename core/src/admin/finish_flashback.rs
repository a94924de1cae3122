//! FinishFlashback: the region serves again (spec section 5.9). Repeating it changes nothing.

use super::{AdminError, Outcome};
use crate::meta::Reason;
use crate::region::{Region, RegionDraft};

/// Flashback mode ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FinishFlashback;

pub(super) fn plan(current: &Region) -> Result<Outcome, AdminError> {
    let region = RegionDraft { flashback_start_ts: None, ..current.to_draft() }.build()?;
    Ok(Outcome::Changed { region, reason: Reason::Flashback })
}
