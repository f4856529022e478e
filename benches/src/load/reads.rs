//! Reads of many keys: counts of all, and lists by pages, as Kubernetes' clients do them.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kontiki_tests::proto::etcdserverpb as pb;
use kontiki_tests::random::Random;
use prost::Message;

use super::calls::{Calls, turn};
use super::fields::{Value, bytes, fields, number};
use super::latencies::Latencies;
use super::run::Summary;
use super::workload::key_bytes;

const PATH: &str = "/etcdserverpb.KV/Range";
/// All keys of [`key_bytes`] are in between, and those of other scenarios behind.
const FIRST: &[u8] = b"0";
const END: &[u8] = b"g";
/// After the end of a run its last reads may take this long: etcd counts a million keys in a fifth of a second of CPU.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The number of all keys, which is checked.
    Count,
    /// Pages of so many keys, each from behind the last key of the one before and at the first one's revision.
    Pages(u64),
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct ReadPlan {
    /// What is read.
    pub reads: Reads,
    /// Keys in the store.
    pub keys: u64,
    /// Over how many connections.
    pub connections: usize,
    /// Readers of each connection, with one read under way each.
    pub readers: usize,
    /// For how long.
    pub duration: Duration,
    /// Chooses where each list begins.
    pub seed: u64,
}

/// Reads until the time is over. Errors: a read that fails or is not answered in full.
pub fn read(address: SocketAddr, plan: &ReadPlan) -> io::Result<Summary> {
    let mut connections =
        (0..plan.connections).map(|_| Calls::open(address, PATH)).collect::<io::Result<Vec<_>>>()?;
    let mut random = Random::new(plan.seed);
    let mut readers = Vec::new();
    for calls in &mut connections {
        for _ in 0..plan.readers {
            let mut reader = Reader::new(plan.reads, plan.keys, random.below(plan.keys));
            reader.ask(calls)?;
            readers.push(reader);
        }
    }
    let start = Instant::now();
    let end = start + plan.duration;
    let mut latencies = Latencies::default();
    let mut step = |end: Instant, again: bool, latencies: &mut Latencies| {
        let left = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
        turn(&mut connections, left, |connection, calls, stream, message| {
            let mine = &mut readers[connection * plan.readers..][..plan.readers];
            let reader = mine.iter_mut().find(|reader| reader.stream == stream);
            let reader = reader.ok_or_else(|| io::Error::other("a second answer to one read"))?;
            latencies.add(reader.sent.elapsed());
            reader.on_answer(message)?;
            if again { reader.ask(calls) } else { Ok(()) }
        })?;
        Ok::<usize, io::Error>(connections.iter().map(Calls::under_way).sum())
    };
    while Instant::now() < end {
        step(end, true, &mut latencies)?;
    }
    let (elapsed, answered) = (start.elapsed(), latencies.len() as u64);
    let drained = Instant::now() + DRAIN_MAX;
    let mut failures = usize::MAX;
    while failures > 0 && Instant::now() < drained {
        failures = step(drained, false, &mut latencies)?;
    }
    let operations = latencies.len() as u64;
    Ok(Summary { answered, failures: failures as u64, failure: None, elapsed, operations, latencies })
}

/// One who reads again and again.
struct Reader {
    reads: Reads,
    keys: u64,
    /// The next list page begins here.
    from: Vec<u8>,
    /// Of the list's first page; 0 before that.
    revision: i64,
    stream: u32,
    sent: Instant,
}

impl Reader {
    fn new(reads: Reads, keys: u64, first: u64) -> Reader {
        let from = match reads {
            Reads::Count => FIRST.to_vec(),
            Reads::Pages(_) => key_bytes(first).to_vec(),
        };
        Reader { reads, keys, from, revision: 0, stream: 0, sent: Instant::now() }
    }

    fn ask(&mut self, calls: &mut Calls) -> io::Result<()> {
        self.sent = Instant::now();
        self.stream = calls.ask(&self.request().encode_to_vec())?;
        Ok(())
    }

    fn request(&self) -> pb::RangeRequest {
        let range =
            pb::RangeRequest { key: self.from.clone().into(), range_end: END.into(), ..Default::default() };
        match self.reads {
            Reads::Count => pb::RangeRequest { count_only: true, ..range },
            Reads::Pages(limit) => pb::RangeRequest { limit: limit as i64, revision: self.revision, ..range },
        }
    }

    /// Takes an answer and goes on behind it. Errors: it is not whole.
    fn on_answer(&mut self, message: &[u8]) -> io::Result<()> {
        let wrong = |text: String| Err(io::Error::other(format!("{:?}: {text}", self.reads)));
        let limit = match self.reads {
            Reads::Count => {
                let count = number(message, 4).unwrap_or(0);
                return if count == self.keys {
                    Ok(())
                } else {
                    wrong(format!("{count} keys of {}", self.keys))
                };
            }
            Reads::Pages(limit) => limit,
        };
        let (mut kvs, mut last) = (0, &[][..]);
        for (field, value) in fields(message) {
            if let (2, Value::Bytes(kv)) = (field, value) {
                (kvs, last) = (kvs + 1, kv);
            }
        }
        let more = number(message, 3).is_some_and(|more| more != 0);
        if more && kvs < limit {
            return wrong(format!("a page of {kvs}"));
        }
        if more {
            let header = bytes(message, 1).unwrap_or_default();
            if self.revision == 0 {
                self.revision = number(header, 3).unwrap_or(0) as i64;
            }
            self.from = [bytes(last, 1).unwrap_or_default(), &[0]].concat();
        } else {
            (self.from, self.revision) = (FIRST.to_vec(), 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], more: bool) -> Vec<u8> {
        let kv = |key: &&str| kontiki_tests::proto::mvccpb::KeyValue {
            key: key.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let header = pb::ResponseHeader { revision: 9, ..Default::default() };
        let kvs = keys.iter().map(kv).collect();
        pb::RangeResponse { header: Some(header), kvs, more, count: 3 }.encode_to_vec()
    }

    #[test]
    fn a_list_goes_on_behind_its_last_key() {
        let mut reader = Reader::new(Reads::Pages(2), 3, 0);
        assert_eq!((&reader.request().key[..], reader.request().limit), (&key_bytes(0)[..], 2));
        reader.on_answer(&page(&["a", "b"], true)).unwrap();
        assert_eq!((&reader.request().key[..], reader.request().revision), (&b"b\0"[..], 9));
        reader.on_answer(&page(&["c"], false)).unwrap();
        assert_eq!((&reader.request().key[..], reader.request().revision), (FIRST, 0));
        assert!(reader.on_answer(&page(&["c"], true)).is_err(), "half a page");
    }

    #[test]
    fn a_count_is_checked() {
        let mut reader = Reader::new(Reads::Count, 3, 1);
        assert!(reader.request().count_only);
        reader.on_answer(&page(&[], false)).unwrap();
        reader.keys = 4;
        assert!(reader.on_answer(&page(&[], false)).is_err());
    }
}
