//! Letters on their way out: a thread for each store that they go to, with a queue of its own.
//!
//! What does not fit, or does not arrive, is lost. Raft sends again what is still needed.

use std::collections::BTreeMap;
use std::io::{self, BufWriter};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use regionmeta::{ClusterId, StoreId};
use regionmeta_batch::pd::PdClient;

use super::super::wire::Mail;
use super::frame;

/// Letters that wait for one store.
const QUEUE_MAX: usize = 1024;
/// How long a store is left alone that was not reached.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a connection or a write may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Opens the post. Letters put into the channel are sorted at once, so that nobody waits to post one.
pub(crate) fn open(cluster: ClusterId, pd: Arc<dyn PdClient>) -> io::Result<Sender<Mail>> {
    let (post, mail) = channel::bounded(QUEUE_MAX);
    thread::Builder::new().name("post".into()).spawn(move || sort(cluster, &pd, &mail))?;
    Ok(post)
}

fn sort(cluster: ClusterId, pd: &Arc<dyn PdClient>, mail: &Receiver<Mail>) {
    let mut queues: BTreeMap<StoreId, Sender<Vec<u8>>> = BTreeMap::new();
    for (to, letter) in mail {
        let queue = queues.entry(to).or_insert_with(|| {
            let (queue, letters) = channel::bounded(QUEUE_MAX);
            let pd = pd.clone();
            let courier = thread::Builder::new().name(format!("post to {to}"));
            // Without a thread its queue has no other end, and the letters are lost.
            let _ = courier.spawn(move || carry(cluster, &*pd, to, &letters));
            queue
        });
        let _ = queue.try_send(letter);
    }
}

fn carry(cluster: ClusterId, pd: &dyn PdClient, to: StoreId, letters: &Receiver<Vec<u8>>) {
    let mut connection = None;
    for letter in letters {
        if connection.is_none() {
            connection = connect(cluster, pd, to);
        }
        let Some(stream) = &mut connection else {
            thread::sleep(PAUSE);
            letters.try_iter().for_each(drop); // by now they are old
            continue;
        };
        if frame::write(stream, frame::LETTER, &letter).is_err() {
            connection = None;
        }
    }
}

/// A store that was started again has another address: PD is asked each time.
fn connect(cluster: ClusterId, pd: &dyn PdClient, to: StoreId) -> Option<BufWriter<TcpStream>> {
    let address = pd.get_store(to).ok()??.address;
    dial(cluster, &address).map(BufWriter::new).ok()
}

pub(crate) fn dial(cluster: ClusterId, address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    frame::greet(&mut stream, cluster)?;
    Ok(stream)
}
