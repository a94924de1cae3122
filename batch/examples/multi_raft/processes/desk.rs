//! What a store tells PD, and what PD wants of it: a thread for the heartbeats of its regions, and one for everything else. PD
//! may be slow, or away; nobody but these two waits for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use regionmeta::{ReadHandle, StoreId};
use regionmeta_batch::pd::{
    HeartbeatDriver, HeartbeatResponse, OperatorError, OperatorHost, PdClient, Proposal, StoreStats,
};

use super::super::errand::Errand;
use super::super::host::{self, Host};
use super::serve::Event;

/// How often PD hears of the store itself.
const STORE_INTERVAL: Duration = Duration::from_secs(10);
/// Errands that wait. What finds no room is given up: who needs it asks again.
const ERRANDS_MAX: usize = 1024;

pub(crate) struct Desk {
    errands: Sender<Errand>,
    stop: Arc<AtomicBool>,
    heartbeats: JoinHandle<()>,
}

impl Desk {
    pub(crate) fn open(host: &Host, path: PathBuf, pd: &Arc<dyn PdClient>, inbox: &Sender<Event>) -> io::Result<Self> {
        let (errands, waiting) = channel::bounded(ERRANDS_MAX);
        let clerk = Clerk { store: host.id(), path, regions: host.store.meta().clone(), started_unix_s: now_unix_s() };
        let (pd_of_clerk, inbox_of_clerk) = (pd.clone(), inbox.clone());
        let work = move || clerk.work(&*pd_of_clerk, &waiting, &inbox_of_clerk);
        thread::Builder::new().name("clerk".into()).spawn(work)?;

        let stop = Arc::new(AtomicBool::new(false));
        let wanted = Wanted { inbox: inbox.clone() };
        let settings = host::heartbeat_settings();
        let mut driver = HeartbeatDriver::new(host.heartbeats.clone(), pd.clone(), wanted, &settings);
        let told_to_stop = stop.clone();
        let run = move || driver.run(&told_to_stop);
        let heartbeats = thread::Builder::new().name("heartbeats".into()).spawn(run)?;
        Ok(Self { errands, stop, heartbeats })
    }

    pub(crate) fn take(&self, errands: Vec<Errand>) {
        for errand in errands {
            let _ = self.errands.try_send(errand);
        }
    }

    /// PD hears no more of this store.
    pub(crate) fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.heartbeats.join(); // a panic in there was printed already
    }
}

/// Operators go to the store's loop. If that has no time, PD asks again.
struct Wanted {
    inbox: Sender<Event>,
}

impl OperatorHost for Wanted {
    fn propose(&self, proposal: Proposal) {
        let _ = self.inbox.try_send(Event::Wanted(proposal));
    }

    fn refused(&self, _: &HeartbeatResponse, error: &OperatorError) {
        println!("PD wants something that does not fit: {error}");
    }
}

struct Clerk {
    store: StoreId,
    path: PathBuf,
    regions: ReadHandle,
    started_unix_s: u64,
}

impl Clerk {
    /// Until the desk is closed.
    fn work(&self, pd: &dyn PdClient, errands: &Receiver<Errand>, inbox: &Sender<Event>) {
        let mut due = Instant::now();
        loop {
            match errands.recv_deadline(due) {
                Ok(errand) => {
                    let event = match errand.run(pd) {
                        Ok(brought) => Event::Brought(brought),
                        Err(error) => Event::Failed(error.to_string()),
                    };
                    let _ = inbox.send(event);
                }
                Err(RecvTimeoutError::Timeout) => {
                    due = Instant::now() + STORE_INTERVAL;
                    if let Err(error) = pd.store_heartbeat(&self.stats()) {
                        let _ = inbox.send(Event::Failed(error.to_string()));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn stats(&self) -> StoreStats {
        let blocks = rustix::fs::statvfs(&self.path).map(|disk| {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            (bytes(disk.f_blocks), bytes(disk.f_bavail))
        });
        let (capacity_bytes, available_bytes) = blocks.unwrap_or_default();
        StoreStats {
            store_id: self.store,
            capacity_bytes,
            available_bytes,
            used_bytes: 0,
            regions: u32::try_from(self.regions.snapshot().len()).unwrap_or(u32::MAX),
            started_unix_s: self.started_unix_s,
            is_busy: false,
        }
    }
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
