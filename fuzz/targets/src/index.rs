//! A tree with bytes of its pages changed: every read and write ends, and finds either an answer or damage.

use engine::map::page::{Miss, PAGE_HEADER, PAGE_SIZE, Page, PageNo, ReadPages, WritePages};
use engine::mvcc::index::entry::KeyEntry;
use engine::mvcc::index::table::Table;
use engine::mvcc::index::{Error, Index, IndexView, Root};
use engine::request::{KeyRange, RangeEnd};
use engine::types::{LeaseId, Revision, Seq};

use crate::input::{Edit, Input};

const KEYS: u64 = 90;
const EVERYTHING: KeyRange<'_> = KeyRange { key: &[], end: RangeEnd::Unbounded };

/// Steps of a scan at most; a sound tree has far fewer entries.
const STEPS_MAX: usize = 5_000;

/// Edits of pages, in order; 255 as a page is the root.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let (mut pages, root) = tree();
    while let Some(edit) = input.edit() {
        let page = if edit.part == u8::MAX { root.page.0 as usize } else { 2 + usize::from(edit.part) };
        if let Some(page) = pages.pages.get_mut(page) {
            edit.apply(&mut page[PAGE_HEADER..]);
        }
    }
    read(&pages, root);
    write(pages, root);
}

fn read(pages: &Pages, root: Root) {
    let view = IndexView::new(pages, root);
    let _ = view.check();
    for n in 0..KEYS {
        let _ = view.get(&key(n));
        let _ = view.count(KeyRange::new(&key(n), &key(n + 30)));
    }
    let mut scan = view.scan(EVERYTHING);
    let mut steps = 0;
    while let Ok(Some(_)) = scan.next() {
        steps += 1;
        assert!(steps < STEPS_MAX, "a scan without end");
    }
    let mut rows = view.rows(Table::Misc, b"");
    while let Ok(Some(_)) = rows.next() {
        steps += 1;
        assert!(steps < STEPS_MAX, "a list without end");
    }
}

fn write(pages: Pages, root: Root) {
    let mut index = Index::new(pages, root);
    // A batch that met damage is never published, nor written on.
    for n in (0..KEYS).step_by(3) {
        if let Err(Error::Damaged { .. }) = index.put(&key(n), &entry(1000 + n)) {
            return;
        }
    }
    for n in 0..KEYS {
        if let Err(Error::Damaged { .. }) = index.remove(&key(n)) {
            return;
        }
    }
}

/// Leaves, inner pages and overflow pages, published.
fn tree() -> (Pages, Root) {
    let mut index = Index::new(Pages::new(), Root::EMPTY);
    for n in 0..KEYS {
        index.put(&key(n), &entry(n)).expect("pages in memory");
    }
    index.put_row(Table::Misc, b"large", &[7; 10_000]).expect("pages in memory");
    let root = index.root();
    let mut pages = std::mem::replace(index.pages_mut(), Pages::new());
    pages.states.iter_mut().filter(|state| **state == State::Private).for_each(|s| *s = State::Published);
    (pages, root)
}

/// Keys of many lengths: most so long that a page holds few, some longer than a page.
fn key(n: u64) -> Vec<u8> {
    let len = if n % 17 == 3 { 5_000 } else { 100 + (n as usize * 37) % 800 };
    let mut key = format!("/registry/{:03}/", n * 7 % 101).into_bytes();
    key.resize(len, b'k');
    key
}

fn entry(n: u64) -> KeyEntry {
    KeyEntry {
        seq: Seq(n + 1),
        modified: Revision(n as i64 + 2),
        created: Revision(2),
        version: 1,
        wire_len: 60,
        lease: LeaseId::NONE,
        tombstone: n % 5 == 4,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Private,
    Published,
}

/// Pages in a vector. A damaged tree may name any page; one that is not there reads as zeroes.
struct Pages {
    pages: Vec<Box<Page>>,
    states: Vec<State>,
}

const ZEROES: &Page = &[0; PAGE_SIZE];

impl Pages {
    fn new() -> Pages {
        Pages { pages: vec![Box::new(*ZEROES); 2], states: vec![State::Published; 2] }
    }
}

impl ReadPages for Pages {
    fn page(&self, no: PageNo) -> Result<&Page, Miss> {
        Ok(self.pages.get(no.0 as usize).map_or(ZEROES, |page| page))
    }
}

impl WritePages for Pages {
    fn allocate(&mut self) -> PageNo {
        let free = self.states.iter().position(|state| *state == State::Free);
        let no = free.unwrap_or_else(|| {
            self.pages.push(Box::new(*ZEROES));
            self.states.push(State::Free);
            self.pages.len() - 1
        });
        *self.pages[no] = *ZEROES;
        self.states[no] = State::Private;
        PageNo(no as u32)
    }

    fn is_private(&self, no: PageNo) -> bool {
        self.states.get(no.0 as usize) == Some(&State::Private)
    }

    fn page_mut(&mut self, no: PageNo) -> &mut Page {
        assert!(self.is_private(no), "page {} is not private", no.0);
        &mut self.pages[no.0 as usize]
    }

    fn retire(&mut self, no: PageNo) {
        if self.is_private(no) {
            self.states[no.0 as usize] = State::Free;
        }
    }
}

/// Fields of page heads, slots, entries, children and chains.
pub fn seeds() -> Vec<Vec<u8>> {
    let edit = |part, at, bytes: &[u8]| Edit { part, at, bytes }.encode();
    vec![
        Vec::new(),
        edit(255, 0, &[1, 1]),
        [edit(0, 2, &[0xff, 0]), edit(1, 4, &[0, 1]), edit(2, 8, &[0xff, 0xff])].concat(),
        [edit(255, 24, &[0xff; 12]), edit(255, 2, &[3, 0])].concat(),
        [edit(3, 16, &[9, 0, 0, 0, 9, 9]), edit(3, 30, &[0x10, 0x0f])].concat(),
        (0..20).flat_map(|page| edit(page, 0, &[2, 1, 4, 0])).collect(),
        (0..30).flat_map(|page| edit(page, 4000, &[page; 15])).collect(),
    ]
}
