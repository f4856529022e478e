//! Speed of the index tree alone: random puts in batches, gets, a scan and counts, in CPU time of one thread.
//!
//! `cargo run --release -p kontiki-engine --example index_bench [keys]`. Pages are in one vector and are published by
//! forgetting which were private; a retired page is used again in the batch after, as without readers.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use engine::map::page::{Miss, PAGE_SIZE, Page, PageNo, ReadPages, WritePages};
use engine::mvcc::index::entry::KeyEntry;
use engine::mvcc::index::{Error, Index, Root};
use engine::request::KeyRange;
use engine::types::{LeaseId, Revision, Seq};

/// Aligned, as in the index file: a page that straddles two of the processor's costs twice the TLB misses.
#[repr(align(4096))]
struct Aligned(Page);

struct Memory {
    pages: Vec<Aligned>,
    /// Batch each page was born in.
    births: Vec<u32>,
    batch: u32,
    free: Vec<PageNo>,
    retired: Vec<PageNo>,
    copied: u64,
}

impl Memory {
    fn publish(&mut self) {
        self.batch += 1;
        self.free.append(&mut self.retired);
    }
}

impl ReadPages for Memory {
    fn page(&self, no: PageNo) -> Result<&Page, Miss> {
        self.pages.get(no.0 as usize).map(|page| &page.0).ok_or(Miss { page: no })
    }
}

impl WritePages for Memory {
    fn allocate(&mut self) -> PageNo {
        self.copied += 1;
        let no = self.free.pop().unwrap_or_else(|| {
            self.pages.push(Aligned([0; PAGE_SIZE]));
            self.births.push(0);
            PageNo(self.pages.len() as u32 - 1)
        });
        self.births[no.0 as usize] = self.batch;
        no
    }

    fn is_private(&self, no: PageNo) -> bool {
        self.births[no.0 as usize] == self.batch
    }

    fn page_mut(&mut self, no: PageNo) -> &mut Page {
        assert!(self.is_private(no));
        &mut self.pages[no.0 as usize].0
    }

    fn retire(&mut self, no: PageNo) {
        if self.is_private(no) { self.free.push(no) } else { self.retired.push(no) }
    }
}

fn key(n: u64) -> Vec<u8> {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = format!("/registry/pods/ns-{:03}/pod-{n:016x}", n % 500);
    format!("{key:x<43}").into_bytes()
}

fn entry(revision: i64, created: i64, version: i64) -> KeyEntry {
    KeyEntry {
        seq: Seq(revision as u64),
        modified: Revision(revision),
        created: Revision(created),
        version,
        wire_len: 300,
        lease: LeaseId::NONE,
        tombstone: false,
    }
}

fn report(what: &str, count: usize, start: Duration) {
    let ns = (now() - start).as_nanos() as f64 / count as f64;
    println!("{what:<28}{ns:>8.0} ns each {:>8.2} M/s", 1e3 / ns);
}

/// CPU time of this thread: on a shared machine the clock on the wall measures the others.
fn now() -> Duration {
    let stat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
    let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.expect("the first number is the time on a CPU in ns"))
}

fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).map_or(1_000_000, |arg| arg.parse().expect("a number of keys"));
    let pages = Vec::with_capacity(count / 30 + 20_000);
    let memory =
        Memory { pages, births: Vec::new(), batch: 1, free: Vec::new(), retired: Vec::new(), copied: 0 };
    let mut index = Index::new(memory, Root::EMPTY);
    // Pages 0 and 1 are the meta pages.
    index.pages_mut().allocate();
    index.pages_mut().allocate();
    let keys: Vec<_> = (0..count as u64).map(key).collect();
    let mut revision = 1;

    let start = now();
    for batch in keys.chunks(1024) {
        for key in batch {
            revision += 1;
            index.put(key, &entry(revision, revision, 1))?;
        }
        index.pages_mut().publish();
    }
    report("load, batches of 1024", count, start);
    let whole = index.view().check()?;
    let bytes = whole.pages() as usize * PAGE_SIZE / count;
    println!(
        "{whole:?}\nfill {:.0} %, {bytes} bytes a key, height {}",
        whole.fill() * 100.0,
        index.root().height
    );

    // Keys are in random order already; taken one after the other they cost no cache misses of their own.
    let mut at = 0;
    let mut pick = || {
        at = (at + 1) % count;
        &keys[at]
    };
    for size in [1, 16, 128, 1024] {
        let rounds = 300_000.min(count);
        let copied = index.pages().copied;
        let start = now();
        for i in 0..rounds {
            revision += 1;
            index.put(pick(), &entry(revision, revision - 1000, 2))?;
            if i % size == 0 {
                index.pages_mut().publish();
            }
        }
        report(&format!("update, batches of {size}"), rounds, start);
        println!("    {:.2} pages copied a put", (index.pages().copied - copied) as f64 / rounds as f64);
    }
    let start = now();
    for _ in 0..500_000 {
        black_box(index.get(pick())?);
    }
    report("get", 500_000, start);

    // How fast memory is today: the same keys in a map, by reference.
    let map: BTreeMap<&[u8], u64> = keys.iter().map(|key| (key.as_slice(), 0)).collect();
    let start = now();
    for _ in 0..500_000 {
        black_box(map.get(pick().as_slice()));
    }
    report("get from a BTreeMap", 500_000, start);
    drop(map);

    let start = now();
    let view = index.view();
    let mut scan = view.scan(KeyRange { key: b"", end: engine::request::RangeEnd::Unbounded });
    let mut sum = 0;
    while let Some((key, entry)) = scan.next()? {
        sum += key.len() as u64 + u64::from(entry.wire_len);
    }
    black_box(sum);
    report("scan", count, start);

    let start = now();
    for _ in 0..100_000 {
        let (a, b) = (pick(), pick());
        black_box(view.count(KeyRange::new(a.min(b), a.max(b)))?);
    }
    report("count of a random range", 100_000, start);
    Ok(())
}
