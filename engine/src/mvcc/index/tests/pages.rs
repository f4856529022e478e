//! Pages in a vector, with every rule of the traits enforced and pages that leave memory.

use std::cell::Cell;

use crate::map::page::{Miss, PAGE_HEADER, PAGE_SIZE, Page, PageNo, ReadPages, WritePages};

/// Splitmix64: enough for tests, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Private,
    Published,
    /// Published, and not part of the newest version.
    Retired,
}

/// The page memory of a test.
pub struct TestPages {
    pages: Vec<Box<Page>>,
    states: Vec<State>,
    resident: Vec<bool>,
    /// Misses answered so far.
    pub misses: Cell<u64>,
    /// Pages were damaged on purpose, so one may be reached, and retired, twice.
    pub damaged: bool,
}

impl TestPages {
    pub fn new() -> TestPages {
        // The meta pages are nobody's.
        let meta = || Box::new([0xee; PAGE_SIZE]);
        let states = vec![State::Free; 2];
        let (resident, misses) = (vec![true; 2], Cell::new(0));
        TestPages { pages: vec![meta(), meta()], states, resident, misses, damaged: false }
    }

    /// Ends the batch: its pages are now immutable.
    pub fn publish(&mut self) {
        for (no, state) in self.states.iter_mut().enumerate() {
            if *state == State::Private {
                *state = State::Published;
                assert_eq!(self.pages[no][..PAGE_HEADER], header(no), "the bytes of `map` in page {no}");
            }
        }
    }

    /// No older version is read any more: frees what is not part of the newest one.
    pub fn reclaim(&mut self) {
        for no in 0..self.states.len() {
            if self.states[no] == State::Retired {
                self.free(no);
            }
        }
    }

    fn free(&mut self, no: usize) {
        self.states[no] = State::Free;
        self.pages[no].fill(0xdd);
    }

    /// Lets about one published page in `one_in` leave memory.
    pub fn evict(&mut self, random: &mut Random, one_in: usize) {
        for no in 2..self.pages.len() {
            if matches!(self.states[no], State::Published | State::Retired) && random.below(one_in) == 0 {
                self.resident[no] = false;
            }
        }
    }

    pub fn bring_in(&mut self, no: PageNo) {
        assert!(!self.resident[no.0 as usize], "page {} was in memory", no.0);
        self.resident[no.0 as usize] = true;
    }

    pub fn bring_in_all(&mut self) {
        self.resident.fill(true);
    }

    /// Overwrites a page behind the tree's back.
    pub fn damage(&mut self, no: PageNo, change: impl FnOnce(&mut Page)) {
        self.damaged = true;
        change(&mut self.pages[no.0 as usize]);
    }

    /// Pages of the newest version.
    pub fn in_use(&self) -> u64 {
        let used = |state: &&State| matches!(state, State::Private | State::Published);
        self.states.iter().filter(used).count() as u64
    }
}

/// What stands in the first bytes of a page and is not the tree's.
fn header(no: usize) -> [u8; PAGE_HEADER] {
    [no as u8 ^ 0x5a; PAGE_HEADER]
}

impl ReadPages for TestPages {
    fn page(&self, no: PageNo) -> Result<&Page, Miss> {
        // A damaged tree may name any page: one that is not there reads as zeroes, which are no tree page.
        let at = no.0 as usize;
        if at < self.pages.len() && !self.resident[at] {
            self.misses.set(self.misses.get() + 1);
            return Err(Miss { page: no });
        }
        Ok(self.pages.get(at).map_or(&[0; PAGE_SIZE], |page| &**page))
    }
}

impl WritePages for TestPages {
    fn allocate(&mut self) -> PageNo {
        let free = (2..self.states.len()).find(|&no| self.states[no] == State::Free);
        let no = free.unwrap_or_else(|| {
            self.pages.push(Box::new([0; PAGE_SIZE]));
            self.states.push(State::Free);
            self.resident.push(true);
            self.pages.len() - 1
        });
        self.pages[no].fill(0);
        self.pages[no][..PAGE_HEADER].copy_from_slice(&header(no));
        (self.states[no], self.resident[no]) = (State::Private, true);
        PageNo(no as u32)
    }

    fn is_private(&self, no: PageNo) -> bool {
        self.states.get(no.0 as usize) == Some(&State::Private)
    }

    fn page_mut(&mut self, no: PageNo) -> &mut Page {
        assert!(self.is_private(no), "page {} is {:?}", no.0, self.states[no.0 as usize]);
        &mut self.pages[no.0 as usize]
    }

    fn retire(&mut self, no: PageNo) {
        let at = no.0 as usize;
        match self.states[at] {
            State::Private => self.free(at),
            State::Published => self.states[at] = State::Retired,
            _ if self.damaged => {}
            state => panic!("page {at} was retired when {state:?}"),
        }
    }
}
