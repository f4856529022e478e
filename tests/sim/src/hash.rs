//! What HashKV must say, from the model and etcd's rules alone.

use crate::call::Kv;
use crate::model::Model;

/// The hash at `revision` of a store that was compacted at `compacted`; or the one that a compaction at `revision`
/// leaves, `compacted` being the one before.
pub fn hash(model: &Model, compacted: i64, revision: i64, of_compaction: bool) -> u32 {
    let mut bytes = b"key".to_vec();
    let keys_of = |revision| model.changes(revision).iter().map(|change| &change.key);
    let keeps_any = (2..=revision).flat_map(keys_of).any(|key| model.get(key, revision).is_some());
    // A compaction that would keep nothing makes etcd skip nothing: then what the last one kept counts.
    let kept_at = if keeps_any || of_compaction { revision } else { compacted };
    for main in 2..=revision {
        for (sub, change) in (0u64..).zip(model.changes(main)) {
            // A key may be deleted and put again in one transaction.
            let kept = || change.kv.is_some() && change.kv.as_ref() == model.get(&change.key, kept_at);
            if main > compacted || kept() {
                bytes.extend_from_slice(&main.to_be_bytes());
                bytes.push(b'_');
                bytes.extend_from_slice(&sub.to_be_bytes());
                match &change.kv {
                    Some(kv) => put_pair(&mut bytes, kv),
                    None => {
                        bytes.push(b't');
                        put_bytes(&mut bytes, 1, &change.key);
                    }
                }
            }
        }
    }
    crc32c::crc32c(&bytes)
}

fn put_pair(out: &mut Vec<u8>, kv: &Kv) {
    put_bytes(out, 1, &kv.key);
    for (field, number) in [(2, kv.created), (3, kv.modified), (4, kv.version)] {
        put_int(out, field, number);
    }
    put_bytes(out, 5, &kv.value);
    if kv.lease != 0 {
        put_int(out, 6, kv.lease);
    }
}

fn put_int(out: &mut Vec<u8>, field: u8, number: i64) {
    out.push(field << 3);
    put_number(out, number as u64);
}

/// Protobuf leaves out what is empty.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        put_number(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    let groups = (0..10).take_while(|group| *group == 0 || number >> (7 * group) != 0).count();
    for group in 0..groups {
        let more = if group + 1 < groups { 0x80 } else { 0 };
        out.push((number >> (7 * group)) as u8 & 0x7f | more);
    }
}
