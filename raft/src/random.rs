//! The seeded generator behind election timeouts: PCG-XSH-RR 64/32 (O'Neill 2014).
//!
//! Not for secrets. Owned by one [`Raft`](crate::Raft) and seeded from its configuration, so a run replays
//! exactly.

/// A small deterministic generator.
#[derive(Clone, Debug)]
pub(crate) struct Pcg {
    state: u64,
    increment: u64,
}

impl Pcg {
    /// `stream` keeps members apart that were given the same seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut pcg = Self { state: 0, increment: (stream << 1) | 1 };
        pcg.next_u32();
        pcg.state = pcg.state.wrapping_add(seed);
        pcg.next_u32();
        pcg
    }

    /// A value in `[0, bound)`; the bias of the multiplication is below `bound / 2^32`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        let xorshifted = (((old >> 18) ^ old) >> 27) as u32;
        xorshifted.rotate_right((old >> 59) as u32)
    }
}

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_reference_sequence() {
        // The first outputs of the reference implementation's demo, seed 42, stream 54.
        let mut pcg = Pcg::new(42, 54);
        let drawn: Vec<u32> = (0..3).map(|_| pcg.next_u32()).collect();
        assert_eq!(drawn, [0xa15c_02b7, 0x7b47_f409, 0xba1d_3330]);
    }

    #[test]
    fn stays_below_the_bound_and_reaches_all_of_it() {
        let mut pcg = Pcg::new(7, 1);
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[pcg.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
