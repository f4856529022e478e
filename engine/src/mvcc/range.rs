//! A range, from request to list of records, in etcd's order of steps (`server/etcdserver/txn/range.go`): resolve the
//! revision, fetch in key order, filter, sort, cut.
//!
//! The count ignores limit and filters. At the newest revision it is read off the index; at an older one it is the
//! newest count, corrected by what changed since, as long as that is less than the range itself (every further page of
//! a Kubernetes list asks for it).

use crate::error::ApiError;
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::view::{At, Found, View};
use crate::mvcc::walk::{Budget, Walk};
use crate::request::{KeyRange, Range, RangeEnd, SortOrder, SortTarget};
use crate::response::{KvList, Kvs, RangeAnswer};
use crate::types::{Revision, Seq};

/// An unsorted answer with more keys than this walks the index a second time instead of keeping a list. Few, where the
/// model tests should meet both.
pub const LIST_MAX: u64 = if cfg!(test) { 20 } else { 16 * 1024 };

/// Changes since an old revision that are looked at to correct a count, which takes about a millisecond; beyond this the
/// range is passed in slices.
const TAIL_MAX: u64 = 16 * 1024;

/// A range being read.
#[derive(Debug)]
pub struct RangeTask {
    plan: Plan,
    /// What the header shows.
    header: Revision,
    count: Option<i64>,
    walk: Walk,
    picks: Picks,
}

#[derive(Debug)]
struct Plan {
    limit: Option<u64>,
    order: SortOrder,
    target: SortTarget,
    keys_only: bool,
    count_only: bool,
    filtered: bool,
}

impl Plan {
    fn is_sorted(&self) -> bool {
        match (self.target, self.order) {
            (_, SortOrder::Descend) => true,
            (SortTarget::Key, _) => false,
            _ => true,
        }
    }

    /// Keys to fetch before sorting, if not all: etcd fetches one more than the limit, but only when it thinks
    /// that no later step could need the others.
    fn fetch_max(&self) -> Option<u64> {
        let plain = self.order == SortOrder::None && !self.filtered;
        self.limit.filter(|_| plain || !self.is_sorted()).map(|limit| limit + 1)
    }
}

/// The versions found so far.
#[derive(Debug, Default)]
struct Picks {
    seqs: Vec<Seq>,
    sort: Vec<(SortKey, Found)>,
    kept: u64,
    encoded_len: u64,
    counted: i64,
}

/// What a version is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(i64),
    Value(Vec<u8>),
    /// In the order they were found, which is key order.
    Found(u64),
}

/// How far a task came.
#[derive(Debug)]
pub enum Progress<T> {
    /// It is finished.
    Done(T),
    /// The budget is used up.
    More,
}

impl<T> Progress<T> {
    /// Changes what is done.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Progress::Done(done) => Progress::Done(f(done)),
            Progress::More => Progress::More,
        }
    }
}

/// Resolves the revision a range asks for.
pub fn resolve(asked: i64, current: Revision, compacted: Revision) -> Result<Revision, ApiError> {
    match asked {
        ..=0 => Ok(current),
        _ if asked > current.0 => Err(ApiError::FutureRevision),
        _ if asked < compacted.0 => Err(ApiError::Compacted),
        _ => Ok(Revision(asked)),
    }
}

/// Reads one key without keeping anything: the shape of most reads.
pub fn read_one<R: ReadPages>(
    view: &View<'_, R>,
    range: &Range<'_>,
) -> Result<Result<RangeAnswer, ApiError>, Cold> {
    let revision = match resolve(range.revision, view.revision, view.compacted) {
        Ok(revision) => revision,
        Err(error) => return Ok(Err(error)),
    };
    let key = range.keys.key;
    let found = match view.index.get(key)? {
        None => None,
        Some(entry) if entry.modified <= revision => {
            view.version_at(key, &entry, At { revision, last: entry.seq })?
        }
        Some(entry) => view.version_at(key, &entry, view.at(revision)?)?,
    };
    let mut list = KvList { keys_only: range.keys_only, ..KvList::default() };
    if let Some(found) = found
        && !range.count_only
        && range.filter.keeps(found.modified.0, found.created.0)
    {
        list.seqs.push(found.seq);
        list.encoded_len = found.encoded_len(range.keys_only);
    }
    let count = i64::from(found.is_some());
    Ok(Ok(RangeAnswer {
        revision: view.revision,
        read_at: revision,
        kvs: Kvs::List(list),
        more: false,
        count,
    }))
}

/// Whether [`read_one`] answers this range.
pub fn is_single(range: &Range<'_>) -> bool {
    range.keys.end == RangeEnd::Single
}

