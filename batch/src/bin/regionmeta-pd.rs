//! `regionmeta-pd`: the embedded placement driver as a process of its own, for the stores of one cluster.
//!
//! It says on standard output where it listens, on standard error what goes wrong, and serves until SIGTERM or SIGINT.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use regionmeta_batch::pd::EmbeddedPd;
use regionmeta_batch::pd::grpc::{GrpcServer, Identity, ServerSettings, ServerTls};
use regionmeta_batch::storage::{Durability, RocksStorage};
use tokio::signal::unix::{SignalKind, signal};

/// A placement driver: it hands out ids, knows the regions of a cluster, and tells stores what to do with them.
#[derive(Debug, Parser)]
#[command(name = "regionmeta-pd", version)]
struct Arguments {
    /// Where it keeps what it knows; made if it is not there
    #[arg(long)]
    data_dir: PathBuf,

    /// The cluster it serves, never another one with the same data
    #[arg(long)]
    cluster_id: u64,

    /// Address and port to listen on; port 0 takes any that is free
    #[arg(long, default_value = "127.0.0.1:2379")]
    listen: SocketAddr,

    /// The address that stores are told to use, if it is not the one above; needed with 0.0.0.0
    #[arg(long)]
    advertise: Option<String>,

    /// Its certificate (PEM): connections are encrypted then
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,

    /// Authorities (PEM) that a store's certificate must come from; without it every store is let in
    #[arg(long, requires = "cert")]
    client_ca: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "not serving PD");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.advertise.is_none() && arguments.listen.ip().is_unspecified() {
        return Err(format!("no store can reach {}: say with --advertise how they can", arguments.listen).into());
    }
    let storage = RocksStorage::create(&arguments.data_dir, Durability::Synced)?;
    let pd = EmbeddedPd::open(arguments.cluster_id.into(), storage)?;
    let settings =
        ServerSettings { advertise: arguments.advertise.clone(), tls: tls(arguments)?, ..Default::default() };
    // Before anybody can know the address, and so that it is up.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    let server = GrpcServer::start(Arc::new(pd), arguments.listen, settings)?;
    writeln!(std::io::stdout(), "listening on {}", server.address())?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    server.stop()?;
    Ok(())
}

fn tls(arguments: &Arguments) -> Result<Option<ServerTls>, Box<dyn Error>> {
    let (Some(cert), Some(key)) = (&arguments.cert, &arguments.key) else { return Ok(None) };
    let identity = Identity { certificate_pem: read(cert)?, key_pem: read(key)? };
    let client_ca_pem = arguments.client_ca.as_deref().map(read).transpose()?;
    Ok(Some(ServerTls { identity, client_ca_pem }))
}

fn read(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}
