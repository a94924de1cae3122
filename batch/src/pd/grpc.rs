//! PD over gRPC: [`GrpcPd`], a client of any PD, and [`GrpcServer`], which serves any [`PdClient`](super::PdClient) to others.
//!
//! Each has a runtime of its own that nobody sees: the client's calls block, and its threads do nothing but wait for PD. What
//! arrives is a stranger's: messages have a longest length, each is decoded and checked by itself, and one that is refused takes
//! neither the heartbeat stream nor the process with it.

mod client;
mod codec;
mod error;
mod header;
mod leader;
mod limited_log;
mod server;
mod settings;
mod status;
mod stream;

pub use self::client::GrpcPd;
pub use self::error::GrpcError;
pub use self::server::GrpcServer;
pub use self::settings::{ClientTls, GrpcSettings, Identity, ServerSettings, ServerTls};
