//! A scan of keys at one revision, in slices: it stops when its budget is used up or a record is cold, and goes on
//! from the key after the last one it passed, however far the store has moved on meanwhile.

use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::view::{At, Found, View};
use crate::request::{Filter, KeyRange};

/// A range that outlives the request it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnedKeys {
    key: Vec<u8>,
    range_end: Vec<u8>,
}

impl OwnedKeys {
    fn new(keys: KeyRange<'_>) -> OwnedKeys {
        OwnedKeys { key: keys.key.to_vec(), range_end: keys.range_end().to_vec() }
    }

    fn as_range(&self) -> KeyRange<'_> {
        KeyRange::new(&self.key, &self.range_end)
    }
}

/// Keys a slice may still pass. One key costs 20-50 ns in memory, so a few thousand are about a tenth of a
/// millisecond; counting instead of looking at a clock keeps every replay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u32);

impl Budget {
    /// What one turn may spend on one request.
    pub const SLICE: Budget = Budget(4096);

    /// Spends one; false if nothing was left.
    pub fn spend(&mut self) -> bool {
        let left = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        left
    }
}

/// The scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    keys: OwnedKeys,
    at: At,
    filter: Filter,
    /// The last key passed.
    after: Option<Vec<u8>>,
}

impl Walk {
    /// A scan of `keys` at `at`, of the versions that `filter` keeps.
    pub fn new(keys: KeyRange<'_>, at: At, filter: Filter) -> Walk {
        Walk { keys: OwnedKeys::new(keys), at, filter, after: None }
    }

    /// The same scan at its beginning.
    pub fn rewound(&self) -> Walk {
        Walk { keys: self.keys.clone(), at: self.at, filter: self.filter, after: None }
    }

    /// Goes on: `each` is told of every existing key, and whether the filter keeps it, and answers whether to go on; a
    /// key it finds cold is passed again next time. Returns true when the scan is over, because the keys ended or `each`
    /// had enough.
    pub fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
        mut each: impl FnMut(Found, bool) -> Result<bool, Cold>,
    ) -> Result<bool, Cold> {
        let keys = self.keys.as_range();
        let mut scan = match &self.after {
            None => view.index.scan(keys),
            Some(last) => view.index.scan_after(keys, last),
        };
        let after = &mut self.after;
        loop {
            let Some((key, entry)) = scan.next()? else { return Ok(true) };
            if !budget.spend() {
                return Ok(false);
            }
            let on = match view.version_at(key, &entry, self.at)? {
                None => true,
                Some(found) => each(found, self.filter.keeps(found.modified.0, found.created.0))?,
            };
            let last = after.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            if !on {
                return Ok(true);
            }
        }
    }
}
