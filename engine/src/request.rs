//! What a client may ask, in our words.
//!
//! Requests borrow from the receive buffer on the way in and from the log entry when they are applied; `net/src/api`
//! builds them from protobuf and `command` from log bytes. Enum values a client may get wrong keep their number
//! (`Unknown`), because etcd defines an answer for each (see `check`).

use crate::types::LeaseId;

/// A set of keys: one key, an interval, or everything from a key on (etcd's `key` and `range_end`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// First key; for [`RangeEnd::Single`] the only one.
    pub key: &'a [u8],
    /// Where the set ends.
    pub end: RangeEnd<'a>,
}

/// End of a [`KeyRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeEnd<'a> {
    /// The set is the one key (`range_end` absent).
    Single,
    /// All keys at or after the first (`range_end` is one zero byte).
    Unbounded,
    /// Keys before this one; a bound at or below the first key makes an empty set.
    Before(&'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// Reads etcd's two fields; an absent and an empty `range_end` are the same.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> KeyRange<'a> {
        let end = match range_end {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            bound => RangeEnd::Before(bound),
        };
        KeyRange { key, end }
    }

    /// Whether `key` is in the set.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self.end {
            RangeEnd::Single => key == self.key,
            RangeEnd::Unbounded => key >= self.key,
            RangeEnd::Before(bound) => key >= self.key && key < bound,
        }
    }

    /// The wire form of the end: empty, one zero byte, or the bound.
    pub fn range_end(&self) -> &'a [u8] {
        match self.end {
            RangeEnd::Single => &[],
            RangeEnd::Unbounded => &[0],
            RangeEnd::Before(bound) => bound,
        }
    }
}

/// Order of a range's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Key order, except when the target is not the key (then ascending by target).
    #[default]
    None,
    /// Ascending by target.
    Ascend,
    /// Descending by target.
    Descend,
    /// A number outside the enum; refused.
    Unknown(i32),
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key, bytewise.
    #[default]
    Key,
    /// The version within the generation.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value, bytewise.
    Value,
    /// A number outside the enum; refused.
    Unknown(i32),
}

/// A read of keys at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<'a> {
    /// Which keys.
    pub keys: KeyRange<'a>,
    /// At most this many; 0 or less means all.
    pub limit: i64,
    /// At which revision; 0 or less means the current one.
    pub revision: i64,
    /// Order of the answer.
    pub order: SortOrder,
    /// What `order` orders by.
    pub target: SortTarget,
    /// Answer from local state without asking the leader.
    pub serializable: bool,
    /// Leave values out.
    pub keys_only: bool,
    /// Answer the count alone.
    pub count_only: bool,
    /// Filters, each off at 0; other values, negative ones too, are applied as they are.
    pub filter: Filter,
}

/// Revision filters of a [`Range`]; they change the list, never the count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Lowest mod revision kept.
    pub min_mod: i64,
    /// Highest mod revision kept.
    pub max_mod: i64,
    /// Lowest create revision kept.
    pub min_create: i64,
    /// Highest create revision kept.
    pub max_create: i64,
}

impl Filter {
    /// Whether no filter is set.
    pub fn is_off(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether a version with these revisions stays in the list.
    pub fn keeps(&self, mod_revision: i64, create_revision: i64) -> bool {
        (self.max_mod == 0 || mod_revision <= self.max_mod)
            && (self.min_mod == 0 || mod_revision >= self.min_mod)
            && (self.max_create == 0 || create_revision <= self.max_create)
            && (self.min_create == 0 || create_revision >= self.min_create)
    }
}

impl<'a> Range<'a> {
    /// A plain linearizable read of `keys` at the current revision.
    pub fn of(keys: KeyRange<'a>) -> Range<'a> {
        Range {
            keys,
            limit: 0,
            revision: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            serializable: false,
            keys_only: false,
            count_only: false,
            filter: Filter::default(),
        }
    }
}

/// Writes one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put<'a> {
    /// The key; never empty in a checked request.
    pub key: &'a [u8],
    /// The new value.
    pub value: &'a [u8],
    /// Lease to attach to; [`LeaseId::NONE`] detaches.
    pub lease: LeaseId,
    /// Answer with the previous version.
    pub prev_kv: bool,
    /// Keep the old value; the key must exist.
    pub ignore_value: bool,
    /// Keep the old lease; the key must exist.
    pub ignore_lease: bool,
}

/// Deletes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteRange<'a> {
    /// Which keys.
    pub keys: KeyRange<'a>,
    /// Answer with the deleted versions.
    pub prev_kv: bool,
}

