//! A store in a hundred lines: what every revision must look like, given the writes and their revisions.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::proto::mvccpb::KeyValue;

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its value from here on, none after a delete.
    pub value: Option<Bytes>,
}

/// All changes by revision.
#[derive(Clone, Debug, Default)]
pub struct Model {
    changes: BTreeMap<i64, Vec<Change>>,
    /// The state at `base_revision`, on which `changes` build.
    base: BTreeMap<Bytes, KeyValue>,
    base_revision: i64,
}

impl Model {
    /// Adds what one transaction changed; the revision must be new.
    pub fn record(&mut self, revision: i64, changes: Vec<Change>) -> Result<(), String> {
        if revision <= self.base_revision {
            return Err(format!("a write got revision {revision}, at or below {}", self.base_revision));
        }
        if let Some(other) = self.changes.get(&revision) {
            return Err(format!("two writes got revision {revision}: {other:?} and {changes:?}"));
        }
        self.changes.insert(revision, changes);
        Ok(())
    }

    /// Revisions in `..=current` after the base that no write has.
    pub fn gaps(&self, current: i64) -> Vec<i64> {
        (self.base_revision.max(1) + 1..=current)
            .filter(|revision| !self.changes.contains_key(revision))
            .collect()
    }

    /// The newest revision with a write.
    pub fn newest(&self) -> i64 {
        self.changes.keys().next_back().copied().unwrap_or(self.base_revision.max(1))
    }

    /// All live keys at `revision`, which is not below the base.
    pub fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        assert!(revision >= self.base_revision, "{revision} is below the base {}", self.base_revision);
        let mut state = self.base.clone();
        for (&revision, changes) in self.changes.range(..=revision) {
            changes.iter().for_each(|change| apply(&mut state, revision, change));
        }
        state
    }

    /// Forgets what only revisions below `revision` need.
    pub fn forget_below(&mut self, revision: i64) {
        self.base = self.at(revision);
        self.base_revision = revision;
        self.changes = self.changes.split_off(&(revision + 1));
    }
}

fn apply(state: &mut BTreeMap<Bytes, KeyValue>, revision: i64, change: &Change) {
    let Some(value) = &change.value else {
        state.remove(&change.key);
        return;
    };
    let kv = state.entry(change.key.clone()).or_insert_with(|| KeyValue {
        key: change.key.clone(),
        create_revision: revision,
        ..KeyValue::default()
    });
    kv.value = value.clone();
    kv.mod_revision = revision;
    kv.version += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &'static str, value: Option<&'static str>) -> Vec<Change> {
        vec![Change { key: key.into(), value: value.map(Bytes::from) }]
    }

    #[test]
    fn revisions_hold_what_was_written() {
        let mut model = Model::default();
        model.record(2, change("a", Some("1"))).unwrap();
        model.record(3, change("a", Some("2"))).unwrap();
        model.record(5, change("a", None)).unwrap();
        assert!(model.record(3, change("b", None)).is_err());
        assert_eq!(model.gaps(6), [4, 6]);
        let three = model.at(3);
        let kv = &three[b"a".as_slice()];
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version, &kv.value[..]), (2, 3, 2, &b"2"[..]));
        model.forget_below(3);
        assert_eq!(model.at(3), three);
        assert!(model.at(5).is_empty());
        assert_eq!(model.gaps(5), [4]);
    }
}
