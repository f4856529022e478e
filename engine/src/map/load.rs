//! Bringing pages in: on demand after a [`Miss`](super::page::Miss), and one after the other in the background.
//!
//! Pages come in by windows of 64 (256 KiB), aligned, only those of the window that the tree contains and that are
//! not in memory. Without a mapping a window is a read whose pages are copied into frames. With one it is a
//! [`Populate`] for a background thread, which faults the window in and locks it; where memory may not be locked
//! (RLIMIT_MEMLOCK) the loader goes over to reads for good, since a page that may vanish again is no hit.
//!
//! While a window is being read none of its slots changes hands: a slot that falls free meanwhile waits for the end
//! of the read ([`Reading`]), so what arrives is always the page that was asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::MapError;
use super::layout;
use super::page::{PAGE_SIZE, Page, PageNo};
use super::range::Unpopulated;
use super::space::{Place, Space};
use super::writer::Writer;
use crate::disk::{Disk, FileName, Op, Outcome, Output, Owner, Token};

/// Pages of a window, one bit of a word each.
pub(super) const WINDOW: u32 = 64;

/// Windows being read at most.
const LOADS_MAX: usize = 8;

/// Windows the background preload has in flight at most.
const PRELOADS_MAX: usize = 2;

/// Brings pages in. One beside the writer, whose turn it shares.
#[derive(Debug, Default)]
pub struct Loader {
    /// Windows asked for, oldest first; bounded by the number of windows, as none is listed twice.
    wanted: VecDeque<u32>,
    next_id: u64,
    /// First window the preload has not looked at.
    preload: u32,
    /// Memory may not be locked: read into frames.
    unlockable: bool,
}

/// Answer to a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// In memory already; try again at once.
    Ready,
    /// On its way; try again after a load has ended.
    Coming,
    /// Not part of the newest version: pin that and start over. For a walk that was on the newest version it means
    /// a damaged tree.
    Gone,
}

/// Work the loader gives out.
#[derive(Debug)]
pub enum Load {
    /// For the disk; its end goes to [`Loader::on_completed`].
    Read(Token, Op),
    /// For a background thread; its end goes to [`Loader::on_populated`].
    Populate(Populate),
}

impl Loader {
    /// A loader that asks for nothing yet.
    pub fn new() -> Loader {
        Loader::default()
    }

    /// Asks for a page that was missed.
    pub fn want(&mut self, writer: &Writer, no: PageNo) -> Wanted {
        if writer.space.place(no) != Place::Nowhere {
            return Wanted::Ready;
        }
        if !writer.slots.is_live(no) {
            return Wanted::Gone;
        }
        let window = no.0 / WINDOW;
        if !writer.reading.covers(no) && !self.wanted.contains(&window) {
            self.wanted.push_back(window);
        }
        Wanted::Coming
    }

    /// The next piece of work for what was asked for.
    pub fn poll(&mut self, writer: &mut Writer) -> Option<Load> {
        while writer.reading.len() < LOADS_MAX {
            let window = self.wanted.pop_front()?;
            if let Some(load) = self.start(writer, window) {
                return Some(load);
            }
        }
        None
    }

    /// The next piece of background work, once nothing that was asked for waits: pages in the order of the file.
    /// Ends when everything is in memory, or only an eighth of the frames is left.
    pub fn poll_preload(&mut self, writer: &mut Writer) -> Option<Load> {
        let spare = writer.space.limits().frame_count_max / 8;
        while self.wanted.is_empty() && writer.reading.len() < PRELOADS_MAX && writer.frames.room() > spare {
            if self.preload * WINDOW >= writer.slots.page_count() {
                return None;
            }
            self.preload += 1;
            if let Some(load) = self.start(writer, self.preload - 1) {
                return Some(load);
            }
        }
        None
    }

