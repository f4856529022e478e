//! A set of page numbers as bits, growing as needed.

/// A set of page numbers. Numbers beyond its end are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    count: u32,
}

impl Bitmap {
    /// How many numbers are present.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether `no` is present.
    pub fn get(&self, no: u32) -> bool {
        self.word(no as usize / 64) & bit(no) != 0
    }

    /// Adds `no`; returns whether it was absent.
    pub fn set(&mut self, no: u32) -> bool {
        let index = no as usize / 64;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        let added = self.words[index] & bit(no) == 0;
        self.words[index] |= bit(no);
        self.count += u32::from(added);
        added
    }

    /// Takes `no` out; returns whether it was present.
    pub fn clear(&mut self, no: u32) -> bool {
        let present = self.get(no);
        if present {
            self.words[no as usize / 64] &= !bit(no);
            self.count -= 1;
        }
        present
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_from(0)
    }

    /// The numbers that are at least `from`, in order.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = from;
        std::iter::from_fn(move || {
            let no = self.next_from(next)?;
            next = no + 1;
            Some(no)
        })
    }

    /// The least number present that is at least `from`.
    pub fn next_from(&self, from: u32) -> Option<u32> {
        let mut index = from as usize / 64;
        let mut word = self.word(index) & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            word = *self.words.get(index)?;
        }
        Some((index * 64) as u32 + word.trailing_zeros())
    }

    /// The least number absent that is at least `from` and below `end`.
    pub fn next_absent(&self, from: u32, end: u32) -> Option<u32> {
        let mut index = from as usize / 64;
        let mut word = !self.word(index) & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            if index * 64 >= end as usize {
                return None;
            }
            word = !self.word(index);
        }
        let no = (index * 64) as u32 + word.trailing_zeros();
        (no < end).then_some(no)
    }

    /// The numbers `64 * index ..` as a word, lowest first.
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// Replaces the numbers `64 * index ..` by those of a word.
    pub fn set_word(&mut self, index: usize, word: u64) {
        let old = self.word(index);
        if word != old {
            if index >= self.words.len() {
                self.words.resize(index + 1, 0);
            }
            self.words[index] = word;
            self.count = self.count - old.count_ones() + word.count_ones();
        }
    }
}

fn bit(no: u32) -> u64 {
    1 << (no % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 128 }))]
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0u32..300), 0..200), from in 0u32..400) {
            let mut bits = Bitmap::default();
            let mut set = BTreeSet::new();
            for (add, no) in steps {
                if add {
                    prop_assert_eq!(bits.set(no), set.insert(no));
                } else {
                    prop_assert_eq!(bits.clear(no), set.remove(&no));
                }
                prop_assert_eq!(bits.count() as usize, set.len());
            }
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(bits.next_from(from), set.range(from..).next().copied());
            prop_assert_eq!(bits.next_absent(from, 350), (from..350).find(|no| !set.contains(no)));
        }
    }
}
