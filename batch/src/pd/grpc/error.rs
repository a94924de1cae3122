//! [`GrpcError`]: why a client or a server could not be set up.

use std::net::SocketAddr;

/// Why a client or a server could not be set up. What happens later, in calls, is a [`PdError`](crate::pd::PdError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant describes its fields")]
pub enum GrpcError {
    #[error("no address of PD is given")]
    NoEndpoint,
    #[error("{url:?} is no address of PD: {cause}")]
    Endpoint { url: String, cause: String },
    #[error("the certificates cannot be used: {0}")]
    Tls(String),
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error("cannot start a thread: {0}")]
    Runtime(std::io::Error),
    #[error("the server has failed: {0}")]
    Serve(String),
}
