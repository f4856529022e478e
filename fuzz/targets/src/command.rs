//! Log entries: whatever decodes says the same after another round.

use engine::command::{self, RequestId};
use engine::request::{
    Alarm, AlarmAction, AlarmKind, Compact, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange,
    LeaseCheckpoint, LeaseGrant, Op, Put, Range, Txn, Write,
};
use engine::types::LeaseId;

/// Decodes, encodes, decodes.
pub fn target(data: &[u8]) {
    let _ = command::request_id(data);
    let Ok(decoded) = command::decode(data) else { return };
    let mut again = Vec::new();
    command::encode(&mut again, decoded.id, &decoded.write);
    assert_eq!(command::decode(&again).as_ref(), Ok(&decoded));
    assert!(again.len() <= data.len(), "{} bytes grew to {}", data.len(), again.len());
}

/// One of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let put = Put { key: b"key", value: b"value", lease: LeaseId(9), prev_kv: true, ..Put::default() };
    let delete = DeleteRange { keys: KeyRange::new(b"a", b"z"), prev_kv: true };
    let range = Range { limit: 7, keys_only: true, ..Range::of(KeyRange::new(b"a", b"\0")) };
    let compare = |target| Compare { keys: KeyRange::new(b"k", b""), result: CompareResult::Equal, target };
    let inner = Txn { success: vec![Op::Put(put), Op::Unset], ..Txn::default() };
    let txn = Txn {
        compare: vec![compare(CompareTarget::Mod(5)), compare(CompareTarget::Value(b"v"))],
        success: vec![Op::Put(put), Op::Range(range), Op::Txn(inner)],
        failure: vec![Op::DeleteRange(delete)],
    };
    let alarm = Alarm { action: AlarmAction::Activate, member: 3, kind: AlarmKind::NoSpace };
    let writes = [
        Write::Put(put),
        Write::DeleteRange(delete),
        Write::Txn(txn),
        Write::Compact(Compact { revision: 5, physical: true }),
        Write::Alarm(alarm),
        Write::LeaseGrant(LeaseGrant { id: LeaseId(9), ttl: 60 }),
        Write::LeaseRevoke(LeaseId(9)),
        Write::LeaseCheckpoint(vec![LeaseCheckpoint { id: LeaseId(9), remaining: 30 }]),
    ];
    let encoded = |write: &Write<'_>| {
        let mut out = Vec::new();
        command::encode(&mut out, RequestId(0x0102_0304_0506_0708), write);
        out
    };
    writes.iter().map(encoded).collect()
}
