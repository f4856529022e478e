//! Publication of versions and reuse of pages under loom: every interleaving, and every value a relaxed load may see.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p kontiki-engine --test loom_publish
//! ```
//!
//! Pages are loom cells, so that a page written while a reader may still look at it is found as a data race. Without
//! `--cfg loom` this file is empty.
#![cfg(loom)]

use engine::map::epoch::{Publication, TAG_WORDS, Version};
use engine::map::page::PageNo;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Page `i` of the model is page `FIRST + i` of the index; a page holds the number of the version it is root of.
const FIRST: u32 = 2;

struct Model {
    publication: Publication,
    pages: [UnsafeCell<u64>; 3],
}

// SAFETY: the cells are shared on purpose; that they are used in turns is what loom checks.
unsafe impl Sync for Model {}

fn version(number: u64, page: usize) -> Version {
    Version { number, root: Some(PageNo(FIRST + page as u32)), tag: [number; TAG_WORDS] }
}

impl Model {
    /// Version 1 stands in page 0.
    fn new() -> Arc<Model> {
        let publication = Publication::new(version(1, 0), 1);
        Arc::new(Model { publication, pages: [1, 0, 0].map(UnsafeCell::new) })
    }

    fn write(&self, page: usize, number: u64) {
        // SAFETY: loom fails the test if anybody else is at the page.
        self.pages[page].with_mut(|cell| unsafe { *cell = number });
    }

    /// Pins, checks that everything is of one version, lets go.
    fn read(&self, slot: usize) -> u64 {
        let version = self.publication.pin(slot);
        assert_eq!(version.tag, [version.number; TAG_WORDS], "a tag of mixed versions");
        let page = (version.root.expect("there is a root").0 - FIRST) as usize;
        // SAFETY: loom fails the test if anybody writes the page meanwhile.
        let found = self.pages[page].with(|cell| unsafe { *cell });
        assert_eq!(found, version.number, "the page is of another version");
        self.publication.unpin(slot);
        version.number
    }

    /// Publishes version 2 in page 1, and version 3 in page 0 if nobody can be reading version 1 any more.
    fn publish_and_reuse(&self) {
        self.write(1, 2);
        self.publication.publish(version(2, 1));
        if self.publication.oldest_pinned() > 1 {
            self.write(0, 3);
            self.publication.publish(version(3, 0));
        }
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(model);
}

#[test]
fn a_reader_sees_one_whole_version_and_its_pages_stay() {
    check(|| {
        let model = Model::new();
        let slot = model.publication.register().expect("a free slot");
        let reader = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let first = model.read(slot);
                let second = model.read(slot);
                assert!(first <= second, "versions went back");
            })
        };
        model.publish_and_reuse();
        reader.join().unwrap();
    });
}

#[test]
fn a_tag_is_never_mixed_of_two_versions() {
    check(|| {
        let model = Model::new();
        let slot = model.publication.register().expect("a free slot");
        let reader = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.read(slot))
        };
        // The ring of the model has two records, so version 3 overwrites what a reader of version 1 is looking at.
        model.write(1, 2);
        model.publication.publish(version(2, 1));
        model.write(2, 3);
        model.publication.publish(version(3, 2));
        reader.join().unwrap();
    });
}

#[test]
fn a_slot_that_changes_hands_still_protects_what_its_first_reader_saw() {
    check(|| {
        let model = Model::new();
        let readers = [(); 2].map(|()| {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                if let Some(slot) = model.publication.register() {
                    model.read(slot);
                    model.publication.deregister(slot);
                }
            })
        });
        model.publish_and_reuse();
        readers.map(|reader| reader.join().unwrap());
    });
}
