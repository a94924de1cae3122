//! Which fault the process was started with.

use std::sync::OnceLock;

use crate::mutant::Mutant;

/// The fault that `REGIONMETA_MUTANT` names. It is read once, and a name that nobody knows plants nothing.
pub fn planted_mutant() -> Option<Mutant> {
    static PLANTED: OnceLock<Option<Mutant>> = OnceLock::new();
    *PLANTED.get_or_init(|| {
        let wanted = std::env::var("REGIONMETA_MUTANT").ok()?;
        Mutant::ALL.iter().find(|(name, _)| *name == wanted).map(|(_, mutant)| *mutant)
    })
}
