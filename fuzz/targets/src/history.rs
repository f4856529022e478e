//! Records, tables and chunks of the history, and versions looked up in what they say.

use engine::disk::FileName;
use engine::disk::mem::MemDisk;
use engine::mvcc::history::chunk::{Active, Table};
use engine::mvcc::history::directory::ChunkInfo;
use engine::mvcc::history::record::{Change, NewRecord, Record};
use engine::mvcc::history::{Config, History, Mark};
use engine::mvcc::wire::KeyValue;
use engine::types::{LeaseId, Revision, Seq};

use crate::input::{Edit, Input};
use crate::stored;

const RECORDS: u64 = 12;

/// The first byte: 0, the rest is a record, or a table, as it stands; 1, the same with a right checksum; else
/// edits of a chunk, with 2 as they are and with 3 with right checksums.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => raw(input.0),
        1 => {
            let mut record = input.0.to_vec();
            if record.len() >= 48 {
                let len = record.len() as u32;
                record[..4].copy_from_slice(&len.to_le_bytes());
                stored::repair_record(&mut record);
            }
            read_record(&record);
            read_table(&stored::table_of(input.0));
        }
        mode => chunk(input, mode == 3),
    }
}

fn raw(bytes: &[u8]) {
    read_record(bytes);
    read_table(bytes);
    let _ = ChunkInfo::decode(bytes.get(..8).unwrap_or_default(), bytes.get(8..).unwrap_or_default());
    let _ = KeyValue::parse(bytes);
}

fn read_record(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        let _ =
            (record.seq(), record.prev(), record.jump(), record.main(), record.is_last(), record.fields());
    }
}

fn read_table(bytes: &[u8]) {
    let Some(table) = Table::parse(bytes, Seq(1), Revision(2)) else { return };
    for n in 0..2 * RECORDS {
        let _ = (table.find(Seq(n)), table.extent(Seq(n), 4096), table.last_at(Revision(n as i64)));
    }
}

fn chunk(mut input: Input<'_>, repair: bool) {
    let mut bytes = unfinished();
    while let Some(edit) = input.edit() {
        edit.apply(&mut bytes);
    }
    if repair {
        stored::repair_chunk(&mut bytes);
    }
    let mark = Mark {
        last_seq: RECORDS,
        last_main: RECORDS as i64 + 1,
        segment: 0,
        offset: 0,
        written: bytes.len() as u32,
        records: RECORDS as u32,
    };
    let mut disk = MemDisk::new();
    disk.put(FileName::History(0), bytes);
    let config = Config { segment_bytes: 1 << 20, chunk_bytes: 256 << 10, resident_bytes: 1 << 20 };
    let Ok(history) = History::open(config, Vec::new(), mark, Vec::new(), &mut disk) else { return };
    for seq in (1..=RECORDS).map(Seq) {
        let _ = history.record(seq).map(|record| record.map(|record| record.fields()));
        for last in (0..RECORDS).step_by(3).map(Seq) {
            let _ = history.version_at(seq, last).map(|record| record.map(|record| record.seq()));
        }
        let _ = history.last_seq_at(Revision(seq.0 as i64));
    }
}

/// The blocks of an unfinished chunk: versions of one key.
fn unfinished() -> Vec<u8> {
    let mut active = Active::new(Vec::new(), Seq(1), Revision(2), 100, 256 << 10);
    for n in 1..=RECORDS {
        let value = vec![b'v'; 30 * n as usize];
        let change = match n % 6 {
            5 => Change::Delete,
            _ => Change::Put { value: &value, created: Revision(2), version: n as i64, lease: LeaseId::NONE },
        };
        let (main, prev) = (Revision(n as i64 + 1), (n > 1).then_some(Seq(n.saturating_sub(1))));
        let jump = n.checked_sub(4).filter(|jump| *jump > 0).map(Seq);
        active.append(Seq(n), jump, &NewRecord { main, sub: 0, prev, key: b"key", change });
        active.seal_record(true);
    }
    active.pad(0).to_vec()
}

/// Records as they are, a table, and edits of headers, pointers and lengths.
pub fn seeds() -> Vec<Vec<u8>> {
    let bytes = unfinished();
    let edit = |at, bytes: &[u8]| Edit { part: 0, at, bytes }.encode();
    let with_mode = |mode: u8, rest: &[u8]| [&[mode][..], rest].concat();
    let rows: Vec<u8> =
        [0_u32, 0, 32, 1, 1, 136, 2, 3, 240].iter().flat_map(|word| word.to_le_bytes()).collect();
    let record = &bytes[32..32 + 48 + 50];
    vec![
        with_mode(0, record),
        with_mode(1, record),
        with_mode(1, &rows),
        with_mode(2, &[]),
        with_mode(2, &edit(40, &[1])),
        // Revision, region, previous and jump of a record, flags, length.
        with_mode(3, &[edit(24, &[9; 8]), edit(8, &[0; 4])].concat()),
        with_mode(3, &[edit(32 + 16, &[11]), edit(32 + 24, &[12])].concat()),
        with_mode(3, &[edit(32 + 32, &[0xff; 8]), edit(32 + 44, &[7])].concat()),
        with_mode(3, &edit(32, &[0xff, 1])),
    ]
}