    /// A read ended: its pages are checked and are hits from now on.
    ///
    /// Errors: the disk failed, or a page is damaged; the message names file, page and offset.
    pub fn on_completed(
        &mut self,
        writer: &mut Writer,
        token: Token,
        outcome: Outcome,
    ) -> Result<(), MapError> {
        let window = writer.end_reading(token.id);
        let data = match outcome.map_err(MapError::Disk)? {
            Output::Data(data) => data,
            Output::Done => unreachable!("a read of {:?} returned no data", window.first()),
        };
        assert_eq!(
            data.len(),
            window.span() as usize * PAGE_SIZE,
            "length of the window at {:?}",
            window.first()
        );
        let (pages, _) = data.as_chunks::<PAGE_SIZE>();
        for no in window.pages() {
            if writer.awaits(no) {
                let page = &pages[(no.0 - window.first().0) as usize];
                layout::check_page(page, no)?;
                writer.install(no, page)?;
            }
        }
        Ok(())
    }

    /// A populate ended: its pages are hits from now on, or will be read.
    pub fn on_populated(&mut self, writer: &mut Writer, done: Populated) -> Result<(), MapError> {
        let window = writer.end_reading(done.id);
        match done.outcome? {
            Residency::Locked => {
                for no in window.pages().filter(|no| writer.awaits(*no)).collect::<Vec<_>>() {
                    writer.space.put(no, Place::Mapped);
                }
            }
            Residency::Unlockable => {
                self.unlockable = true;
                self.wanted.push_front(window.base / WINDOW);
            }
        }
        Ok(())
    }

    /// Brings one page in, waiting for the disk: for recovery and tests.
    pub fn load(&mut self, writer: &mut Writer, disk: &mut dyn Disk, no: PageNo) -> Result<Wanted, MapError> {
        loop {
            let wanted = self.want(writer, no);
            if wanted != Wanted::Coming {
                return Ok(wanted);
            }
            match self.poll(writer).expect("a page that is coming is waited for in turn") {
                Load::Read(token, op) => {
                    let outcome = disk.run(op);
                    self.on_completed(writer, token, outcome)?;
                }
                Load::Populate(populate) => self.on_populated(writer, populate.run())?,
            }
        }
    }

    /// Starts on a window, unless there is nothing in it to bring in.
    fn start(&mut self, writer: &mut Writer, window: u32) -> Option<Load> {
        let window = Window::of(window * WINDOW, |no| writer.awaits(no) && !writer.reading.covers(no))?;
        let id = self.next_id;
        self.next_id += 1;
        writer.reading.begin(id, window);
        if writer.space.is_mapped() && !self.unlockable {
            return Some(Load::Populate(Populate { space: Arc::clone(&writer.space), window, id }));
        }
        let token = Token { owner: Owner::Index, id };
        let (offset, len) = (layout::offset_of(window.first()), window.span() as usize * PAGE_SIZE);
        Some(Load::Read(token, Op::Read { file: FileName::Index, offset, len, enough: len }))
    }
}

impl Writer {
    /// Whether the page is part of the tree and not in memory.
    fn awaits(&self, no: PageNo) -> bool {
        self.slots.is_live(no) && self.space.place(no) == Place::Nowhere
    }

    /// Copies a checked page into a frame.
    fn install(&mut self, no: PageNo, bytes: &Page) -> Result<(), MapError> {
        if self.frames.room() == 0 {
            return Err(MapError::Full { frame_count_max: self.space.limits().frame_count_max });
        }
        let frame = self.frames.take();
        // SAFETY: the frame was just taken from the free ones, so nothing refers to it, and the writer is borrowed.
        unsafe { self.space.frame_mut(frame) }.copy_from_slice(bytes);
        self.space.put(no, Place::Frame(frame));
        Ok(())
    }

    /// A window was read: the slots that waited for it go on.
    fn end_reading(&mut self, id: u64) -> Window {
        let (window, deferred) = self.reading.end(id);
        self.let_go(deferred);
        window
    }
}

/// Faults a window of the mapping in, locks and checks it. Run it on a background thread: it waits for the disk.
#[must_use = "its pages stay missing until it ran"]
#[derive(Debug)]
pub struct Populate {
    space: Arc<Space>,
    window: Window,
    id: u64,
}

/// How a populate ended.
#[must_use = "its pages stay missing until the loader has it"]
#[derive(Debug)]
pub struct Populated {
    id: u64,
    outcome: Result<Residency, MapError>,
}

#[derive(Debug)]
enum Residency {
    Locked,
    Unlockable,
}

impl Populate {
    /// Does the work.
    pub fn run(self) -> Populated {
        Populated { id: self.id, outcome: self.bring_in() }
    }

