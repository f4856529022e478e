//! The dynamic table (RFC 7541 §2.3.2): a FIFO of the fields the peer asked us to remember.
//!
//! A Go client adds one entry per call (its `grpc-timeout` changes every time), so adding must not allocate: texts
//! stand in one buffer of twice the table's size, appended at the end and moved to the front when the end is reached.

use super::field::FieldName;
use super::{ENTRY_OVERHEAD_BYTES, TABLE_SIZE_BYTES_MAX};

/// Entries by age, newest first, bounded by [`TABLE_SIZE_BYTES_MAX`].
#[derive(Debug)]
pub struct DynamicTable {
    /// Entry `n` ever added stands at `n % ENTRY_COUNT_MAX`.
    entries: Box<[Entry; ENTRY_COUNT_MAX]>,
    /// Entries ever added.
    added: usize,
    /// Entries present: `added - count .. added`.
    count: usize,
    /// Texts of the entries present, contiguous and in order of age, end at `text_end`.
    texts: Box<[u8]>,
    text_end: usize,
    /// Size of the entries present, by RFC 7541 §4.1; `size_bytes <= size_bytes_max <= TABLE_SIZE_BYTES_MAX`.
    size_bytes: usize,
    size_bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: FieldName,
    start: u16,
    name_len: u16,
    value_len: u16,
}

impl Entry {
    fn size_bytes(self) -> usize {
        self.text_len() + ENTRY_OVERHEAD_BYTES
    }

    fn text_len(self) -> usize {
        self.name_len as usize + self.value_len as usize
    }
}

impl DynamicTable {
    /// An empty table of the default size.
    pub fn new() -> DynamicTable {
        let vacant = Entry { name: FieldName::Other, start: 0, name_len: 0, value_len: 0 };
        DynamicTable {
            entries: Box::new([vacant; ENTRY_COUNT_MAX]),
            added: 0,
            count: 0,
            texts: vec![0; TEXT_BYTES_MAX].into_boxed_slice(),
            text_end: 0,
            size_bytes: 0,
            size_bytes_max: TABLE_SIZE_BYTES_MAX,
        }
    }

    /// Class, name and value of the entry of age `age`, 0 being the newest.
    pub fn entry(&self, age: usize) -> Option<(FieldName, &[u8], &[u8])> {
        if age >= self.count {
            return None;
        }
        let entry = self.entries[(self.added - 1 - age) % ENTRY_COUNT_MAX];
        let start = entry.start as usize;
        let (name, value) = self.texts[start..start + entry.text_len()].split_at(entry.name_len as usize);
        Some((entry.name, name, value))
    }

    /// Adds an entry, evicting the oldest as needed; one larger than the whole table just empties it (§4.4).
    pub fn insert(&mut self, name: FieldName, text: &[u8], value: &[u8]) {
        let size_bytes = text.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.evict_to(self.size_bytes_max.saturating_sub(size_bytes));
        if size_bytes > self.size_bytes_max {
            return;
        }
        let text_len = text.len() + value.len();
        if self.text_end + text_len > self.texts.len() {
            self.move_texts_to_front();
        }
        let start = self.text_end;
        let value_start = start + text.len();
        self.texts[start..value_start].copy_from_slice(text);
        self.texts[value_start..start + text_len].copy_from_slice(value);
        self.text_end += text_len;
        self.entries[self.added % ENTRY_COUNT_MAX] =
            Entry { name, start: start as u16, name_len: text.len() as u16, value_len: value.len() as u16 };
        self.added += 1;
        self.count += 1;
        self.size_bytes += size_bytes;
    }

    /// Sets the size limit (§4.3), at most [`TABLE_SIZE_BYTES_MAX`].
    pub fn resize(&mut self, size_bytes_max: usize) {
        assert!(size_bytes_max <= TABLE_SIZE_BYTES_MAX, "table of {size_bytes_max} bytes");
        self.size_bytes_max = size_bytes_max;
        self.evict_to(size_bytes_max);
    }

    /// Number of entries present.
    pub fn count(&self) -> usize {
        self.count
    }

    fn evict_to(&mut self, size_bytes: usize) {
        while self.size_bytes > size_bytes {
            let oldest = self.entries[(self.added - self.count) % ENTRY_COUNT_MAX];
            self.size_bytes -= oldest.size_bytes();
            self.count -= 1;
        }
    }

    fn move_texts_to_front(&mut self) {
        let live = self.added - self.count..self.added;
        let live_start = match live.clone().next() {
            Some(oldest) => self.entries[oldest % ENTRY_COUNT_MAX].start as usize,
            None => self.text_end,
        };
        self.texts.copy_within(live_start..self.text_end, 0);
        self.text_end -= live_start;
        for at in live {
            self.entries[at % ENTRY_COUNT_MAX].start -= live_start as u16;
        }
    }
}

impl Default for DynamicTable {
    fn default() -> DynamicTable {
        DynamicTable::new()
    }
}

/// A full table of empty fields.
const ENTRY_COUNT_MAX: usize = TABLE_SIZE_BYTES_MAX / ENTRY_OVERHEAD_BYTES;

/// Live texts fit in half of it, so room for one more is always found at the end or after a move.
const TEXT_BYTES_MAX: usize = 2 * TABLE_SIZE_BYTES_MAX;

const _: () = assert!(TEXT_BYTES_MAX <= u16::MAX as usize, "offsets are 16 bit");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn oversized_entry_empties_the_table() {
        let mut table = DynamicTable::new();
        table.insert(FieldName::Other, b"a", b"b");
        table.insert(FieldName::Other, b"a", &[b'x'; TABLE_SIZE_BYTES_MAX]);
        assert_eq!((table.count(), table.size_bytes), (0, 0));
        table.resize(0);
        table.insert(FieldName::Other, b"", b"");
        assert!(table.entry(0).is_none());
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_plain_queue(steps in proptest::collection::vec((0usize..600, 0usize..5000, 0u8..20), 1..300)) {
            let mut table = DynamicTable::new();
            let (mut model, mut size_max): (VecDeque<Vec<u8>>, usize) = (VecDeque::new(), TABLE_SIZE_BYTES_MAX);
            let trim = |model: &mut VecDeque<Vec<u8>>, max: usize| {
                while model.iter().map(|value| value.len() + 4 + 32).sum::<usize>() > max {
                    model.pop_back();
                }
            };
            for (n, (len, resize, kind)) in steps.into_iter().enumerate() {
                if kind == 0 {
                    size_max = resize.min(TABLE_SIZE_BYTES_MAX);
                    table.resize(size_max);
                } else {
                    let value = vec![n as u8; len];
                    table.insert(FieldName::Other, b"name", &value);
                    model.push_front(value);
                }
                trim(&mut model, size_max);
                assert_eq!(table.count(), model.len());
                for (age, value) in model.iter().enumerate() {
                    assert_eq!(table.entry(age), Some((FieldName::Other, &b"name"[..], &value[..])));
                }
            }
        }
    }
}
