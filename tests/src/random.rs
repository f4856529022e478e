//! A seeded generator of choices (SplitMix64, Steele, Lea and Flood 2014): same seed, same run, on every machine.

/// The generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that starts from `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number in `0..bound`; `bound` is not 0. The bias of the fixed-point product is below 2^-32 here.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert_ne!(bound, 0);
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "{low} > {high}");
        low + self.below((high - low) as u64 + 1) as i64
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`, which is not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// An index into `weights`, each as likely as its weight.
    pub fn weighted(&mut self, weights: impl IntoIterator<Item = u64, IntoIter: Clone>) -> usize {
        let weights = weights.into_iter();
        let mut left = self.below(weights.clone().sum());
        for (index, weight) in weights.enumerate() {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        unreachable!("{left} beyond the sum of all weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_repeat_and_cover() {
        let draw = || {
            let mut random = Random::new(7);
            (0..200).map(|_| random.between(-2, 2)).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        for wanted in -2..=2 {
            assert!(draw().contains(&wanted), "{wanted} never drawn");
        }
    }

    #[test]
    fn weights_are_respected() {
        let mut random = Random::new(1);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            counts[random.weighted([0, 25, 75])] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((2_300..2_700).contains(&counts[1]), "{counts:?}");
    }
}
