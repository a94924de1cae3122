//! What the status of a call means, for who asked and for who was asked.

use std::error::Error;

use tonic::{Code, Status};

use crate::pd::{AnswerError, PdError};

/// The longest text of a stranger that goes into an error.
const TEXT_BYTES_MAX: usize = 256;

/// Why a call has failed, and whether another PD may do better.
#[derive(Debug)]
pub(super) enum Failure {
    /// This PD cannot be reached, leads no longer, or serves another cluster: the leader has to be found again.
    Elsewhere(PdError),
    /// It has answered.
    Final(PdError),
}

impl Failure {
    pub(super) fn into_error(self) -> PdError {
        match self {
            Self::Elsewhere(error) | Self::Final(error) => error,
        }
    }
}

/// What a call's status says to who asked.
pub(super) fn failure(what: &'static str, status: &Status) -> Failure {
    let text = shortened(status);
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => Failure::Elsewhere(PdError::Unavailable(text)),
        Code::FailedPrecondition => Failure::Elsewhere(PdError::Refused(text)),
        // Not PD's word but this side's: the connection has broken.
        Code::Internal | Code::Unknown if status.source().is_some() => Failure::Elsewhere(PdError::Unavailable(text)),
        Code::Internal | Code::OutOfRange | Code::DataLoss => {
            Failure::Final(AnswerError::Malformed { what, cause: text }.into())
        }
        _ => Failure::Final(PdError::Refused(text)),
    }
}

fn shortened(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let fits = (0..=TEXT_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(fits);
    format!("{text} ({:?})", status.code())
}

/// The status for an error that no header has a place for: this PD cannot answer at all.
pub(super) fn of_error(error: &PdError) -> Option<Status> {
    match error {
        PdError::Unavailable(_) | PdError::NoLeader | PdError::Timeout { .. } => {
            Some(Status::unavailable(error.to_string()))
        }
        _ => None,
    }
}