impl RangeTask {
    /// A range of any shape, seen from `view`.
    pub fn new<R: ReadPages>(
        view: &View<'_, R>,
        range: &Range<'_>,
    ) -> Result<Result<RangeTask, ApiError>, Cold> {
        let revision = match resolve(range.revision, view.revision, view.compacted) {
            Ok(revision) => revision,
            Err(error) => return Ok(Err(error)),
        };
        let at = view.at(revision)?;
        let plan = Plan {
            limit: u64::try_from(range.limit).ok().filter(|limit| *limit > 0),
            order: range.order,
            target: range.target,
            keys_only: range.keys_only,
            count_only: range.count_only,
            filtered: !range.filter.is_off(),
        };
        let walk = Walk::new(range.keys, at, range.filter);
        let count = count_at(view, range.keys, at)?;
        Ok(Ok(RangeTask { plan, header: view.revision, count, walk, picks: Picks::default() }))
    }

    /// The revision that it reads.
    pub fn pinned(&self) -> Revision {
        self.walk.revision()
    }

    /// Goes on until the answer is there or the budget is used up.
    pub fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Progress<RangeAnswer>, Cold> {
        let (plan, picks, count) = (&self.plan, &mut self.picks, self.count);
        let wants_list = !plan.count_only;
        if wants_list || count.is_none() {
            let fetch_max = plan.fetch_max();
            let over = self.walk.advance(view, budget, |found, kept| {
                if wants_list && kept && fetch_max.is_none_or(|max| picks.kept < max) {
                    picks.add(plan, sort_key(view, plan, picks.kept, &found)?, found);
                }
                picks.counted += 1;
                // Without a count the rest must be passed too, to know it.
                Ok(count.is_none() || fetch_max.is_none_or(|max| picks.kept < max))
            })?;
            if !over {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done(self.finish()))
    }

    fn finish(&mut self) -> RangeAnswer {
        let mut picks = std::mem::take(&mut self.picks);
        let plan = &self.plan;
        let count = self.count.unwrap_or(picks.counted);
        let more = plan.limit.is_some_and(|limit| picks.kept > limit);
        let pairs = plan.limit.map_or(picks.kept, |limit| picks.kept.min(limit));
        let kvs = if !plan.is_sorted() && pairs > LIST_MAX {
            Kvs::Walk(Box::new(LongList {
                walk: self.walk.rewound(),
                left: pairs,
                encoded_len: picks.encoded_len,
                keys_only: plan.keys_only,
            }))
        } else {
            picks.sort_and_cut(plan);
            let (seqs, encoded_len) = (picks.seqs, picks.encoded_len);
            Kvs::List(KvList { seqs, encoded_len, keys_only: plan.keys_only })
        };
        RangeAnswer { revision: self.header, read_at: self.pinned(), kvs, more, count }
    }
}

/// An answer too long to list: what to walk again, and how much will come.
#[derive(Clone, Debug, PartialEq)]
pub struct LongList {
    /// The scan, at its beginning.
    pub walk: Walk,
    /// Pairs still to come; a limit may end it before the keys do.
    pub left: u64,
    /// See [`KvList::encoded_len`].
    pub encoded_len: u64,
    /// See [`KvList::keys_only`].
    pub keys_only: bool,
}

impl LongList {
    /// The next records, at most `max`; fewer, or none, when the budget is used up first.
    pub fn next<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        max: usize,
        budget: &mut Budget,
    ) -> Result<Vec<Seq>, Cold> {
        let max = usize::try_from(self.left).map_or(max, |left| max.min(left));
        let mut seqs = Vec::new();
        if max == 0 {
            return Ok(seqs);
        }
        let walked = self.walk.advance(view, budget, |found, kept| {
            if kept {
                seqs.push(found.seq);
            }
            Ok(seqs.len() < max)
        });
        self.left -= seqs.len() as u64;
        match walked {
            Err(cold) if seqs.is_empty() => Err(cold),
            _ => Ok(seqs),
        }
    }
}

impl Picks {
    fn add(&mut self, plan: &Plan, key: SortKey, found: Found) {
        self.kept += 1;
        if plan.is_sorted() {
            self.sort.push((key, found));
        } else if plan.limit.is_none_or(|limit| self.kept <= limit) {
            // The one beyond the limit only tells that there is more.
            self.encoded_len += found.encoded_len(plan.keys_only);
            if self.seqs.len() as u64 <= LIST_MAX {
                self.seqs.push(found.seq);
            }
        }
    }

    fn sort_and_cut(&mut self, plan: &Plan) {
        if !plan.is_sorted() {
            return;
        }
        let descending = plan.order == SortOrder::Descend;
        // Equal ones stay in key order either way, as etcd leaves them in short lists.
        self.sort.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
        let keep = plan.limit.map_or(self.sort.len(), |limit| self.sort.len().min(limit as usize));
        self.sort.truncate(keep);
        self.encoded_len = self.sort.iter().map(|(_, found)| found.encoded_len(plan.keys_only)).sum();
        self.seqs = self.sort.iter().map(|(_, found)| found.seq).collect();
    }
}

