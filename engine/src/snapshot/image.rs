//! The whole file: two meta pages, the trees of all buckets, and the root bucket last.
//!
//! The meta pages come first and say where the root is and how many pages there are. So the file is written twice, the
//! first time for nobody. Both walks pass the same rows, at one revision, whatever is written meanwhile.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::contents::{self, Facts};
use super::layout::{FIRST_PAGE, PAGE, put_meta};
use super::tree::{Pages, Tree};
use crate::map::page::ReadPages;
use crate::mvcc::Cold;
use crate::mvcc::range::Progress;
use crate::mvcc::rows::{Purpose, Rows};
use crate::mvcc::view::View;
use crate::mvcc::walk::Budget;
use crate::types::Revision;

/// Bytes of the hash behind the image.
pub const DIGEST: usize = 32;

/// Bytes that nobody wants, or wants any more, are dropped when there are this many.
const UNWANTED_MAX: usize = 64 << 10;

/// An image on its way out.
#[derive(Debug)]
pub struct Image {
    facts: Facts,
    rows: Rows,
    /// The bucket `key`; none behind its end.
    keys: Option<Tree>,
    pages: Pages,
    /// Bytes of those at hand that were sent.
    sent: usize,
    /// Pages of the whole file, once they are counted.
    counted: Option<u64>,
    digest: Sha256,
}

impl Image {
    /// An image of everything up to `revision`. `facts` are of the same moment.
    pub fn new(facts: Facts, revision: Revision) -> Image {
        let rows = Rows::new(Purpose::Image, facts.compacted, revision);
        let pages = Pages { out: Vec::new(), next: FIRST_PAGE };
        Image { facts, rows, keys: Some(Tree::new()), pages, sent: 0, counted: None, digest: Sha256::new() }
    }

    /// Versions that are not dead at this revision are still needed.
    pub fn pin(&self) -> Revision {
        self.rows.pin()
    }

