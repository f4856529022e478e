//! The history as a whole: against a plain vector of versions, through eviction, cold reads and reopening.

use std::collections::BTreeMap;

use super::*;
use crate::types::LeaseId;

/// A disk that keeps files in memory and carries everything out at once.
#[derive(Default)]
struct Files(BTreeMap<FileName, Vec<u8>>);

impl Disk for Files {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.0.iter().map(|(name, bytes)| (*name, bytes.len() as u64)).collect())
    }

    fn run(&mut self, op: Op) -> Outcome {
        match op {
            Op::Create { file, len } => {
                assert!(self.0.insert(file, vec![0; len as usize]).is_none(), "{file} exists");
            }
            Op::Write { file, offset, data, .. } => {
                let bytes = self.0.get_mut(&file).expect("written files exist");
                let end = offset as usize + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[offset as usize..end].copy_from_slice(&data);
            }
            Op::Read { file, offset, len, .. } => {
                let bytes = &self.0[&file][offset as usize..offset as usize + len];
                return Ok(Output::Data(Bytes::copy_from_slice(bytes)));
            }
            Op::Remove { file } => drop(self.0.remove(&file)),
            Op::Sync { .. } => {}
            other => unreachable!("{other:?}"),
        }
        Ok(Output::Done)
    }
}

fn drive(history: &mut History, files: &mut Files) {
    while let Some((token, op)) = history.poll_disk() {
        history.on_completed(token, files.run(op)).unwrap();
    }
}

fn warm<T>(history: &mut History, files: &mut Files, read: impl Fn(&History) -> Result<T, Cold>) -> T {
    for _ in 0..10_000 {
        match read(history) {
            Ok(value) => return value,
            Err(cold) => drop(history.fetch(&cold)),
        }
        drive(history, files);
    }
    panic!("still cold after 10,000 reads");
}

const SMALL: Config = Config { segment_bytes: 1 << 20, resident_bytes: 512 << 10 };

/// Writes `count` versions of one key, every tenth of them a delete, with a bystander key between.
fn write_versions(history: &mut History, count: u64, value_len: usize) -> Vec<Seq> {
    let value = vec![b'v'; value_len];
    let (mut prev, mut version, mut seqs) = (None, 0, Vec::new());
    for n in 0..count {
        let main = history.last_main().next();
        let deleted = n % 10 == 9;
        version = if deleted { 0 } else { version + 1 };
        let put = Change::Put { value: &value, created: main, version, lease: LeaseId::NONE };
        let change = if deleted { Change::Delete } else { put };
        let seq = history.append(&NewRecord { main, sub: 0, prev, key: b"key", change });
        let other = Change::Put { value: &value, created: main, version: 1, lease: LeaseId::NONE };
        history.append(&NewRecord { main, sub: 1, prev: None, key: b"bystander", change: other });
        history.end_transaction();
        (prev, seqs) = (Some(seq), {
            seqs.push(seq);
            seqs
        });
    }
    seqs
}

fn check_versions(history: &mut History, files: &mut Files, seqs: &[Seq], step: usize) {
    let newest = *seqs.last().unwrap();
    for (n, &seq) in seqs.iter().enumerate().step_by(step) {
        let revision = Revision(n as i64 + 2);
        let last = warm(history, files, |h| h.last_seq_at(revision));
        assert_eq!(last, Seq(seq.0 + 1), "last record of revision {revision}");
        let found =
            warm(history, files, |h| h.version_at(newest, last).map(|r| r.map(|r| (r.seq(), r.main()))));
        assert_eq!(found, Some((seq, revision)));
    }
    assert_eq!(warm(history, files, |h| h.last_seq_at(Revision(1))), Seq(0));
    assert!(!warm(history, files, |h| h.version_at(newest, Seq(0)).map(|r| r.is_some())));
}

#[test]
fn every_old_version_is_found_resident_and_cold() {
    let (mut history, mut files) = (History::new(SMALL), Files::default());
    let seqs = write_versions(&mut history, 3_000, 600);
    check_versions(&mut history, &mut files, &seqs, 7);
    drive(&mut history, &mut files);
    let resident: usize = history.finished.iter().filter_map(|s| s.bytes.as_ref()).map(Bytes::len).sum();
    assert!(resident <= SMALL.resident_bytes, "{resident} bytes resident");
    assert!(files.0.len() >= 3, "several files were begun");
    check_versions(&mut history, &mut files, &seqs, 7);
}

