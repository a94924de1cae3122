//! The headers of requests and answers: the cluster's id, and what went wrong.

use regionmeta::{ClusterId, RegionId, StoreId};

use crate::pd::wire::pdpb::{self, ErrorType};
use crate::pd::{AnswerError, PdError, check};

/// What a request was about, for an error that does not say so.
#[derive(Clone, Copy, Debug)]
pub(super) enum About {
    Cluster,
    Store(StoreId),
    Region(RegionId),
}

/// A message with the header of an answer.
pub(super) trait Answer: Default + Send + 'static {
    fn header(&self) -> Option<&pdpb::ResponseHeader>;
    fn set_header(&mut self, header: pdpb::ResponseHeader);
}

macro_rules! answers {
    ($($message:ident),* $(,)?) => {
        $(impl Answer for pdpb::$message {
            fn header(&self) -> Option<&pdpb::ResponseHeader> {
                self.header.as_ref()
            }

            fn set_header(&mut self, header: pdpb::ResponseHeader) {
                self.header = Some(header);
            }
        })*
    };
}

answers!(
    AllocIdResponse,
    AskBatchSplitResponse,
    AskSplitResponse,
    BatchScanRegionsResponse,
    BootstrapResponse,
    GetAllStoresResponse,
    GetClusterConfigResponse,
    GetMembersResponse,
    GetRegionResponse,
    GetStoreResponse,
    IsBootstrappedResponse,
    PutStoreResponse,
    RegionHeartbeatResponse,
    ReportBatchSplitResponse,
    ReportSplitResponse,
    ScanRegionsResponse,
    StoreHeartbeatResponse,
);

/// The header of a request.
pub(super) fn request(cluster: ClusterId) -> Option<pdpb::RequestHeader> {
    Some(pdpb::RequestHeader { cluster_id: cluster.get(), sender_id: 0 })
}

/// The header of an answer.
pub(super) fn answer(cluster: ClusterId, error: Option<&PdError>) -> pdpb::ResponseHeader {
    let message = |error: &PdError| match error {
        PdError::Refused(why) => why.clone(), // the client says itself that it was refused
        error => error.to_string(),
    };
    let error = error.map(|error| pdpb::Error { r#type: error_type(error).into(), message: message(error) });
    pdpb::ResponseHeader { cluster_id: cluster.get(), error }
}

/// The header of an answer whose ranges are not covered.
pub(super) fn hole(cluster: ClusterId) -> pdpb::ResponseHeader {
    let message = "some keys of the ranges belong to no region that PD knows".to_owned();
    let error = pdpb::Error { r#type: ErrorType::RegionsNotContainAllKeyRange.into(), message };
    pdpb::ResponseHeader { cluster_id: cluster.get(), error: Some(error) }
}

/// A request that is meant for this cluster. One without a header is meant for none.
pub(super) fn same_cluster(header: Option<&pdpb::RequestHeader>, pd: ClusterId) -> Result<(), PdError> {
    check::cluster(pd, header.map_or(0, |header| header.cluster_id).into())
}

/// What an answer's header says: the cluster first, for the error of another cluster means nothing.
pub(super) fn check(
    what: &'static str,
    header: Option<&pdpb::ResponseHeader>,
    cluster: ClusterId,
    about: About,
) -> Result<(), PdError> {
    let missing = || AnswerError::Malformed { what, cause: "it has no header".to_owned() };
    let header = header.ok_or_else(missing)?;
    check::cluster(header.cluster_id.into(), cluster)?;
    header.error.as_ref().map_or(Ok(()), |error| said(error, about))
}

fn said(error: &pdpb::Error, about: About) -> Result<(), PdError> {
    Err(match (error.r#type(), about) {
        (ErrorType::Ok, _) if error.r#type == 0 => return Ok(()),
        (ErrorType::NotBootstrapped, _) => PdError::NotBootstrapped,
        (ErrorType::AlreadyBootstrapped, _) => PdError::AlreadyBootstrapped,
        (ErrorType::StoreTombstone, About::Store(store)) => PdError::StoreTombstone { store },
        (ErrorType::EntryNotFound, About::Store(store)) => PdError::UnknownStore { store },
        (ErrorType::RegionNotFound, About::Region(region)) => PdError::RegionNotFound { region },
        _ => PdError::Refused(format!("{} (type {})", error.message, error.r#type)),
    })
}

/// PD's number for an error. What it has no number for is UNKNOWN, and the message says it.
fn error_type(error: &PdError) -> ErrorType {
    match error {
        PdError::NotBootstrapped => ErrorType::NotBootstrapped,
        PdError::AlreadyBootstrapped => ErrorType::AlreadyBootstrapped,
        PdError::StoreTombstone { .. } => ErrorType::StoreTombstone,
        PdError::UnknownStore { .. } => ErrorType::EntryNotFound,
        PdError::RegionNotFound { .. } => ErrorType::RegionNotFound,
        _ => ErrorType::Unknown,
    }
}
