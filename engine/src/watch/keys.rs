//! Which watchers a key concerns: single keys by hash, ranges by an interval tree.
//!
//! Watchers of the same keys form a group, so that a thousand of them cost one look-up.

use std::collections::HashMap;
use std::sync::Arc;

use super::intervals::{End, Intervals};
use crate::request::{KeyRange, RangeEnd};

/// The keys of a watcher, owned and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// This key alone.
    One(Arc<[u8]>),
    /// From this key on, up to the end.
    Range(Arc<[u8]>, End),
}

impl Keys {
    /// Takes a copy. An empty range is not for watching; the caller has refused it.
    pub fn new(keys: KeyRange<'_>) -> Keys {
        match keys.end {
            RangeEnd::Single => Keys::One(keys.key.into()),
            RangeEnd::Unbounded => Keys::Range(keys.key.into(), End::Unbounded),
            RangeEnd::Before(end) => Keys::Range(keys.key.into(), End::Before(end.into())),
        }
    }

    /// Whether `key` is one of them.
    pub fn contain(&self, key: &[u8]) -> bool {
        match self {
            Keys::One(one) => **one == *key,
            Keys::Range(first, End::Before(end)) => **first <= *key && *key < **end,
            Keys::Range(first, End::Unbounded) => **first <= *key,
        }
    }
}

/// A set of watchers with the same keys.
#[derive(Debug)]
struct Group {
    keys: Keys,
    watchers: Vec<u32>,
}

/// Where a watcher stands in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    group: u32,
    place: u32,
}

/// Watchers by the keys they watch.
#[derive(Debug, Default)]
pub struct KeyIndex {
    groups: Vec<Option<Group>>,
    free: Vec<u32>,
    ones: HashMap<Arc<[u8]>, u32>,
    ranges: Intervals,
}

impl KeyIndex {
    /// Adds a watcher.
    pub fn insert(&mut self, keys: &Keys, watcher: u32) -> Membership {
        let group = self.find(keys).unwrap_or_else(|| self.open(keys));
        let watchers =
            &mut self.groups[group as usize].as_mut().expect("a group in an index is open").watchers;
        watchers.push(watcher);
        Membership { group, place: watchers.len() as u32 - 1 }
    }

    /// Removes a watcher. If another one takes its place in the group, that one is returned with its new membership.
    pub fn remove(&mut self, member: Membership) -> Option<(u32, Membership)> {
        let group = self.groups[member.group as usize].as_mut().expect("a member's group is open");
        group.watchers.swap_remove(member.place as usize);
        if group.watchers.is_empty() {
            self.close(member.group);
            return None;
        }
        group.watchers.get(member.place as usize).map(|&moved| (moved, member))
    }

    /// The keys of a watcher.
    pub fn keys(&self, member: Membership) -> &Keys {
        &self.groups[member.group as usize].as_ref().expect("a member's group is open").keys
    }

    /// Puts the groups that `key` concerns into `found`.
    pub fn stab(&self, key: &[u8], found: &mut Vec<u32>) {
        found.clear();
        found.extend(self.ones.get(key));
        self.ranges.stab(key, found);
    }

    /// The watchers of a group that was found.
    pub fn watchers(&self, group: u32) -> &[u32] {
        &self.groups[group as usize].as_ref().expect("a group that was found is open").watchers
    }

    fn find(&self, keys: &Keys) -> Option<u32> {
        match keys {
            Keys::One(key) => self.ones.get(key).copied(),
            Keys::Range(first, end) => self.ranges.find(first, end),
        }
    }

    fn open(&mut self, keys: &Keys) -> u32 {
        let group = Some(Group { keys: keys.clone(), watchers: Vec::new() });
        let number = match self.free.pop() {
            Some(number) => {
                self.groups[number as usize] = group;
                number
            }
            None => {
                self.groups.push(group);
                self.groups.len() as u32 - 1
            }
        };
        match keys {
            Keys::One(key) => drop(self.ones.insert(Arc::clone(key), number)),
            Keys::Range(first, end) => self.ranges.insert(Arc::clone(first), end.clone(), number),
        }
        number
    }

    fn close(&mut self, number: u32) {
        let group = self.groups[number as usize].take().expect("a group is closed once");
        match &group.keys {
            Keys::One(key) => drop(self.ones.remove(key)),
            Keys::Range(first, end) => self.ranges.remove(first, end),
        }
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: &KeyIndex, key: &str) -> Vec<u32> {
        let mut groups = Vec::new();
        index.stab(key.as_bytes(), &mut groups);
        let mut found: Vec<u32> = groups.iter().flat_map(|&group| index.watchers(group)).copied().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn watchers_are_found_by_key_and_by_range() {
        let mut index = KeyIndex::default();
        let keys = |key: &str, end: &str| Keys::new(KeyRange::new(key.as_bytes(), end.as_bytes()));
        let all =
            [keys("b", ""), keys("b", ""), keys("a", "c"), keys("a", "c"), keys("b", "\0"), keys("x", "z")];
        let mut members: Vec<Membership> =
            all.iter().zip(0..).map(|(keys, n)| index.insert(keys, n)).collect();
        let check =
            |index: &KeyIndex, key, expected: &[u32]| assert_eq!(found(index, key), expected, "{key}");
        check(&index, "b", &[0, 1, 2, 3, 4]);
        check(&index, "a", &[2, 3]);
        check(&index, "bb", &[2, 3, 4]);
        check(&index, "c", &[4]);
        check(&index, "y", &[4, 5]);
        check(&index, "", &[]);
        for (watcher, keys) in all.iter().enumerate() {
            assert_eq!(index.keys(members[watcher]), keys);
        }
        for gone in [0u32, 2, 4, 5, 3, 1] {
            if let Some((moved, member)) = index.remove(members[gone as usize]) {
                members[moved as usize] = member;
            }
            assert!(!found(&index, "b").contains(&gone) && !found(&index, "y").contains(&gone));
        }
        check(&index, "b", &[]);
        assert_eq!((index.free.len(), index.ones.len()), (index.groups.len(), 0));
    }
}