#[test]
fn a_checkpoint_is_opened_where_it_ended() {
    let (mut history, mut files) = (History::new(SMALL), Files::default());
    let mut rows = Vec::new();
    let mut seqs = Vec::new();
    for round in 0..20 {
        seqs = write_more(&mut history, seqs, 37 * (round + 1));
        let mark = history.begin_checkpoint();
        rows.extend(history.take_finished());
        drive(&mut history, &mut files);
        assert!(history.is_stable());
        // What came after the checkpoint is lost with the process, and replayed at the same places.
        write_more(&mut history, seqs.clone(), 11);
        drive(&mut history, &mut files);
        history = History::open(SMALL, rows.clone(), mark, &mut files).unwrap();
        assert_eq!(history.next_seq(), Seq(mark.last_seq + 1));
        check_versions(&mut history, &mut files, &seqs, 13);
    }
}

fn write_more(history: &mut History, mut seqs: Vec<Seq>, count: u64) -> Vec<Seq> {
    for _ in 0..count {
        let main = history.last_main().next();
        let change = Change::Put { value: &[7; 500], created: main, version: 1, lease: LeaseId::NONE };
        let seq =
            history.append(&NewRecord { main, sub: 0, prev: seqs.last().copied(), key: b"key", change });
        history.append(&NewRecord { main, sub: 1, prev: None, key: b"bystander", change });
        history.end_transaction();
        seqs.push(seq);
    }
    seqs
}

#[test]
fn values_larger_than_a_chunk_live_among_small_ones() {
    let (mut history, mut files) = (History::new(SMALL), Files::default());
    let mut seqs = write_versions(&mut history, 5, 10);
    seqs = write_more(&mut history, seqs, 3);
    let main = history.last_main().next();
    let large = vec![1; 700_000];
    let change = Change::Put { value: &large, created: main, version: 9, lease: LeaseId::NONE };
    let seq = history.append(&NewRecord { main, sub: 0, prev: seqs.last().copied(), key: b"key", change });
    history.end_transaction();
    write_more(&mut history, vec![seq], 2_000);
    drive(&mut history, &mut files);
    history.evict();
    let value = warm(&mut history, &mut files, |h| h.record(seq).map(|r| r.unwrap().fields().value.to_vec()));
    assert_eq!(value, large);
}

#[test]
fn a_cold_record_brings_its_neighbours() {
    let (mut history, mut files) = (History::new(SMALL), Files::default());
    let seqs = write_versions(&mut history, 3_000, 600);
    drive(&mut history, &mut files);
    let is_cold = |history: &History, seq: Seq| history.record(seq).is_err();
    assert!(seqs[..60].iter().all(|&seq| is_cold(&history, seq)));
    history.fetch(&Cold::Record(seqs[20]));
    drive(&mut history, &mut files);
    let warm: Vec<usize> = (0..60).filter(|&n| !is_cold(&history, seqs[n])).collect();
    // Sixteen KiB hold a dozen of the key's versions, with the other key's between them.
    assert!(warm.len() > 10 && warm.len() < 20, "{warm:?}");
    assert_eq!(warm, (20..20 + warm.len()).collect::<Vec<_>>());
    // At the end of a chunk there are fewer.
    let last = history.chunks().next().unwrap().last_seq;
    let next = Seq(last.0 + 1);
    history.fetch(&Cold::Record(last));
    drive(&mut history, &mut files);
    assert!(!is_cold(&history, last) && is_cold(&history, next));
    assert_eq!(history.record(last).unwrap().unwrap().seq(), last);
}

#[test]
fn damage_on_disk_is_named_and_never_answered_from() {
    let (mut history, mut files) = (History::new(SMALL), Files::default());
    let seqs = write_versions(&mut history, 3_000, 600);
    drive(&mut history, &mut files);
    let first = history.chunks().next().copied().unwrap();
    assert!(matches!(history.record(seqs[5]), Err(Cold::Record(_))));
    for byte in files.0.get_mut(&first.file()).unwrap()[..first.region as usize].iter_mut() {
        *byte ^= 0x10;
    }
    history.fetch(&Cold::Record(seqs[5]));
    let (token, op) = history.poll_disk().unwrap();
    let error = history.on_completed(token, files.run(op)).unwrap_err();
    assert!(error.to_string().contains("history/0000000000000000.seg"), "{error}");
}
