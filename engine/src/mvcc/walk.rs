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

    /// Spends what `bytes` cost that are looked at one by one: a KiB as much as a key.
    pub fn charge(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(u32::try_from(bytes >> 10).unwrap_or(u32::MAX));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::World;
    use crate::request::{DeleteRange, Put, Write};
    use crate::types::Revision;

    fn put(world: &mut World, key: &str) {
        world.run(&Write::Put(Put { key: key.as_bytes(), ..Put::default() })).unwrap();
    }

    /// Keys passed in slices of `budget`, with a write before each.
    fn pass(world: &mut World, walk: &mut Walk, budget: u32) -> (Vec<(i64, bool)>, usize) {
        let (mut passed, mut slices) = (Vec::new(), 0);
        loop {
            put(world, &format!("k{slices:02}-later"));
            slices += 1;
            let view = world.store.view();
            let over = walk.advance(&view, &mut Budget(budget), |found, kept| {
                passed.push((found.modified.0, kept));
                Ok(true)
            });
            if over.unwrap() {
                return (passed, slices);
            }
        }
    }

    #[test]
    fn a_scan_goes_on_where_it_stopped_and_sees_one_revision() {
        let mut world = World::calm();
        (0..10).for_each(|n| put(&mut world, &format!("k{n:02}")));
        let keys = KeyRange::new(b"k03", b"k08");
        let filter = Filter { min_mod: 7, ..Filter::default() };
        let now = world.store.view().now().unwrap();
        let mut walk = Walk::new(keys, now, filter);
        let expected = vec![(5, false), (6, false), (7, true), (8, true), (9, true)];
        let begun = walk.clone();
        assert_eq!(pass(&mut world, &mut walk, 100), (expected.clone(), 1));
        // What was written meanwhile is passed, and not shown.
        let (passed, slices) = pass(&mut world, &mut walk.rewound(), 1);
        assert_eq!(passed, expected);
        assert!(slices >= 5, "{slices} slices");
        assert_eq!(walk.rewound(), begun);
        let delete = DeleteRange { keys: KeyRange::new(b"\0", b"\0"), prev_kv: false };
        world.run(&Write::DeleteRange(delete)).unwrap();
        assert_eq!(pass(&mut world, &mut walk.rewound(), 2).0, expected);
        let early = At { revision: Revision(6), ..world.store.view().at(Revision(6)).unwrap() };
        let mut walk = Walk::new(keys, early, Filter::default());
        assert_eq!(pass(&mut world, &mut walk, 3).0, [(5, true), (6, true)]);
    }

    #[test]
    fn a_key_found_cold_is_passed_again() {
        let mut world = World::calm();
        (0..3).for_each(|n| put(&mut world, &format!("k{n}")));
        let view = world.store.view();
        let mut walk = Walk::new(KeyRange::new(b"k", b"l"), view.now().unwrap(), Filter::default());
        let mut seen = Vec::new();
        let mut cold = Some(Cold::Record(crate::types::Seq(2)));
        let mut each = |found: Found, _: bool| {
            if found.seq.0 == 2
                && let Some(cold) = cold.take()
            {
                return Err(cold);
            }
            seen.push(found.seq.0);
            Ok(true)
        };
        assert!(walk.advance(&view, &mut Budget::SLICE.clone(), &mut each).is_err());
        assert_eq!(walk.advance(&view, &mut Budget::SLICE.clone(), &mut each), Ok(true));
        assert_eq!(seen, [1, 2, 3]);
    }

    #[test]
    fn a_budget_is_spent_to_the_last() {
        let mut budget = Budget(2);
        assert_eq!([(); 4].map(|()| budget.spend()), [true, true, false, false]);
    }
}
