//! Meta pages and what the store keeps in them; then a whole data directory, opened with its index file changed.

use std::time::Instant;

use bytes::Bytes;
use engine::disk::FileName;
use engine::map::layout::Meta;
use engine::map::page::{PAGE_SIZE, PageNo};
use engine::members::change::Proposed;
use engine::members::record::Row;
use engine::mvcc::index::Root;
use engine::mvcc::index::entry::KeyEntry;
use engine::replica::open::open;
use engine::replica::payload::{Members, Payload};
use raft::ConfChange;

use crate::input::{Edit, Input};
use crate::stored;

/// The first byte: 0, the rest is a meta page with a right checksum; 1, a payload, a root, an entry, a configuration, a
/// member or a change of one; else edits of the index file by page, with 2 as they are and with 3 with right checksums.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => {
            let mut page = [0; PAGE_SIZE];
            let len = input.0.len().min(PAGE_SIZE);
            page[..len].copy_from_slice(&input.0[..len]);
            stored::repair_index(&mut page);
            for slot in [PageNo(0), PageNo(1)] {
                let _ = Meta::decode(slot, &page).map(|meta| Payload::decode(&meta.payload));
            }
        }
        1 => {
            let _ = Payload::decode(input.0);
            let _ = Members::decode(input.0);
            let _ = input.0.split_at_checked(8).map(|(key, value)| Row::parse(key, value));
            let change = ConfChange::decode(&Bytes::copy_from_slice(input.0));
            let _ = change.map(|change| Proposed::decode(&change));
            let _ = KeyEntry::decode(input.0);
            let _ = input.0.first_chunk().map(Root::decode);
        }
        mode => directory(input, mode == 3),
    }
}

fn directory(mut input: Input<'_>, repair: bool) {
    let mut disk = stored::directory();
    let mut index = disk.content(FileName::Index).expect("every directory has an index").to_vec();
    while let Some(edit) = input.edit() {
        let at = usize::from(edit.part) * PAGE_SIZE;
        if let Some(page) = index.get_mut(at..at + PAGE_SIZE) {
            edit.apply(page);
        }
    }
    if repair {
        stored::repair_index(&mut index);
    }
    disk.put(FileName::Index, index);
    let Ok(opened) = open(stored::config(), &mut disk, None, 1 << 43, Instant::now()) else { return };
    let mut replica = opened.replica;
    // Entries above the checkpoint are applied; pages that are damaged end the process in good order.
    for _ in 0..20 {
        if replica.turn(Instant::now()).is_err() || !stored::work(&mut replica, &mut disk) {
            return;
        }
    }
}

/// Meta pages, their payloads, and edits of the places that lead elsewhere.
pub fn seeds() -> Vec<Vec<u8>> {
    let disk = stored::directory();
    let index = disk.content(FileName::Index).expect("every directory has an index");
    let newest = (0..2)
        .filter_map(|slot| {
            let at = slot as usize * PAGE_SIZE;
            Meta::decode(PageNo(slot), index[at..].first_chunk()?).ok()
        })
        .max_by_key(|meta| meta.generation)
        .expect("a checkpoint was written");
    let page = newest.encode();
    let slot = newest.slot().0 as u8;
    let edit = |part, at, bytes: &[u8]| Edit { part, at, bytes }.encode();
    let with_mode = |mode: u8, rest: &[u8]| [&[mode][..], rest].concat();
    vec![
        with_mode(0, &page[..1100]),
        with_mode(1, &newest.payload),
        with_mode(1, &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        with_mode(2, &[]),
        with_mode(2, &edit(slot, 60, &[1])),
        // Root, page count, payload's root, revision, and a byte of the tree.
        with_mode(3, &edit(slot, 32, &[3])),
        with_mode(3, &edit(slot, 36, &[0xff, 0xff])),
        with_mode(3, &[edit(slot, 52, &[9]), edit(slot, 76, &[0xff; 8])].concat()),
        with_mode(3, &edit(2, 24, &[0xff; 4])),
    ]
}
