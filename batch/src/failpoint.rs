//! The points on the way of a change at which a test can inject a failure: all of them, in order.
//!
//! With the feature `failpoints` each is a point of the crate `fail`, under its [`name`](FailPoint::name): `return` injects an
//! error, `panic` a panic, `sleep(..)` a delay, and a callback whatever a test likes. Without the feature they are nothing.
//!
//! An injected error takes the way of a storage error: the store is poisoned, nothing more is acknowledged (I14).

use crate::storage::StorageError;

/// Where on its way an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FailPoint {
    /// It was taken out of its mailbox.
    Taken,
    /// It is about to be checked against its region.
    Check,
    /// It was checked, and what it does was decided.
    Planned,
    /// The host's data is about to be put into the batch.
    Data,
    /// The batch is complete but for the apply states.
    ApplyStates,
    /// The changeset is about to be checked.
    Prepare,
    /// What it touches is reserved.
    Reserved,
    /// The batch is about to be written.
    Write,
    /// The batch is written, and nobody has seen it.
    Written,
    /// The changeset is published, and nobody was answered.
    Published,
    /// The mailboxes are as the changeset says; the answers are about to be given.
    Answer,
    /// Everybody was answered.
    Answered,
}

impl FailPoint {
    /// Every point, in the order of the way.
    pub const ALL: [Self; 12] = [
        Self::Taken,
        Self::Check,
        Self::Planned,
        Self::Data,
        Self::ApplyStates,
        Self::Prepare,
        Self::Reserved,
        Self::Write,
        Self::Written,
        Self::Published,
        Self::Answer,
        Self::Answered,
    ];

    /// The name under which the crate `fail` knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "apply::taken",
            Self::Check => "apply::check",
            Self::Planned => "apply::planned",
            Self::Data => "apply::data",
            Self::ApplyStates => "apply::apply_states",
            Self::Prepare => "apply::prepare",
            Self::Reserved => "apply::reserved",
            Self::Write => "apply::write",
            Self::Written => "apply::written",
            Self::Published => "apply::published",
            Self::Answer => "apply::answer",
            Self::Answered => "apply::answered",
        }
    }

    /// Says that the way has come here.
    #[cfg(feature = "failpoints")]
    pub(crate) fn reach(self) -> Result<(), StorageError> {
        fail::fail_point!(self.name(), |_| Err(StorageError::Backend {
            action: "go on",
            location: self.name().to_owned(),
            cause: "injected".to_owned(),
        }));
        Ok(())
    }

    /// Says that the way has come here, to nobody.
    #[cfg(not(feature = "failpoints"))]
    #[expect(clippy::unnecessary_wraps, reason = "with the feature it fails when a test wants it to")]
    #[inline(always)]
    pub(crate) fn reach(self) -> Result<(), StorageError> {
        Ok(())
    }
}
