//! A small data directory as the replica writes it, and right checksums in files that were edited.

use std::time::Instant;

use engine::disk::mem::MemDisk;
use engine::disk::{BLOCK_SIZE, Disk, FileName};
use engine::map::Limits;
use engine::map::page::PAGE_SIZE;
use engine::mvcc::history;
use engine::replica::open::{Opened, open};
use engine::replica::{CallId, Config, Event, Replica, Work};
use engine::request::{Put, Write};
use engine::wal;
use engine::wal::layout::{HEADER_BYTES, MAGIC};

/// Ids of the directory's owner.
pub const IDENTITY: wal::Identity = wal::Identity { cluster: 0xc1, member: 0x3e };

/// Small everywhere: segments that two bytes can address, a few pages of index.
pub fn config() -> Config {
    let mut config = Config::new(IDENTITY.cluster, IDENTITY.member, 1);
    config.request_bytes_max = 16 << 10;
    config.wal = log_config();
    config.history =
        history::Config { segment_bytes: 256 << 10, chunk_bytes: 256 << 10, resident_bytes: 256 << 10 };
    config.map = Limits { page_count_max: 4096, frame_count_max: 1024, readers_max: 4 };
    config
}

/// The log's part of it.
pub fn log_config() -> wal::Config {
    wal::Config {
        block_bytes_max: 8 << 10,
        batch_bytes: 4 << 10,
        entry_bytes_max: 20 << 10,
        segment_bytes: 64 << 10,
        segment_bytes_first: 64 << 10,
        ahead_bytes_min: 64 << 10,
        ..wal::Config::default()
    }
}

/// A directory after two starts: some entries in the index, some only in the log.
pub fn directory() -> MemDisk {
    let mut disk = MemDisk::new();
    let mut replica = start(&mut disk, 1 << 40);
    for n in 0..12 {
        put(&mut replica, &mut disk, n);
    }
    replica.stop();
    while !replica.is_stopped() {
        run(&mut replica, &mut disk);
    }
    let mut replica = start(&mut disk, 1 << 41);
    for n in 6..12 {
        put(&mut replica, &mut disk, n);
    }
    disk
}

/// All files of it, in order of their names.
pub fn files(disk: &mut MemDisk) -> Vec<FileName> {
    disk.list().expect("memory can be listed").into_iter().map(|(name, _)| name).collect()
}

fn start(disk: &mut MemDisk, nonce: u64) -> Replica {
    let Opened { mut replica, .. } =
        open(config(), disk, None, nonce, Instant::now()).expect("what was written can be opened");
    while !replica.raft().is_leader() {
        run(&mut replica, disk);
    }
    replica
}

fn put(replica: &mut Replica, disk: &mut MemDisk, n: u64) {
    let key = format!("/registry/pods/default/web-{n:03}");
    let value = vec![b'a' + (n % 26) as u8; 40 * n as usize];
    let write = Write::Put(Put { key: key.as_bytes(), value: &value, ..Put::default() });
    replica.propose(Instant::now(), CallId(n), &write, value.len()).expect("a small request");
    loop {
        run(replica, disk);
        match replica.poll_event() {
            Some(Event::Answer { answer, .. }) => {
                answer.expect("a put succeeds");
                return;
            }
            Some(other) => unreachable!("{other:?} of a put"),
            None => {}
        }
    }
}

/// One turn, with everything it asks for done at once.
fn run(replica: &mut Replica, disk: &mut MemDisk) {
    replica.turn(Instant::now()).expect("memory does not fail");
    assert!(work(replica, disk), "memory does not fail");
}

