//! Clients that write until the server goes away, and remember what was acknowledged and what was not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use crate::client::Client;
use crate::differential::build::{del, op, put, txn};
use crate::proto::etcdserverpb as pb;
use crate::random::Random;

use super::model::Change;
use super::monotonic_ns;

/// Keys of a slot. Each client writes keys of its own, so that its last write to a key is the last one.
const KEYS_PER_SLOT: u64 = 20;
/// Requests under way at once, as clients do that pipeline.
const WINDOW: usize = 8;

/// A write that was sent.
#[derive(Clone, Debug)]
pub struct Write {
    /// What it changes.
    pub changes: Vec<Change>,
}

/// A write and its answer.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The answer's revision.
    pub revision: i64,
    /// When it was here, in nanoseconds of CLOCK_MONOTONIC.
    pub at: u64,
    /// What was written.
    pub write: Write,
}

/// What became of a client's writes.
#[derive(Debug, Default)]
pub struct Written {
    /// Acknowledged, in the order sent.
    pub acknowledged: Vec<Acknowledged>,
    /// Sent and never answered.
    pub unknown: Vec<Write>,
    /// An answer that no write may get.
    pub wrong: Option<String>,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Written>>,
}

impl Load {
    /// Starts `clients` of them; `round` makes their values unique.
    pub fn start(address: SocketAddr, clients: u64, round: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let workers = (0..clients)
            .map(|client| {
                let (stop, count) = (stop.clone(), acknowledged.clone());
                thread::spawn(move || Worker::new(client, round).run(address, &stop, &count))
            })
            .collect();
        Load { stop, acknowledged, workers }
    }

    /// How many writes have been acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets the clients finish what they have sent, and collects what they know.
    pub fn stop(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.into_iter().map(|worker| worker.join().expect("a client does not panic")).collect()
    }
}

struct Worker {
    client: u64,
    round: u64,
    sequence: u64,
    random: Random,
}

impl Worker {
    fn new(client: u64, round: u64) -> Worker {
        Worker { client, round, sequence: 0, random: Random::new(round << 16 | client) }
    }

    fn run(mut self, address: SocketAddr, stop: &AtomicBool, count: &AtomicU64) -> Written {
        let mut written = Written::default();
        // Errors of the connection are how a killed server looks.
        let Ok(mut client) = Client::open(address) else { return written };
        while !stop.load(Ordering::Relaxed) && written.wrong.is_none() {
            let writes = (0..WINDOW as u64).map(|slot| self.next(slot)).collect::<Vec<_>>();
            let sent = writes.iter().map(|write| send(&mut client, write)).collect::<Vec<_>>();
            for (write, stream) in writes.into_iter().zip(sent) {
                match stream.and_then(|stream| client.finish::<pb::TxnResponse>(stream)) {
                    Ok(Ok(response)) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        let revision = response.header.unwrap_or_default().revision;
                        written.acknowledged.push(Acknowledged { revision, at: monotonic_ns(), write });
                    }
                    Ok(Err(status)) if status.code == UNAVAILABLE => written.unknown.push(write),
                    Ok(Err(status)) => written.wrong = Some(format!("{write:?} got {status:?}")),
                    Err(_) => written.unknown.push(write),
                }
            }
            if !written.unknown.is_empty() {
                break;
            }
        }
        written
    }

    /// The next write of `slot`: writes of one window touch different keys, for their order is the server's.
    fn next(&mut self, slot: u64) -> Write {
        let first = self.random.below(KEYS_PER_SLOT);
        let mut changes = vec![self.change(slot, first)];
        if self.random.percent(20) {
            changes.push(self.change(slot, (first + 1) % KEYS_PER_SLOT));
        }
        if self.random.percent(10) {
            // Together with a put, so that every write is seen in the store by a value that only it has.
            changes.push(Change { key: self.key(slot, (first + 2) % KEYS_PER_SLOT), value: None });
        }
        Write { changes }
    }

    fn key(&self, slot: u64, number: u64) -> Bytes {
        format!("load/{}/{slot}/{number}", self.client).into()
    }

    fn change(&mut self, slot: u64, number: u64) -> Change {
        self.sequence += 1;
        let value = format!(
            "{}-{}-{}-{}",
            self.round,
            self.client,
            self.sequence,
            "v".repeat(self.random.below(300) as usize)
        );
        Change { key: self.key(slot, number), value: Some(value.into()) }
    }
}

const UNAVAILABLE: i32 = 14;

/// Every write is a transaction, so that puts and deletes share one path.
fn send(client: &mut Client, write: &Write) -> io::Result<crate::wire::StreamId> {
    let mut request = txn([], [], []);
    request.success = write
        .changes
        .iter()
        .map(|change| match &change.value {
            Some(value) => op(put(change.key.to_vec(), value.to_vec())),
            None => op(del(change.key.to_vec())),
        })
        .collect();
    client.start("/etcdserverpb.KV/Txn", &request)
}
