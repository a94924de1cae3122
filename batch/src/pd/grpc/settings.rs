//! What a client and a server can be told.

use std::fmt;
use std::time::Duration;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct GrpcSettings {
    /// How long a call may take in all, with finding the leader and asking again.
    pub deadline: Duration,
    /// How long one connection may take to come about.
    pub connect_timeout: Duration,
    /// The longest answer that is taken, in bytes.
    pub message_bytes_max: usize,
    /// Heartbeats that wait in a stream before its sender does.
    pub stream_queue_max: usize,
    /// With it every connection is encrypted, and PD is known by its certificate; without it none is.
    pub tls: Option<ClientTls>,
}

impl Default for GrpcSettings {
    /// 3 s, 1 s to connect, 16 MiB, 1,024 heartbeats, no encryption.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(1),
            message_bytes_max: 16 << 20,
            stream_queue_max: 1024,
            tls: None,
        }
    }
}

/// Whom a client trusts, and who it is.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Certificates of the authorities that PD's certificate must come from, in PEM.
    pub ca_pem: Vec<u8>,
    /// The name in PD's certificate, where it is not the one in its address.
    pub domain: Option<String>,
    /// The client's own certificate, if PD asks for one.
    pub identity: Option<Identity>,
}

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The address that clients are told to use; none: the one that is listened on.
    pub advertise: Option<String>,
    /// The longest request that is taken, in bytes.
    pub message_bytes_max: usize,
    /// How many heartbeat streams may be open. Each has two threads, and a store has one stream.
    pub streams_max: usize,
    /// How long calls may take to end after a shutdown.
    pub grace: Duration,
    /// With it every connection is encrypted; without it none is.
    pub tls: Option<ServerTls>,
}

impl Default for ServerSettings {
    /// 16 MiB, 1,024 streams, 2 s of grace, no encryption.
    fn default() -> Self {
        Self {
            advertise: None,
            message_bytes_max: 16 << 20,
            streams_max: 1024,
            grace: Duration::from_secs(2),
            tls: None,
        }
    }
}

/// Who a server is, and whom it lets in.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The server's own certificate.
    pub identity: Identity,
    /// Certificates of the authorities that clients' certificates must come from, in PEM; none: whoever comes is let in.
    pub client_ca_pem: Option<Vec<u8>>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, and those that it rests on, in PEM.
    pub certificate_pem: Vec<u8>,
    /// The private key, in PEM.
    pub key_pem: Vec<u8>,
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate_bytes", &self.certificate_pem.len()).finish_non_exhaustive()
    }
}