/// Does everything the replica asks for; false when it gave up.
pub fn work(replica: &mut Replica, disk: &mut MemDisk) -> bool {
    while let Some(work) = replica.poll_work() {
        let done = match work {
            Work::Disk(token, op) => {
                let outcome = disk.run(op);
                replica.on_disk(token, outcome)
            }
            Work::Checkpoint(mut job) => {
                let outcome = job.run(disk, || {});
                replica.on_checkpoint(job, outcome)
            }
            Work::Prefault(prefault) => {
                replica.on_prefaulted(prefault.run().expect("there is some memory"));
                Ok(())
            }
            Work::Populate(populate) => replica.on_populated(populate.run()),
        };
        if done.is_err() {
            return false;
        }
    }
    true
}

/// Makes the checksums of all log blocks right; with `chain`, also each block's word on the one before.
pub fn repair_log(file: &mut [u8], chain: bool) {
    const LENGTH: usize = 56;
    const PREVIOUS: usize = 60;
    const BODY_LENGTH: usize = 112;
    const BODY_CRC: usize = 116;
    const HEADER_CRC: usize = 124;
    let mut previous: Option<u32> = None;
    for at in (0..file.len()).step_by(BLOCK_SIZE) {
        if !file[at..].starts_with(&MAGIC) {
            continue;
        }
        let body_len = word(file, at + BODY_LENGTH) as usize;
        let padded = (HEADER_BYTES + body_len.min(file.len())).next_multiple_of(BLOCK_SIZE) as u32;
        set_word(file, at + LENGTH, padded);
        if let Some(body) = file.get(at + HEADER_BYTES..(at + HEADER_BYTES).saturating_add(body_len)) {
            let crc = crc32fast::hash(body);
            set_word(file, at + BODY_CRC, crc);
        }
        if let (true, Some(previous)) = (chain, previous) {
            set_word(file, at + PREVIOUS, previous);
        }
        let crc = crc32fast::hash(&file[at..at + HEADER_CRC]);
        set_word(file, at + HEADER_CRC, crc);
        previous = Some(crc);
    }
}

/// Makes the checksums of all pages of an index file right, meta pages included.
pub fn repair_index(file: &mut [u8]) {
    for page in file.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().filter(|page| **page != [0; PAGE_SIZE]) {
        let crc = crc32fast::hash(&page[4..]);
        set_word(page, 0, crc);
    }
}

/// Makes the checksums right of a history chunk that begins at the start of `chunk`, and of its records as far as
/// their lengths lead.
pub fn repair_chunk(chunk: &mut [u8]) {
    const HEADER: usize = 32;
    const RECORD_HEADER: usize = history::record::HEADER;
    if chunk.len() < HEADER {
        return;
    }
    let head: Vec<u8> = [&chunk[..12], &chunk[16..HEADER]].concat();
    set_word(chunk, 12, crc32fast::hash(&head));
    let mut at = HEADER;
    while at + RECORD_HEADER <= chunk.len() {
        let len = word(chunk, at) as usize;
        if len < RECORD_HEADER || len > chunk.len() - at {
            // Padding to the next block, or nonsense.
            at = (at + 1).next_multiple_of(BLOCK_SIZE);
            continue;
        }
        repair_record(&mut chunk[at..at + len]);
        at += len.next_multiple_of(history::record::ALIGN);
    }
}

/// Makes the checksum of one whole record right.
pub fn repair_record(record: &mut [u8]) {
    let crc = crc32fast::hash(&record[8..]);
    set_word(record, 4, crc);
}

/// The table of a chunk that begins with record 1, with these bytes as rows and all else right.
pub fn table_of(rows: &[u8]) -> Vec<u8> {
    const ROW: usize = 12;
    let rows = &rows[..rows.len() - rows.len() % ROW];
    let last = rows.len().checked_sub(ROW).map_or(0, |at| word(rows, at));
    let mut tail = rows.to_vec();
    tail.extend(((rows.len() / ROW) as u32).to_le_bytes());
    tail.extend(crc32fast::hash(rows).to_le_bytes());
    tail.extend((1 + u64::from(last)).to_le_bytes());
    tail
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

fn set_word(bytes: &mut [u8], at: usize, word: u32) {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
}