    /// Counts pages; to be repeated until it is done, before anything is written.
    pub fn count<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
    ) -> Result<Progress<()>, Cold> {
        assert!(self.counted.is_none(), "counted twice");
        let passed = self.advance(view, budget, |pages| {
            if pages.out.len() > UNWANTED_MAX {
                pages.out.clear();
            }
            true
        })?;
        if let Progress::Done(root) = passed {
            self.counted = Some(root + 1);
            self.pages = Pages { out: Vec::new(), next: FIRST_PAGE };
            self.rows.rewind();
            self.keys = Some(Tree::new());
            put_meta(&mut self.pages.out, 0, root, root + 1, 2);
            put_meta(&mut self.pages.out, 1, root, root + 1, 1);
        }
        Ok(passed.map(|_| ()))
    }

    /// Bytes of the image, once they are counted.
    pub fn encoded_len(&self) -> u64 {
        self.counted.expect("counted before") * PAGE as u64
    }

    /// Bytes at hand, in order.
    pub fn at_hand(&self) -> &[u8] {
        &self.pages.out[self.sent..]
    }

    /// The first `len` bytes at hand were sent.
    pub fn consume(&mut self, len: usize) {
        self.digest.update(&self.pages.out[self.sent..][..len]);
        self.sent += len;
        if self.sent == self.pages.out.len() || self.sent > UNWANTED_MAX {
            self.pages.out.drain(..std::mem::take(&mut self.sent));
        }
    }

    /// Goes on until `wanted` bytes are at hand, or all that are left. `More`: the budget was too small.
    pub fn write<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
        wanted: usize,
    ) -> Result<Progress<()>, Cold> {
        let counted = self.counted.expect("counted before");
        if self.at_hand().len() >= wanted || self.keys.is_none() {
            return Ok(Progress::Done(()));
        }
        let end = self.sent + wanted;
        if let Progress::Done(root) = self.advance(view, budget, |pages| pages.out.len() < end)? {
            assert_eq!(root + 1, counted, "pages of the second walk");
            return Ok(Progress::Done(()));
        }
        Ok(if self.at_hand().len() >= wanted { Progress::Done(()) } else { Progress::More })
    }

    /// SHA-256 of everything that was consumed.
    pub fn digest(&self) -> [u8; DIGEST] {
        self.digest.clone().finalize().into()
    }

    /// Passes rows while `on` says so; behind the last one it writes the rest. Returns the last page, which is the root.
    fn advance<R: ReadPages>(
        &mut self,
        view: &View<'_, R>,
        budget: &mut Budget,
        mut on: impl FnMut(&mut Pages) -> bool,
    ) -> Result<Progress<u64>, Cold> {
        let (pages, keys) = (&mut self.pages, self.keys.as_mut().expect("not finished"));
        let passed = self.rows.advance(view, budget, |row| {
            keys.push(pages, &row.key, row.value);
            on(pages)
        })?;
        Ok(match passed {
            Progress::Done(()) => Progress::Done(self.finish()),
            Progress::More => Progress::More,
        })
    }

    fn finish(&mut self) -> u64 {
        let pages = &mut self.pages;
        let mut buckets = BTreeMap::new();
        buckets.insert("key", self.keys.take().expect("not finished").finish(pages));
        for (name, rows) in contents::rows(&self.facts) {
            let mut tree = Tree::new();
            rows.iter().for_each(|(key, value)| tree.push(pages, key, value));
            buckets.insert(name, tree.finish(pages));
        }
        let mut root = Tree::new();
        buckets.iter().for_each(|(name, page)| root.push_bucket(pages, name, *page));
        root.finish(pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::world::World;
    use crate::mvcc::index::tests::pages::Random;
    use crate::request::{Compact, DeleteRange, KeyRange, Put, Write};
    use crate::snapshot::layout::{ELEMENT, HEADER, Kind};

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    /// A bbolt reader, as far as it is needed: rows of the tree at `page`, in order, and the pages it takes.
    fn read(file: &[u8], page: u64, rows: &mut Pairs, seen: &mut [bool]) {
        let bytes = &file[page as usize * PAGE..];
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let short = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        assert_eq!(long(0), page);
        for part in 0..=word(12) {
            assert!(
                !std::mem::replace(&mut seen[page as usize + part], true),
                "page {page} is reached twice"
            );
        }
        for n in 0..usize::from(short(10)) {
            let element = HEADER + n * ELEMENT;
            if short(8) == Kind::Leaf as u16 {
                let (at, key, value) = (element + word(element + 4), word(element + 8), word(element + 12));
                rows.push((bytes[at..at + key].to_vec(), bytes[at + key..at + key + value].to_vec()));
            } else {
                let (at, key) = (element + word(element), word(element + 4));
                let before = rows.len();
                read(file, long(element + 8), rows, seen);
                assert_eq!(rows[before].0, bytes[at..at + key], "the key of a child is its first");
            }
        }
    }

    /// Reads the file's buckets, and checks that every page is reached.
    fn buckets(file: &[u8]) -> BTreeMap<String, Pairs> {
        assert_eq!(file.len() % PAGE, 0);
        let pages = file.len() / PAGE;
        let mut seen = vec![false; pages];
        let meta = |at: usize| u64::from_le_bytes(file[16 + at..24 + at].try_into().unwrap());
        assert_eq!((meta(16) + 1, meta(40)), (pages as u64, pages as u64));
        let (mut roots, mut buckets) = (Vec::new(), BTreeMap::new());
        read(file, meta(16), &mut roots, &mut seen);
        for (name, value) in roots {
            let mut rows = Vec::new();
            read(file, u64::from_le_bytes(value[..8].try_into().unwrap()), &mut rows, &mut seen);
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{rows:?}");
            buckets.insert(String::from_utf8(name).unwrap(), rows);
        }
        assert_eq!(seen.iter().position(|seen| !seen), Some(0), "the meta pages are in no tree");
        assert!(seen[2..].iter().all(|seen| *seen));
        buckets
    }

    /// Takes an image in slices, with a write and perhaps a compaction between any two.
    fn take(world: &mut World, facts: Facts, random: &mut Random) -> Vec<u8> {
        let random_piece = random.below(2);
        let revision = world.store.view().revision;
        let mut image = Image::new(facts, revision);
        let mut disturb = |world: &mut World| {
            let key = format!("key{}", random.below(900)).into_bytes();
            world.run(&Write::Put(Put { key: &key, ..Put::default() })).unwrap();
        };
        loop {
            disturb(world);
            let mut budget = world.budget();
            match image.count(&world.store.view(), &mut budget) {
                Ok(Progress::Done(())) => break,
                Ok(Progress::More) => {}
                Err(cold) => world.warm(cold),
            }
        }
        let mut file = Vec::new();
        while (file.len() as u64) < image.encoded_len() {
            disturb(world);
            let mut budget = world.budget();
            let wanted = [9000, 32 << 10][random_piece];
            match image.write(&world.store.view(), &mut budget, wanted) {
                Ok(Progress::Done(())) => {
                    let len = image.at_hand().len().min(wanted);
                    file.extend_from_slice(&image.at_hand()[..len]);
                    image.consume(len);
                }
                Ok(Progress::More) => {}
                Err(cold) => world.warm(cold),
            }
        }
        let digest: [u8; DIGEST] = Sha256::digest(&file).into();
        assert_eq!(image.digest(), digest);
        file
    }

    #[test]
    fn an_image_holds_the_rows_of_its_moment() {
        for (seed, slice_max, evict_one_in) in [(1, 1 << 20, 0), (2, 300, 4)] {
            let mut world = World::new(seed, slice_max, evict_one_in, 300_000);
            let mut random = Random(seed);
            let empty = take(&mut world, Facts { compacted: Revision(-1), ..Facts::default() }, &mut random);
            assert_eq!(buckets(&empty)["key"], []);
            for n in 0..3000 {
                let key = format!("key{}", random.below(900)).into_bytes();
                let len = [10, 100, 1000, 9000][random.below(if n % 50 == 0 { 4 } else { 3 })];
                world.run(&Write::Put(Put { key: &key, value: &vec![b'v'; len], ..Put::default() })).unwrap();
            }
            let keys = KeyRange::new(b"key1", b"key3");
            world.run(&Write::DeleteRange(DeleteRange { keys, prev_kv: false })).unwrap();
            let at = world.store.view().revision;
            let full = take(&mut world, Facts { compacted: Revision(-1), ..Facts::default() }, &mut random);
            let rows = &buckets(&full)["key"];
            assert!(rows.len() > 3000 && rows.last().unwrap().0[..8] == at.0.to_be_bytes());
            assert!(rows.last().unwrap().0.ends_with(b"t") && rows.last().unwrap().1.starts_with(b"\x0a"));
            world.run(&Write::Compact(Compact { revision: at.0, physical: false })).unwrap();
            let facts = Facts { compacted: at, ..Facts::default() };
            let compacted = take(&mut world, facts, &mut random);
            let kept =
                buckets(&compacted)["key"].iter().filter(|row| row.0[..8] <= at.0.to_be_bytes()[..]).count();
            let tombstones = rows.iter().filter(|row| row.0.len() == 18).count();
            let live = world.read(|view| {
                let now = view.at(at)?;
                let mut live = 0;
                let mut scan = view.index.scan(KeyRange::new(b"\0", b"\0"));
                while let Some((key, entry)) = scan.next()? {
                    live += usize::from(view.version_at(key, &entry, now)?.is_some());
                }
                Ok(live)
            });
            assert_eq!(kept, live + tombstones);
        }
    }

    #[test]
    fn a_tree_of_several_levels() {
        let mut pages = Pages { out: Vec::new(), next: 0 };
        let mut tree = Tree::new();
        let rows: Vec<_> = (0..40_000u32).map(|n| (n.to_be_bytes().to_vec(), vec![7; 300])).collect();
        rows.iter().for_each(|(key, value)| tree.push(&mut pages, key, value));
        let root = tree.finish(&mut pages);
        let mut found = Vec::new();
        read(&pages.out, root, &mut found, &mut vec![false; pages.next as usize]);
        assert_eq!(found, rows);
    }
}
