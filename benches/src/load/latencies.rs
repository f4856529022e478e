//! Latencies, all of them: exact quantiles cost less than an argument about buckets.

use std::time::Duration;

/// Every latency of a run, in units of 100 ns (429 s at most).
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    ticks: Vec<u32>,
    sorted: bool,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.ticks.push(u32::try_from(latency.as_nanos() / 100).unwrap_or(u32::MAX));
        self.sorted = false;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ticks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty()
    }

    /// The latency that `quantile` (0 to 1) of all do not exceed; 0 if there are none.
    pub fn quantile(&mut self, quantile: f64) -> Duration {
        if !self.sorted {
            self.ticks.sort_unstable();
            self.sorted = true;
        }
        let rank = (self.ticks.len() as f64 * quantile).ceil() as usize;
        let ticks = self.ticks.get(rank.saturating_sub(1)).copied().unwrap_or(0);
        Duration::from_nanos(u64::from(ticks) * 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), Duration::ZERO);
        (1..=100).rev().for_each(|ms| latencies.add(Duration::from_millis(ms)));
        for (quantile, ms) in [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(latencies.quantile(quantile), Duration::from_millis(ms), "{quantile}");
        }
    }
}
