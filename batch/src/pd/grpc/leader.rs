//! [`Leaders`]: who of PD's members leads, and a connection to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use regionmeta::ClusterId;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::header::{self, About};
use super::settings::ClientTls;
use super::{GrpcError, GrpcSettings, status};
use crate::pd::PdError;
use crate::pd::wire::pdpb::pd_client::PdClient as Client;
use crate::pd::wire::pdpb::{GetMembersRequest, GetMembersResponse, Member};

/// How often one member may send the search on to another.
const REDIRECTS_MAX: usize = 8;
/// Addresses that are remembered, those of the settings among them.
const ADDRESSES_MAX: usize = 32;
/// The pause before a search after one that found nobody; it doubles from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The leader that was found, in a search of this number.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    pub(super) client: Client<Channel>,
    pub(super) channel: Channel,
    search: u64,
}

/// Finds the leader, and keeps it until somebody says that it is lost. At most one search runs at a time, and after one that found
/// nobody there is a pause, however many wait: a PD that comes back is not met by a storm.
#[derive(Debug)]
pub(super) struct Leaders {
    cluster: ClusterId,
    dial: Dial,
    state: Mutex<State>,
    /// What searches up to this number have found is lost. Whoever calls writes it, whoever looks for the leader reads it.
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    current: Option<Leader>,
    search: u64,
    /// Without a scheme; the one that was asked last comes last.
    addresses: Vec<String>,
    failures: u32,
    not_before: Instant,
}

impl Leaders {
    pub(super) fn new(cluster: ClusterId, endpoints: &[String], settings: &GrpcSettings) -> Result<Self, GrpcError> {
        let dial = Dial::new(settings)?;
        let addresses: Vec<_> = endpoints.iter().map(|url| address(url).to_owned()).collect();
        for address in &addresses {
            dial.endpoint(address)?;
        }
        if addresses.is_empty() {
            return Err(GrpcError::NoEndpoint);
        }
        let state = State { current: None, search: 0, addresses, failures: 0, not_before: Instant::now() };
        Ok(Self { cluster, dial, state: Mutex::new(state), lost: AtomicU64::new(0) })
    }