/// Compares, then one of two lists of operations, atomically.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn<'a> {
    /// All must hold, against the state before the outermost transaction.
    pub compare: Vec<Compare<'a>>,
    /// Executed when they do.
    pub success: Vec<Op<'a>>,
    /// Executed when they do not.
    pub failure: Vec<Op<'a>>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// A read, which sees earlier writes of the same transaction.
    Range(Range<'a>),
    /// A write.
    Put(Put<'a>),
    /// A delete.
    DeleteRange(DeleteRange<'a>),
    /// A nested transaction.
    Txn(Txn<'a>),
    /// An operation the client left empty; etcd answers "key not found".
    Unset,
}

/// One guard of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare<'a> {
    /// The keys that must satisfy it.
    pub keys: KeyRange<'a>,
    /// How the stored value must relate to the given one: `stored result given`.
    pub result: CompareResult,
    /// Which property, and the given value.
    pub target: CompareTarget<'a>,
}

/// Relation a [`Compare`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Equal.
    Equal,
    /// Stored is greater.
    Greater,
    /// Stored is less.
    Less,
    /// Not equal.
    NotEqual,
    /// A number outside the enum: always holds.
    Unknown(i32),
}

/// Property a [`Compare`] looks at, with the given value (0 or empty when the client left it out).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareTarget<'a> {
    /// Version within the generation.
    Version(i64),
    /// Create revision.
    Create(i64),
    /// Mod revision.
    Mod(i64),
    /// Value; false on a missing key, whatever the relation.
    Value(&'a [u8]),
    /// Lease id.
    Lease(i64),
    /// A number outside the enum: compares as 0 with 0.
    Unknown(i32),
}

/// Forgets versions below a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// First revision that stays readable.
    pub revision: i64,
    /// Answer only when the space is free.
    pub physical: bool,
}

/// Raises, lowers or lists alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What to do.
    pub action: AlarmAction,
    /// Whose alarm; ignored when listing.
    pub member: u64,
    /// Which alarm; [`AlarmKind::None`] lists all.
    pub kind: AlarmKind,
}

/// What an [`Alarm`] request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmAction {
    /// Lists.
    Get,
    /// Raises.
    Activate,
    /// Lowers.
    Deactivate,
}

/// Kinds of alarm, with etcd's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// Any, in a query.
    #[default]
    None = 0,
    /// The quota is exhausted: writes that grow the store are refused.
    NoSpace = 1,
    /// Members disagree: writes are refused.
    Corrupt = 2,
}

/// Creates a lease. The id is chosen and the time to live raised to the least one before this is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// The lease; never [`LeaseId::NONE`].
    pub id: LeaseId,
    /// Seconds to live.
    pub ttl: i64,
}

/// Remembers how long a lease has left to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseCheckpoint {
    /// The lease; one that is gone is passed over.
    pub id: LeaseId,
    /// Seconds left; 0 when it was renewed, and has its full time again.
    pub remaining: i64,
}

/// A request that becomes a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write<'a> {
    /// See [`Put`].
    Put(Put<'a>),
    /// See [`DeleteRange`].
    DeleteRange(DeleteRange<'a>),
    /// See [`Txn`].
    Txn(Txn<'a>),
    /// See [`Compact`].
    Compact(Compact),
    /// See [`Alarm`]; listing goes through the log too, as etcd's does.
    Alarm(Alarm),
    /// See [`LeaseGrant`].
    LeaseGrant(LeaseGrant),
    /// Ends a lease and deletes the keys attached to it.
    LeaseRevoke(LeaseId),
    /// See [`LeaseCheckpoint`]; nobody but the member itself asks for one.
    LeaseCheckpoint(Vec<LeaseCheckpoint>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_end_has_three_meanings() {
        let check = |key: &[u8], end: &[u8], inside: &[&[u8]], outside: &[&[u8]]| {
            let range = KeyRange::new(key, end);
            assert_eq!(range.range_end(), end);
            for k in inside {
                assert!(range.contains(k), "{k:?} should be in {range:?}");
            }
            for k in outside {
                assert!(!range.contains(k), "{k:?} should not be in {range:?}");
            }
        };
        check(b"b", b"", &[b"b"], &[b"a", b"ba", b"c"]);
        check(b"b", b"\0", &[b"b", b"ba", b"\xff\xff"], &[b"a", b"azz"]);
        check(b"b", b"c", &[b"b", b"bzz"], &[b"a", b"c"]);
        check(b"c", b"b", &[], &[b"b", b"bb", b"c"]);
        check(b"\0", b"\0", &[b"\0", b"a"], &[]);
    }

    #[test]
    fn filters_are_off_at_zero_and_literal_otherwise() {
        let filter =
            |min_mod, max_mod, min_create, max_create| Filter { min_mod, max_mod, min_create, max_create };
        assert!(filter(0, 0, 0, 0).is_off());
        assert!(filter(0, 0, 0, 0).keeps(5, 3));
        assert!(filter(5, 5, 3, 3).keeps(5, 3));
        assert!(!filter(6, 0, 0, 0).keeps(5, 3));
        assert!(!filter(0, -1, 0, 0).keeps(5, 3));
        assert!(!filter(0, 0, 4, 0).keeps(5, 3));
        assert!(!filter(0, 0, 0, 2).keeps(5, 3));
    }
}
