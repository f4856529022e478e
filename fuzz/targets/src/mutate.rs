//! Random changes of an input: what libFuzzer's simplest mutations do, from a seed and nothing else.

/// Splitmix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on `seed` alone.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound.max(1) as u64) as usize
    }
}

/// No input grows beyond this, in bytes.
const LEN_MAX: usize = 64 << 10;

/// Most changes in one go.
const CHANGES_MAX: usize = 6;

/// Numbers at which decoders tend to be wrong.
const SUSPECTS: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// `input` with a few changes; `others` lend pieces.
pub fn mutate(input: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + random.below(CHANGES_MAX) {
        change(&mut bytes, others, random);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(8) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next_u64() as u8;
            }
        }
        3 => {
            let number = SUSPECTS[random.below(SUSPECTS.len())].to_le_bytes();
            let len = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&number[..len]);
        }
        4 => {
            let end = at + random.below(bytes.len() - at + 1).min(32);
            bytes.drain(at..end);
        }
        5 => {
            let more: Vec<u8> = (0..1 + random.below(8)).map(|_| random.next_u64() as u8).collect();
            bytes.splice(at..at, more);
        }
        6 => {
            let end = at + random.below(bytes.len() - at + 1);
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let Some(other) = others.get(random.below(others.len())) else { return };
            let from = random.below(other.len());
            bytes.splice(at.., other[from.min(other.len())..].iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_mutants() {
        let inputs = [b"some input".to_vec(), Vec::new(), vec![7; 100]];
        let run = || {
            let mut random = Random::new(3);
            let mutants = (0..1000).map(|n| mutate(&inputs[n % 3], &inputs, &mut random));
            mutants.collect::<Vec<_>>()
        };
        let mutants = run();
        assert_eq!(mutants, run());
        let changed = mutants.iter().enumerate().filter(|(n, mutant)| **mutant != inputs[n % 3]).count();
        assert!(changed > 700, "{changed} of 1000 differ");
    }
}
