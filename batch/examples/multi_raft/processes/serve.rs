//! One store as a process. Its loop owns the Raft groups; letters, orders, PD's wishes and the clock come to it through
//! channels.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender};
use regionmeta_batch::StoreBuilder;
use regionmeta_batch::pd::{PdClient, Proposal};
use regionmeta_batch::peers::{Notifier, PeerEvent, Role};
use regionmeta_batch::storage::RocksStorage;
use tokio::signal::unix::{SignalKind, signal};

use super::super::Done;
use super::super::arguments::Arguments;
use super::super::errand::Brought;
use super::super::host::Host;
use super::desk::Desk;
use super::order::{Answer, Order};
use super::{connect, door, post};

/// An election begins after ten of them without a leader.
const TICK: Duration = Duration::from_millis(50);
/// What waits for the loop. Who finds it full waits, but for PD's operators, which come again.
const INBOX_MAX: usize = 1024;
/// How often, and at which distance, PD is asked before the start fails.
const PD_PATIENCE: (u32, Duration) = (100, Duration::from_millis(200));

pub(crate) enum Event {
    /// From another store.
    Letter(Vec<u8>),
    /// From whoever gives orders; the answer goes back there.
    Order(Order, Sender<Answer>),
    /// PD wants this.
    Wanted(Proposal),
    /// PD has answered.
    Brought(Brought),
    /// PD has refused something, or was not reached.
    Failed(String),
    /// The store is to end.
    End,
}

/// Serves until it is told to end.
pub(crate) fn serve(arguments: &Arguments, directory: &Path) -> Done {
    let (inbox, events) = channel::bounded(INBOX_MAX);
    end_on_signal(inbox.clone())?;
    let pd: Arc<dyn PdClient> = Arc::new(connect(arguments)?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let builder = StoreBuilder::new(arguments.cluster).address(&address).pd_patience(PD_PATIENCE.0, PD_PATIENCE.1);
    let store = builder.bootstrap(directory, &*pd)?;
    let host = Host::open(store, post::open(arguments.cluster, pd.clone())?, TICK)?;
    let desk = Desk::open(&host, directory.to_owned(), &pd, &inbox)?;
    door::open(listener, arguments.cluster, inbox)?;
    println!("store {} serves at {address}", host.id());
    let mut serving = Serving { notifier: host.peers.notifier(vec![Box::new(teller(&host))]), host, desk };
    let ended = serving.run(&events, arguments.time);
    serving.close()?;
    ended
}

/// The signals are waited for on a thread of their own, from before anybody can know the store.
fn end_on_signal(inbox: Sender<Event>) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let _ = inbox.send(Event::End);
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// Says what happens to the regions of this store, a line each.
fn teller(host: &Host) -> impl FnMut(&PeerEvent) + Send + use<> {
    let store = host.id();
    move |event| match event {
        PeerEvent::Created { region } => println!("store {store}: here is {region}"),
        PeerEvent::Updated { region, reason: Some(reason) } => println!("store {store}: {reason:?} made {region}"),
        PeerEvent::Destroyed { region } => println!("store {store}: region {region} is gone"),
        PeerEvent::RoleChanged { region, role: Role::Leader { term } } => {
            println!("store {store}: leads region {} in term {term}", region.id());
        }
        _ => {}
    }
}

struct Serving {
    host: Host,
    desk: Desk,
    notifier: Notifier<RocksStorage>,
}

impl Serving {
    fn run(&mut self, events: &Receiver<Event>, time: Option<Duration>) -> Done {
        let news = self.host.news.clone();
        let ticks = channel::tick(TICK);
        let end = time.map_or_else(channel::never, channel::after);
        let started = Instant::now();
        loop {
            crossbeam::select! {
                recv(news) -> news => self.host.hear(news?)?,
                recv(events) -> event => match event? {
                    Event::End => return Ok(()),
                    event => self.handle(event)?,
                },
                recv(ticks) -> _ => self.host.tick()?,
                recv(end) -> _ => return Err(format!("not told to end within {:?}", started.elapsed()).into()),
            }
            self.host.work_on()?;
            self.desk.take(std::mem::take(&mut self.host.errands));
            self.notifier.deliver();
        }
    }

    /// What is asked of this store may be refused; only what damages it ends it.
    fn handle(&mut self, event: Event) -> Done {
        let store = self.host.id();
        match event {
            Event::Letter(bytes) => return self.host.receive(&bytes),
            Event::Order(order, reply) => {
                // Who has asked may be gone.
                let _ = reply.send(self.host.obey(order).map_err(|error| error.to_string()));
            }
            Event::Wanted(proposal) => {
                println!("store {store}: PD wants {proposal:?}");
                if let Err(error) = self.host.carry_out(proposal) {
                    println!("store {store}: which is not done: {error}");
                }
            }
            Event::Brought(brought) => {
                if let Err(error) = self.host.take_in(brought) {
                    println!("store {store}: PD's answer is of no use any more: {error}");
                }
            }
            Event::Failed(error) => println!("store {store}: PD: {error}"),
            Event::End => {}
        }
        Ok(())
    }

    /// First PD hears no more, then the pool ends its round, then the store is closed.
    fn close(self) -> Done {
        let Self { host, desk, notifier } = self;
        let (id, store) = (host.id(), host.store.clone());
        desk.close();
        drop((notifier, host));
        Arc::into_inner(store).ok_or("somebody still has the store")?.close()?;
        println!("store {id} has ended");
        Ok(())
    }
}
