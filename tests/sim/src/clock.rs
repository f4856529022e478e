//! A machine's clock: it runs a little fast or slow, and never back.

use std::time::Duration;

use engine::disk::pcg::Pcg;

/// Drift, in parts of a thousand: at most a tenth, far beyond what NTP lets pass.
const DRIFT_MAX: u64 = 100;

/// What a machine takes for the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// So many thousandths fast, or slow.
    drift: i32,
    /// Ahead of the true time by this, once and for all.
    ahead: Duration,
}

impl Clock {
    /// Any clock.
    pub fn any(pcg: &mut Pcg) -> Clock {
        let drift = if pcg.one_in(3) { 0 } else { pcg.below(2 * DRIFT_MAX + 1) as i32 - DRIFT_MAX as i32 };
        Clock { drift, ahead: Duration::from_millis(pcg.below(3_600_000)) }
    }

    /// What it shows at a true time.
    pub fn show(&self, time: Duration) -> Duration {
        self.ahead + self.scale(time, 1000 + self.drift as i64, 1000)
    }

    /// How long it takes until it shows `span` more.
    pub fn spell(&self, span: Duration) -> Duration {
        // One more, for what is rounded off.
        self.scale(span, 1000, 1000 + self.drift as i64) + Duration::from_micros(u64::from(self.drift != 0))
    }

    /// A span of a lease that somebody's clock measures may truly be this short.
    pub fn shortest(span: Duration) -> Duration {
        span * 1000 / (1000 + DRIFT_MAX as u32)
    }

    fn scale(&self, span: Duration, by: i64, of: i64) -> Duration {
        if self.drift == 0 {
            return span;
        }
        Duration::from_nanos((span.as_nanos() * by as u128 / of as u128) as u64)
    }
}