fn sort_key<R: ReadPages>(view: &View<'_, R>, plan: &Plan, nth: u64, found: &Found) -> Result<SortKey, Cold> {
    if !plan.is_sorted() {
        return Ok(SortKey::Number(0));
    }
    Ok(match plan.target {
        SortTarget::Key | SortTarget::Unknown(_) => SortKey::Found(nth),
        SortTarget::Version => SortKey::Number(found.version),
        SortTarget::Create => SortKey::Number(found.created.0),
        SortTarget::Mod => SortKey::Number(found.modified.0),
        SortTarget::Value => {
            let record = view.history.record(found.seq)?.expect("a version that exists has its record");
            SortKey::Value(record.fields().value.to_vec())
        }
    })
}

/// Keys alive at `at`, if that is cheap to know: those alive now, without those created since, with those deleted
/// since.
fn count_at<R: ReadPages>(view: &View<'_, R>, keys: KeyRange<'_>, at: At) -> Result<Option<i64>, Cold> {
    let mut count = view.index.count(keys)? as i64;
    if at.revision == view.revision {
        return Ok(Some(count));
    }
    let newest = view.now()?.last;
    // Looking at one change costs about as much as passing one key.
    if newest.0 - at.last.0 > TAIL_MAX.min(count as u64) {
        return Ok(None);
    }
    for seq in at.last.0 + 1..=newest.0 {
        let record = match view.history.record(Seq(seq)) {
            Ok(record) => record.expect("records above a readable revision are kept"),
            // Not cheap any more, and more than the cache of cold records might hold at once.
            Err(Cold::Record(_) | Cold::Table(_)) => return Ok(None),
            Err(cold) => return Err(cold),
        };
        let kv = record.fields();
        if keys.contains(kv.key) {
            // Only a key that exists can be deleted, and version 1 creates one.
            count += i64::from(record.is_tombstone()) - i64::from(kv.version == 1);
        }
    }
    Ok(Some(count))
}

// How ranges answer is tested with `apply`, against a model; here is what no answer shows.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::World;
    use crate::request::{DeleteRange, Put, Write};

    #[test]
    fn revisions_are_resolved_between_compaction_and_now() {
        let check = |asked, compacted, expected: Result<i64, ApiError>| {
            let resolved = resolve(asked, Revision(9), Revision(compacted));
            assert_eq!(resolved, expected.map(Revision), "{asked} of {compacted}..=9");
        };
        check(0, -1, Ok(9));
        check(-3, 5, Ok(9));
        check(i64::MIN, 5, Ok(9));
        check(1, -1, Ok(1));
        check(5, 5, Ok(5));
        check(4, 5, Err(ApiError::Compacted));
        check(9, 9, Ok(9));
        check(10, -1, Err(ApiError::FutureRevision));
        check(i64::MAX, 9, Err(ApiError::FutureRevision));
    }

    /// 40 keys, one revision each from 2 on; then two are overwritten, one deleted, one made anew and one added.
    fn world() -> World {
        let mut world = World::calm();
        let mut put = |key: &str| drop(world.run(&Write::Put(Put { key: key.as_bytes(), ..Put::default() })));
        (0..40).for_each(|n| put(&format!("k{n:02}")));
        ["k03", "k04", "k40"].into_iter().for_each(&mut put);
        let delete = |key| Write::DeleteRange(DeleteRange { keys: KeyRange::new(key, b""), prev_kv: false });
        world.run(&delete(b"k05")).unwrap();
        world.run(&delete(b"k06")).unwrap();
        world.run(&Write::Put(Put { key: b"k06", ..Put::default() })).unwrap();
        world
    }

    #[test]
    fn an_old_count_is_corrected_by_what_changed_since() {
        let world = world();
        let view = world.store.view();
        let all = KeyRange::new(b"k", b"l");
        let expected = |revision: i64| match revision {
            1..=41 => revision - 1,
            42 | 43 => 40,
            44 => 41,
            45 => 40,
            46 => 39,
            _ => 40,
        };
        for revision in 1..=view.revision.0 {
            let at = view.at(Revision(revision)).unwrap();
            let counted = count_at(&view, all, at).unwrap();
            // The tail must be shorter than the range.
            let is_near = view.revision.0 - revision <= 40;
            assert_eq!(counted, is_near.then_some(expected(revision)), "at {revision}");
            let none = count_at(&view, KeyRange::new(b"x", b"y"), at).unwrap();
            assert_eq!(none, (revision == view.revision.0).then_some(0), "at {revision}");
        }
    }

    #[test]
    fn a_count_whose_tail_is_cold_is_left_to_the_walk() {
        let mut world = World::new(1, 1000, 0, 0);
        let value = vec![b'v'; 10_000];
        for n in 0..100 {
            let key = format!("k{n:02}");
            world.run(&Write::Put(Put { key: key.as_bytes(), value: &value, ..Put::default() })).unwrap();
        }
        let all = KeyRange::new(b"k", b"l");
        let view = world.store.view();
        let at = view.at(Revision(60)).unwrap();
        assert_eq!(count_at(&view, all, at), Ok(None));
        let range = Range { revision: 60, count_only: true, ..Range::of(all) };
        assert_eq!(world.range(&range).unwrap().to_string(), "range@101 59");
        assert!(world.cold_records > 0);
    }
}
