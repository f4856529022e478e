//! One tree for everything durable: each table is the keys behind one prefix byte.
//!
//! A single root therefore switches keys, leases, users, members, alarms and the history's manifest together. The
//! bytes are part of the format: a new table takes a new one, and none is ever used again for something else.

use super::layout::CHAIN_MAX;

/// A table, by its prefix byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Alarms raised, by member and kind.
    Alarm = b'a',
    /// Users, roles and the auth revision.
    Auth = b'A',
    /// The history's segments, by number.
    HistorySegment = b'h',
    /// The newest version of every key; the only table with live keys.
    Keys = b'k',
    /// Leases, by id.
    Lease = b'l',
    /// Keys attached to leases, by lease and key.
    LeaseKeys = b'L',
    /// Members of the cluster, by id.
    Member = b'm',
    /// Single values, by name: revision, compaction, applied index, configuration.
    Misc = b'x',
}

impl Table {
    /// All tables, in order of their bytes.
    pub const ALL: [Table; 8] = [
        Table::Auth,
        Table::LeaseKeys,
        Table::Alarm,
        Table::HistorySegment,
        Table::Keys,
        Table::Lease,
        Table::Member,
        Table::Misc,
    ];

    /// The byte in front of every key of the table.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// The tree key of `key`.
    pub fn key(self, key: &[u8]) -> TreeKey {
        TreeKey::new(self, &[key])
    }

    /// The tree key of a key in two parts, as a lease and what is attached to it.
    pub fn key_of_parts(self, first: &[u8], second: &[u8]) -> TreeKey {
        TreeKey::new(self, &[first, second])
    }
}

/// A key of the tree: the table's byte, then the table's own key. Short ones, which most are, cost no allocation.
#[derive(Clone, Debug)]
pub struct TreeKey(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Short { bytes: [u8; SHORT], len: u8 },
    Long(Vec<u8>),
}

impl TreeKey {
    /// The first tree key behind the table.
    pub fn end_of(table: Table) -> TreeKey {
        let mut bytes = [0; SHORT];
        bytes[0] = table.byte() + 1;
        TreeKey(Repr::Short { bytes, len: 1 })
    }

    fn new(table: Table, parts: &[&[u8]]) -> TreeKey {
        let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
        assert!(len <= CHAIN_MAX, "a key of {len} bytes passed admission");
        if len > SHORT {
            let mut bytes = Vec::with_capacity(len);
            bytes.push(table.byte());
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            return TreeKey(Repr::Long(bytes));
        }
        let mut bytes = [0; SHORT];
        bytes[0] = table.byte();
        let mut at = 1;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        TreeKey(Repr::Short { bytes, len: len as u8 })
    }
}

impl std::ops::Deref for TreeKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { bytes, len } => &bytes[..usize::from(*len)],
            Repr::Long(bytes) => bytes,
        }
    }
}

/// Longest tree key kept in place, in bytes.
const SHORT: usize = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_apart_and_in_order() {
        for pair in Table::ALL.windows(2) {
            assert!(*TreeKey::end_of(pair[0]) <= *pair[1].key(b""), "{pair:?}");
        }
    }

    #[test]
    fn tree_keys_are_the_byte_and_the_parts() {
        for len in [0, 1, SHORT - 2, SHORT - 1, SHORT, 3000] {
            let key = vec![7; len];
            assert_eq!(Table::Keys.key(&key)[..], [&b"k"[..], &key].concat(), "{len}");
            assert_eq!(Table::LeaseKeys.key_of_parts(b"ab", &key)[..], [&b"Lab"[..], &key].concat(), "{len}");
        }
    }
}
