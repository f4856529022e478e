//! One voter: the whole life of an entry, and what it costs.

use bytes::Bytes;
use raft::{
    Append, ConfChange, Config, EntryKind, LogIndex, MemberId, Raft, ReadState, Restored, Role, Term,
};

/// A lone founder, up to the moment it leads and has applied everything.
fn leader() -> Raft {
    let mut raft =
        Raft::bootstrap(Config::new(MemberId(1), 0), [(MemberId(1), Bytes::from_static(b"a"))]).unwrap();
    raft.campaign();
    settle(&mut raft);
    raft
}

/// Persists and applies until nothing is left to do; the writes done.
fn settle(raft: &mut Raft) -> Vec<Append> {
    let mut writes = Vec::new();
    loop {
        let write = raft.poll_append();
        let batch = raft.poll_committed(u64::MAX);
        if write.is_none() && batch.is_none() {
            assert_eq!(raft.poll_message(), None, "a lone member has nobody to talk to");
            return writes;
        }
        if let Some(write) = write {
            raft.persisted(write.position);
            writes.push(write);
        }
        for entry in batch.into_iter().flatten() {
            if entry.kind == EntryKind::ConfChange {
                raft.apply_conf_change(&ConfChange::decode(&entry.data).unwrap());
            }
            raft.applied(entry.index);
        }
    }
}

#[test]
fn a_fresh_cluster_shows_term_two() {
    let raft = leader();
    assert_eq!((raft.role(), raft.term(), raft.leader()), (Role::Leader, Term(2), Some(MemberId(1))));
    assert_eq!(raft.applied_index(), LogIndex(2), "the founding entry and the no-op");
}

#[test]
fn one_batch_is_one_write() {
    let mut raft = leader();
    let proposed = raft.propose((0..100).map(|_| Bytes::from_static(b"command"))).unwrap();
    assert_eq!((proposed.first, proposed.last), (LogIndex(3), LogIndex(102)));
    let writes = settle(&mut raft);
    assert_eq!(writes.len(), 1, "commit news alone is not worth a write");
    assert_eq!(writes[0].entries.len(), 100);
    assert_eq!(raft.applied_index(), LogIndex(102));
}

#[test]
fn nothing_is_committed_before_it_is_durable() {
    let mut raft = leader();
    raft.propose([Bytes::from_static(b"a")]).unwrap();
    let first = raft.poll_append().unwrap();
    raft.propose([Bytes::from_static(b"b")]).unwrap();
    let second = raft.poll_append().unwrap();
    assert!(first.position < second.position);
    assert_eq!(raft.poll_committed(u64::MAX), None);
    raft.persisted(first.position);
    assert_eq!(raft.commit_index(), LogIndex(3));
    raft.persisted(second.position);
    assert_eq!(raft.commit_index(), LogIndex(4));
    raft.persisted(first.position);
    assert_eq!(raft.poll_committed(u64::MAX).unwrap().len(), 2);
}

#[test]
fn reads_are_confirmed_at_once_after_the_first_commit() {
    let mut raft = leader();
    let round = raft.read_index().unwrap();
    assert_eq!(raft.poll_read(), Some(ReadState { round, index: LogIndex(2) }));
    let next = raft.read_index().unwrap();
    assert!(next > round);
}

#[test]
fn a_read_before_the_first_commit_waits_for_it() {
    let mut raft = Raft::bootstrap(Config::new(MemberId(1), 0), [(MemberId(1), Bytes::new())]).unwrap();
    raft.campaign();
    while !raft.is_leader() {
        let write = raft.poll_append().unwrap();
        raft.persisted(write.position);
        if let Some(batch) = raft.poll_committed(u64::MAX) {
            raft.applied(batch.last().unwrap().index);
        }
    }
    let round = raft.read_index().unwrap();
    assert_eq!(raft.poll_read(), None);
    settle(&mut raft);
    assert_eq!(raft.poll_read(), Some(ReadState { round, index: LogIndex(2) }));
}

#[test]
fn a_restart_keeps_the_log_and_opens_a_new_term() {
    let mut raft = leader();
    raft.propose([Bytes::from_static(b"a")]).unwrap();
    settle(&mut raft);
    let restored = Restored {
        hard_state: raft.hard_state(),
        conf_state: raft.conf_state().clone(),
        applied: LogIndex(3),
        boundary_index: LogIndex(3),
        boundary_term: Term(2),
        ..Restored::default()
    };
    let mut raft = Raft::new(Config::new(MemberId(1), 0), restored).unwrap();
    raft.campaign();
    settle(&mut raft);
    assert_eq!((raft.term(), raft.last_index()), (Term(3), LogIndex(4)));
}
