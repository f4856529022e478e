//! Pages, slots and frames that wait for the last reader of an old version.

use std::collections::VecDeque;

use super::page::PageNo;
use super::space::Frame;
use crate::seeded::{self, Bug};

/// Things that fall free in the order they were let go.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    batches: VecDeque<Batch>,
}

/// What was let go together.
#[derive(Debug)]
struct Batch {
    /// The last version that reaches it.
    last: u64,
    what: What,
}

/// What waits.
#[derive(Debug)]
pub(super) enum What {
    /// Whole pages: memory and slot.
    Pages(Vec<PageNo>),
    /// The memory of pages whose slot a durable checkpoint holds.
    Memory(Vec<PageNo>),
    /// Frames whose pages are found in the mapping now.
    Frames(Vec<Frame>),
    /// Windows of the mapping, by their first page, from which all pages were evicted.
    Windows(Vec<PageNo>),
}

/// One thing that fell free.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Free {
    Page(PageNo),
    Memory(PageNo),
    Frame(Frame),
    Window(PageNo),
}

impl Limbo {
    /// Lets go of `what`, which `last` is the last version to reach.
    pub fn push(&mut self, last: u64, what: What) {
        debug_assert!(self.batches.back().is_none_or(|batch| batch.last <= last), "versions only grow");
        self.batches.push_back(Batch { last, what });
    }

    /// The next thing that no version from `oldest` on reaches.
    pub fn pop(&mut self, oldest: u64) -> Option<Free> {
        loop {
            let batch = self.batches.front_mut()?;
            if batch.last >= oldest && !seeded::is(Bug::ReusePinnedPage) {
                return None;
            }
            let free = match &mut batch.what {
                What::Pages(pages) => pages.pop().map(Free::Page),
                What::Memory(pages) => pages.pop().map(Free::Memory),
                What::Frames(frames) => frames.pop().map(Free::Frame),
                What::Windows(windows) => windows.pop().map(Free::Window),
            };
            if free.is_some() {
                return free;
            }
            self.batches.pop_front();
        }
    }

    /// How many things wait.
    pub fn len(&self) -> usize {
        self.batches.iter().map(Batch::len).sum()
    }
}

impl Batch {
    fn len(&self) -> usize {
        match &self.what {
            What::Pages(pages) | What::Memory(pages) | What::Windows(pages) => pages.len(),
            What::Frames(frames) => frames.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_fall_free_once_their_last_version_has_no_reader() {
        let mut limbo = Limbo::default();
        limbo.push(3, What::Pages(vec![PageNo(7), PageNo(8)]));
        limbo.push(4, What::Memory(vec![]));
        limbo.push(5, What::Frames(vec![Frame(1)]));
        assert_eq!(limbo.pop(3), None);
        assert_eq!(limbo.pop(4), Some(Free::Page(PageNo(8))));
        assert_eq!(limbo.pop(4), Some(Free::Page(PageNo(7))));
        assert_eq!(limbo.pop(5), None);
        assert_eq!(limbo.len(), 1);
        assert_eq!(limbo.pop(u64::MAX), Some(Free::Frame(Frame(1))));
        assert_eq!(limbo.pop(u64::MAX), None);
    }
}