    fn bring_in(&self) -> Result<Residency, MapError> {
        match self.space.populate(self.window.first(), self.window.span()) {
            Ok(()) => {}
            Err(Unpopulated::Unlockable) => return Ok(Residency::Unlockable),
            Err(Unpopulated::Read(error)) => return Err(MapError::unreadable(self.window.first(), &error)),
        }
        for no in self.window.pages() {
            // SAFETY: just populated; the slots of a window being read do not change hands, so nobody writes them.
            layout::check_page(unsafe { self.space.mapped_page(no) }, no)?;
        }
        Ok(Residency::Locked)
    }
}

/// Some pages of one aligned stretch of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    base: u32,
    /// Never 0.
    mask: u64,
}

impl Window {
    /// The pages of the stretch from `base` on that `wanted` picks; none if it picks nothing.
    fn of(base: u32, wanted: impl Fn(PageNo) -> bool) -> Option<Window> {
        let mask = (0..WINDOW).filter(|i| wanted(PageNo(base + i))).fold(0, |mask, i| mask | 1 << i);
        (mask != 0).then_some(Window { base, mask })
    }

    fn first(&self) -> PageNo {
        PageNo(self.base + self.mask.trailing_zeros())
    }

    /// Pages from the first to the last, gaps included.
    fn span(&self) -> u32 {
        WINDOW - self.mask.leading_zeros() - self.mask.trailing_zeros()
    }

    fn pages(self) -> impl Iterator<Item = PageNo> {
        (0..WINDOW).filter(move |i| self.mask & 1 << i != 0).map(move |i| PageNo(self.base + i))
    }

    fn contains(&self, no: PageNo) -> bool {
        no.0 / WINDOW == self.base / WINDOW && self.mask & 1 << (no.0 % WINDOW) != 0
    }
}

/// The windows being read, and slots that would be free but for them.
#[derive(Debug, Default)]
pub(super) struct Reading {
    windows: BTreeMap<u64, Window>,
    deferred: Vec<PageNo>,
}

impl Reading {
    /// Keeps a slot that fell free until the read that covers it ends; false if none does.
    pub fn defer(&mut self, no: PageNo) -> bool {
        let covered = self.covers(no);
        if covered {
            self.deferred.push(no);
        }
        covered
    }

    /// Whether any page of the window that begins with `first` is being read.
    pub fn is_in_window(&self, first: PageNo) -> bool {
        self.windows.values().any(|window| window.base == first.0)
    }

    fn covers(&self, no: PageNo) -> bool {
        self.windows.values().any(|window| window.contains(no))
    }

    fn len(&self) -> usize {
        self.windows.len()
    }

    fn begin(&mut self, id: u64, window: Window) {
        self.windows.insert(id, window);
    }

    /// Ends a read. The deferred slots go round again; those another read covers come back here.
    fn end(&mut self, id: u64) -> (Window, Vec<PageNo>) {
        let window = self.windows.remove(&id).unwrap_or_else(|| panic!("load {id} is not outstanding"));
        (window, std::mem::take(&mut self.deferred))
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::super::TAG_WORDS;
    use super::super::tests::mapped::{FileDisk, checkpoint};
    use super::super::tests::toy::{build, values};
    use super::*;

    #[test]
    fn where_memory_may_not_be_locked_pages_are_read_into_frames() {
        let mut disk = FileDisk::new("unlockable");
        let mut writer = disk.open().writer;
        let root = build(&mut writer, &[1, 2, 3]);
        writer.publish(root, [0; TAG_WORDS]);
        checkpoint(&mut disk, &mut writer);

        let mut writer = disk.open().writer;
        let mut loader = Loader::new();
        assert_eq!(loader.want(&writer, root), Wanted::Coming);
        let Some(Load::Populate(populate)) = loader.poll(&mut writer) else { panic!("a populate") };
        let refused = Populated { id: populate.id, outcome: Ok(Residency::Unlockable) };
        loader.on_populated(&mut writer, refused).unwrap();
        assert_eq!(loader.load(&mut writer, &mut disk, root), Ok(Wanted::Ready));
        assert!(matches!(writer.space.place(root), Place::Frame(_)));
        assert_eq!(values(&writer, root).unwrap(), [1, 2, 3]);
    }
}
