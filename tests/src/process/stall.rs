//! A disk whose cold reads stall must not slow down what needs no cold read: puts and linearizable gets of keys that
//! are in memory.
//!
//! A server with many keys is started again with `--kontiki-stall-reads`, so that every read of cold data waits. Some
//! keys are brought in; then puts and gets of those are timed, first alone, then while other clients ask for cold keys
//! all the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::differential::build::{get, op, put, txn};
use crate::proto::etcdserverpb as pb;
use crate::server::{Binary, Server};

use super::times::Times;
use super::{Failure, Verdict, ensure};

const KEYS: u64 = 100_000;
/// Keys written by one transaction while loading.
const BATCH: u64 = 100;
const VALUE_LEN: usize = 100;
/// The first keys are brought in and used.
const RESIDENT: u64 = 50;
/// How long each cold read waits.
const STALL: &str = "--kontiki-stall-reads=5s";
/// Checkpoints fall into the measurements.
const CHECKPOINTS: &str = "--kontiki-checkpoint-entries=400";
/// Long enough that the log needs new space meanwhile.
const PUT_LEN: usize = 32 << 10;
/// Clients that ask for cold keys, one request at a time each.
const COLD_CLIENTS: u64 = 24;
/// A key may be several cold reads away: pages, the table of its chunk, the record.
const RESIDENT_WITHIN: Duration = Duration::from_secs(60);
/// How long each measurement takes.
const MEASURE: Duration = Duration::from_secs(12);
/// The slow percentiles may double, and this much is noise.
const NOISE: Duration = Duration::from_millis(1);

/// Loads, restarts, measures and compares.
pub fn run(binary: &Binary) -> Verdict {
    let server = Server::start(binary, &[])?;
    load(server.client())?;
    let (_, site) = server.terminate()?;
    let server = Server::start_at(binary, site, &[STALL, CHECKPOINTS]).map_err(|(error, _)| error)?;
    bring_in(server.client())?;
    let alone = measure(server.client())?;
    let cold = ColdClients::start(server.client());
    thread::sleep(Duration::from_secs(1));
    let beside = measure(server.client())?;
    let answers = cold.stop();
    let numbers =
        format!("alone {alone}; beside {COLD_CLIENTS} clients of cold keys {beside}; {answers} cold answers");
    for (what, alone, beside) in [("gets", alone.gets, beside.gets), ("puts", alone.puts, beside.puts)] {
        ensure(beside.p99 <= alone.p99 * 2 + NOISE, || {
            format!("p99 of {what} more than doubled: {numbers}")
        })?;
    }
    Ok(numbers)
}

fn key(number: u64) -> Vec<u8> {
    format!("stall/{number:08}").into_bytes()
}

fn load(address: SocketAddr) -> Result<(), Failure> {
    let mut client = Client::open(address)?;
    for first in (0..KEYS).step_by(BATCH as usize) {
        let mut request = txn([], [], []);
        request.success =
            (first..first + BATCH).map(|number| op(put(key(number), vec![b'v'; VALUE_LEN]))).collect();
        client.txn(&request)?.map_err(|status| Failure::Wrong(format!("loading: {status:?}")))?;
    }
    Ok(())
}

/// Reads and writes the resident keys until all answer: what a read or a write of them needs is then in memory.
fn bring_in(address: SocketAddr) -> Result<(), Failure> {
    let deadline = Instant::now() + RESIDENT_WITHIN;
    // An answer that takes too long is an error of the connection, and the next round finds more in memory.
    while !all_answer(address)? {
        ensure(Instant::now() < deadline, || format!("keys are not in memory after {RESIDENT_WITHIN:?}"))?;
    }
    Ok(())
}

/// Asks for all resident keys at once, then writes them all at once.
fn all_answer(address: SocketAddr) -> Result<bool, Failure> {
    let mut client = Client::open(address)?;
    let mut all = true;
    let sent: Vec<_> =
        (0..RESIDENT).map(|number| client.start(RANGE, &get(key(number)))).collect::<Result<_, _>>()?;
    for stream in sent {
        all &= client.finish::<pb::RangeResponse>(stream).is_ok_and(|answer| answer.is_ok());
    }
    let mut client = Client::open(address)?;
    let sent: Vec<_> = (0..RESIDENT)
        .map(|number| client.start(PUT, &put(key(number), "brought in")))
        .collect::<Result<_, _>>()?;
    for stream in sent {
        all &= client.finish::<pb::PutResponse>(stream).is_ok_and(|answer| answer.is_ok());
    }
    Ok(all)
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";

#[derive(Clone, Copy)]
struct Measured {
    gets: Times,
    puts: Times,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gets {}, puts {}", self.gets, self.puts)
    }
}

/// Gets and puts of resident keys by turns, one at a time.
fn measure(address: SocketAddr) -> Result<Measured, Failure> {
    let mut client = Client::open(address)?;
    let value = vec![b'a'; PUT_LEN];
    let (mut gets, mut puts) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for number in (0..RESIDENT).cycle() {
        let get_at = Instant::now();
        client.range(&get(key(number)))?.map_err(|status| Failure::Wrong(format!("get: {status:?}")))?;
        let put_at = Instant::now();
        client.put(&key(number), &value)?.map_err(|status| Failure::Wrong(format!("put: {status:?}")))?;
        gets.push(put_at - get_at);
        puts.push(put_at.elapsed());
        if begun.elapsed() >= MEASURE {
            break;
        }
    }
    Ok(Measured { gets: Times::of(gets), puts: Times::of(puts) })
}

/// Clients that read keys nobody read before.
struct ColdClients {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    workers: Vec<JoinHandle<()>>,
}

impl ColdClients {
    fn start(address: SocketAddr) -> ColdClients {
        let (stop, answers) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        // Far from each other and from the resident ones, each key once.
        let next = Arc::new(AtomicU64::new(1));
        let workers = (0..COLD_CLIENTS)
            .map(|_| {
                let (stop, answers, next) = (stop.clone(), answers.clone(), next.clone());
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Ok(mut client) = Client::open(address) else { return };
                        let number =
                            next.fetch_add(1, Ordering::Relaxed) * 1009 % (KEYS - RESIDENT) + RESIDENT;
                        // Behind many others a cold read may take longer than a client waits.
                        if client.range(&get(key(number))).is_ok_and(|answer| answer.is_ok()) {
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        ColdClients { stop, answers, workers }
    }

    /// How many cold reads were answered.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.into_iter().for_each(|worker| worker.join().expect("a client does not panic"));
        self.answers.load(Ordering::Relaxed)
    }
}