    /// The leader, or why none was found. A caller who does not wait for the end of a search ends it.
    pub(super) async fn get(&self) -> Result<Leader, PdError> {
        let mut state = self.state.lock().await;
        // Relaxed, as in `lost`: nothing is handed over with it. Who has lost a leader reads its own mark; another caller may read it
        // late, and then loses the same leader.
        let lost = self.lost.load(Ordering::Relaxed);
        if let Some(leader) = state.current.as_ref().filter(|leader| leader.search > lost) {
            return Ok(leader.clone());
        }
        sleep_until(state.not_before).await;
        state.search += 1;
        match self.search(&mut state).await {
            Ok(leader) => {
                state.failures = 0;
                state.current = Some(leader.clone());
                Ok(leader)
            }
            Err(error) => {
                state.not_before = Instant::now() + pause(state.failures);
                state.failures = state.failures.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Says that a leader is none any more. Nothing happens if another one was found since. Never waits: a search may be running.
    pub(super) fn lost(&self, leader: &Leader) {
        self.lost.fetch_max(leader.search, Ordering::Relaxed); // see `get`
    }

    /// Asks one address after the other. Who serves another cluster is worse than who is away: that error stays. If a search ends
    /// before it has come to the last address, the next one begins where it was: some may be silent for longer than a caller waits.
    async fn search(&self, state: &mut State) -> Result<Leader, PdError> {
        let mut worst = PdError::NoLeader;
        for address in state.addresses.clone() {
            state.put_last(&address);
            match self.follow(address, state).await {
                Ok(leader) => return Ok(leader),
                Err(error) if matches!(worst, PdError::ClusterMismatch { .. }) => drop(error),
                Err(error) => worst = error,
            }
        }
        Err(worst)
    }

    /// From one member to the one that it calls leader, until one says so of itself.
    async fn follow(&self, mut address: String, state: &mut State) -> Result<Leader, PdError> {
        for _ in 0..REDIRECTS_MAX {
            let (channel, client, members) = self.ask(&address).await?;
            state.learn(&members);
            let leader = members.leader.ok_or(PdError::NoLeader)?;
            if speaks_of_itself(&leader, &address) {
                return Ok(Leader { client, channel, search: state.search });
            }
            address = first_address(&leader).ok_or(PdError::NoLeader)?.to_owned();
        }
        Err(PdError::NoLeader)
    }

    async fn ask(&self, address: &str) -> Result<(Channel, Client<Channel>, GetMembersResponse), PdError> {
        let channel = self.dial.connect(address).await?;
        let mut client = Client::new(channel.clone()).max_decoding_message_size(self.dial.message_bytes_max);
        let request = GetMembersRequest { header: header::request(self.cluster) };
        let late = |_| PdError::Unavailable(format!("{address} does not say who leads"));
        let answer = timeout(self.dial.connect_timeout, client.get_members(request)).await.map_err(late)?;
        let members = answer.map_err(|status| status::failure("GetMembers", &status).into_error())?.into_inner();
        header::check("GetMembers", members.header.as_ref(), self.cluster, About::Cluster)?;
        Ok((channel, client, members))
    }
}

impl State {
    fn put_last(&mut self, address: &str) {
        if let Some(at) = self.addresses.iter().position(|known| known == address) {
            let address = self.addresses.remove(at);
            self.addresses.push(address);
        }
    }

    fn learn(&mut self, members: &GetMembersResponse) {
        for address in members.members.iter().filter_map(first_address) {
            if self.addresses.len() < ADDRESSES_MAX && !self.addresses.iter().any(|known| known == address) {
                self.addresses.push(address.to_owned());
            }
        }
    }
}

fn speaks_of_itself(leader: &Member, asked: &str) -> bool {
    leader.client_urls.iter().any(|url| address(url) == asked)
}

fn first_address(member: &Member) -> Option<&str> {
    member.client_urls.first().map(|url| address(url)).filter(|address| !address.is_empty())
}

/// Without the scheme: whether a connection is encrypted is for this side to say.
fn address(url: &str) -> &str {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or(url);
    rest.trim_end_matches('/')
}

/// Between half of what is due and all of it, so that many who failed at once do not come back at once.
fn pause(failures: u32) -> Duration {
    let (first, longest) = PAUSE;
    let due = first.saturating_mul(1 << failures.min(10)).min(longest);
    due.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}

/// How connections are made.
#[derive(Debug)]
struct Dial {
    tls: Option<ClientTlsConfig>,
    connect_timeout: Duration,
    message_bytes_max: usize,
}

impl Dial {
    fn new(settings: &GrpcSettings) -> Result<Self, GrpcError> {
        Ok(Self {
            tls: settings.tls.as_ref().map(tls_config),
            connect_timeout: settings.connect_timeout,
            message_bytes_max: settings.message_bytes_max,
        })
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, GrpcError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let refuse =
            |error: tonic::transport::Error| GrpcError::Endpoint { url: address.to_owned(), cause: error.to_string() };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(refuse)?;
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(|error| GrpcError::Tls(chain(&error))),
            None => Ok(endpoint),
        }
    }

    async fn connect(&self, address: &str) -> Result<Channel, PdError> {
        let unavailable = |cause: String| PdError::Unavailable(format!("{address}: {cause}"));
        let endpoint = self.endpoint(address).map_err(|error| unavailable(error.to_string()))?;
        // The limit of the endpoint is one of the TCP connection; a peer may be as slow about everything after it.
        match timeout(self.connect_timeout, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|error| unavailable(chain(&error))),
            Err(_) => Err(unavailable(format!("no connection within {:?}", self.connect_timeout))),
        }
    }
}

fn tls_config(tls: &ClientTls) -> ClientTlsConfig {
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
    let config = match &tls.domain {
        Some(domain) => config.domain_name(domain),
        None => config,
    };
    match &tls.identity {
        Some(own) => config.identity(tonic::transport::Identity::from_pem(&own.certificate_pem, &own.key_pem)),
        None => config,
    }
}

/// An error with what is behind it: the outermost says no more than "transport error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
