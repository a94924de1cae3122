//! The way in: a thread for each connection, and one channel into the store's loop. A full channel makes the others wait.

use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Sender};
use regionmeta::ClusterId;

use super::frame;
use super::order::{Answer, Order};
use super::serve::Event;

/// Two other stores, and whoever gives orders; the rest is for connections that nobody has missed yet.
const CONNECTIONS_MAX: usize = 64;
/// How long a stranger may keep one of them without a greeting.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn open(listener: TcpListener, cluster: ClusterId, inbox: Sender<Event>) -> io::Result<()> {
    let places = Arc::new(());
    let accept = move || {
        for stream in listener.incoming().flatten() {
            if Arc::strong_count(&places) > CONNECTIONS_MAX {
                continue;
            }
            let (inbox, place) = (inbox.clone(), places.clone());
            let visit = move || {
                let _place = place;
                // A connection that broke, or was none of ours, is over.
                let _ = visit(&stream, cluster, &inbox);
            };
            let _ = thread::Builder::new().name("visitor".into()).spawn(visit);
        }
    };
    thread::Builder::new().name("door".into()).spawn(accept).map(drop)
}

fn visit(stream: &TcpStream, cluster: ClusterId, inbox: &Sender<Event>) -> io::Result<()> {
    let (mut from, mut to) = (BufReader::new(stream), stream);
    stream.set_read_timeout(Some(PATIENCE))?;
    frame::expect_greeting(&mut from, cluster)?;
    stream.set_read_timeout(None)?; // stores may have nothing to say for long
    while let Some((kind, body)) = frame::read(&mut from)? {
        match kind {
            frame::LETTER => inbox.send(Event::Letter(body)).map_err(|_| io::ErrorKind::ConnectionAborted)?,
            frame::ORDER => match ask(&body, inbox) {
                Ok(answer) => frame::write(&mut to, frame::DONE, &answer)?,
                Err(why) => frame::write(&mut to, frame::NOT_DONE, why.as_bytes())?,
            },
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

fn ask(order: &[u8], inbox: &Sender<Event>) -> Answer {
    let order = Order::decode(order).map_err(|error| error.to_string())?;
    let (reply, answered) = channel::bounded(1);
    let gone = "the store is about to end";
    inbox.send(Event::Order(order, reply)).map_err(|_| gone)?;
    answered.recv().map_err(|_| gone)?
}
