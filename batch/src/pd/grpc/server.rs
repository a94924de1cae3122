//! [`GrpcServer`]: a [`PdClient`] of this process, served to others.

mod heartbeats;
mod route;
mod scan;
mod service;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use self::route::Route;
use self::service::Service;
use super::leader::chain;
use super::{GrpcError, ServerSettings, ServerTls};
use crate::pd::PdClient;

/// How often a silent connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Calls of one connection that run at a time; others wait.
const CALLS_MAX: usize = 256;

/// A placement driver served over gRPC, as the only member of its PD and so its leader.
///
/// Other clients of PD's protocol can talk to it. Methods that it does not have are answered as unimplemented; the timestamp
/// oracle is one of them.
///
/// ```
/// use std::sync::Arc;
///
/// use regionmeta_batch::pd::grpc::{GrpcPd, GrpcServer, GrpcSettings, ServerSettings};
/// use regionmeta_batch::pd::{EmbeddedPd, PdClient};
///
/// let pd = Arc::new(EmbeddedPd::new(7.into()));
/// let server = GrpcServer::start(pd, "127.0.0.1:0".parse()?, ServerSettings::default())?;
/// let client = GrpcPd::new(7.into(), &[server.address().to_string()], GrpcSettings::default())?;
/// assert!(!client.is_bootstrapped()?);
/// server.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GrpcServer {
    address: SocketAddr,
    grace: Duration,
    stop: watch::Sender<bool>,
    serving: Option<JoinHandle<Result<(), GrpcError>>>,
    runtime: Option<Runtime>,
}

impl GrpcServer {
    /// Listens, and serves on threads of its own until it is stopped or dropped. Port 0 takes any that is free. Like everything here
    /// it may be called on any thread, one of an asynchronous runtime too.
    ///
    /// # Errors
    /// [`GrpcError`] if nothing can be listened on, or the certificates cannot be used.
    pub fn start(pd: Arc<dyn PdClient>, listen: SocketAddr, settings: ServerSettings) -> Result<Self, GrpcError> {
        let refused = move |cause| GrpcError::Listen { address: listen, cause };
        let listener = TcpListener::bind(listen).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let mut server = Server::builder()
            .tcp_nodelay(true)
            .concurrency_limit_per_connection(CALLS_MAX)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE));
        if let Some(tls) = &settings.tls {
            server = server.tls_config(tls_config(tls)).map_err(|error| GrpcError::Tls(chain(&error)))?;
        }
        let runtime = Builder::new_multi_thread().thread_name("pd-server").enable_all().build();
        let runtime = runtime.map_err(GrpcError::Runtime)?;
        // Nothing below may fail, and nothing waits for the runtime: neither is allowed on a thread of another one.
        let (stop, stopped) = watch::channel(false);
        let service = Service::new(pd, address, &settings, stopped.clone(), runtime.handle().clone());
        let router = server.add_service(Route::new(service, settings.message_bytes_max));
        let serving = runtime.spawn(async move {
            let incoming = tokio::net::TcpListener::from_std(listener).map_err(refused)?;
            let mut stopped = stopped;
            let until = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
            let served = router.serve_with_incoming_shutdown(TcpListenerStream::new(incoming), until).await;
            served.map_err(|error| GrpcError::Serve(chain(&error)))
        });
        tracing::info!(%address, "serving PD");
        Ok(Self { address, grace: settings.grace, stop, serving: Some(serving), runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, closes the heartbeat streams, and lets running calls end while the grace lasts. Blocks until then.
    ///
    /// # Errors
    /// [`GrpcError`] if the server had failed before.
    pub fn stop(mut self) -> Result<(), GrpcError> {
        let _ = self.stop.send(true);
        let (Some(runtime), Some(serving)) = (self.runtime.take(), self.serving.take()) else { return Ok(()) };
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let grace = self.grace;
        runtime.spawn(async move {
            let _ = done.send(timeout(grace, serving).await);
        });
        let result = result.recv();
        runtime.shutdown_background();
        match result {
            Ok(Ok(Ok(Err(error)))) => Err(error),
            _ => Ok(()), // ended, or given up after the grace
        }
    }
}

impl Drop for GrpcServer {
    /// Cuts every connection.
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn tls_config(tls: &ServerTls) -> ServerTlsConfig {
    let own = Identity::from_pem(&tls.identity.certificate_pem, &tls.identity.key_pem);
    let config = ServerTlsConfig::new().identity(own);
    match &tls.client_ca_pem {
        Some(ca) => config.client_ca_root(Certificate::from_pem(ca)),
        None => config,
    }
}
