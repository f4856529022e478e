//! How long requests took, in two numbers.

use std::fmt;
use std::time::Duration;

/// Percentiles.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Half took no longer.
    pub p50: Duration,
    /// Of a hundred, one took longer.
    pub p99: Duration,
}

impl Times {
    /// Of `times`, which are not empty.
    pub fn of(mut times: Vec<Duration>) -> Times {
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100];
        Times { p50: at(50), p99: at(99) }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.0?} p99 {:.0?}", self.p50, self.p99)
    }
}
