//! The network between members: it loses, repeats, delays and overtakes, and is cut, one way or both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::disk::pcg::Pcg;
use engine::replica::peer::Message;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Usual time on the way.
    pub delay_us: u64,
    /// One message in so many is lost; 0 for none.
    pub lost_one_in: u64,
    /// One in so many arrives twice.
    pub twice_one_in: u64,
    /// The second time so much later, at most.
    pub again_us: u64,
    /// One in so many takes a hundred times as long.
    pub late_one_in: u64,
    /// As in a stream, none overtakes another.
    pub in_order: bool,
}

impl Weather {
    /// Any.
    pub fn any(pcg: &mut Pcg) -> Weather {
        let rarely = |pcg: &mut Pcg, often: u64| [0, often * 10, often][pcg.below(3) as usize];
        Weather {
            delay_us: [20, 300, 5_000][pcg.below(3) as usize],
            lost_one_in: rarely(pcg, 5),
            twice_one_in: rarely(pcg, 5),
            again_us: [1_000_000, 8_000_000][pcg.below(2) as usize],
            late_one_in: rarely(pcg, 20),
            in_order: pcg.one_in(3),
        }
    }

    /// Nothing goes wrong.
    pub fn fair() -> Weather {
        Weather { delay_us: 100, in_order: true, ..Weather::default() }
    }
}

/// Messages on their way.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// What it does to messages.
    pub weather: Weather,
    mail: BTreeMap<u64, (usize, Message)>,
    posted: u64,
    /// From, to: nothing gets through.
    cuts: BTreeSet<(usize, usize)>,
    /// When the last message of a pair arrives.
    last: BTreeMap<(usize, usize), Duration>,
}

impl Network {
    /// Takes a message on. Returns its numbers and when each arrives, counted from now; the caller comes back with
    /// [`Network::arrive`].
    pub fn post(
        &mut self,
        pcg: &mut Pcg,
        now: Duration,
        from: usize,
        to: usize,
        message: Message,
    ) -> Vec<(u64, Duration)> {
        let Weather { delay_us, lost_one_in, twice_one_in, again_us, late_one_in, in_order } = self.weather;
        let happens = |pcg: &mut Pcg, one_in: u64| one_in > 0 && pcg.one_in(one_in);
        if self.cuts.contains(&(from, to)) || happens(pcg, lost_one_in) {
            return Vec::new();
        }
        let late = if happens(pcg, late_one_in) { 100 } else { 1 };
        let mut after = Duration::from_micros((delay_us / 2 + pcg.below(delay_us + 1)) * late + 1);
        if in_order {
            let last = self.last.entry((from, to)).or_default();
            *last = (*last + Duration::from_nanos(1)).max(now + after);
            after = *last - now;
        }
        let mut arrivals = vec![(self.number(to, message.clone()), after)];
        if happens(pcg, twice_one_in) {
            let again = after + Duration::from_micros(pcg.below(again_us));
            arrivals.push((self.number(to, message), again));
        }
        arrivals
    }

    fn number(&mut self, to: usize, message: Message) -> u64 {
        self.posted += 1;
        self.mail.insert(self.posted, (to, message));
        self.posted
    }

    /// Whom a message is for.
    pub fn receiver(&self, number: u64) -> Option<usize> {
        self.mail.get(&number).map(|(to, _)| *to)
    }

    /// The message arrives.
    pub fn arrive(&mut self, number: u64) -> Option<Message> {
        self.mail.remove(&number).map(|(_, message)| message)
    }

    /// Whether a message is on its way that is not yet answered by anything.
    pub fn is_empty(&self) -> bool {
        self.mail.is_empty()
    }

    /// Cuts the way from one to another.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// All ways are open.
    pub fn mend(&mut self) {
        self.cuts.clear();
    }
}
