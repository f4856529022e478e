//! When leases run out: the leader's knowledge, which nobody else has and no disk keeps.
//!
//! ```text
//!   granted ──► timed ──► expired ──► handed out ──► revoked
//!                ▲ │          ▲            │
//!                └─┘          └────────────┘ not revoked in time: once more
//!              renewed
//! ```
//! A lease stands in `looks` under the moment to look at it next. Renewing changes its due time and leaves that
//! moment alone: a lease that is found before its due time is put back, so a renewal costs one look into a map however
//! many leases there are.
//!
//! A lease that has run out cannot be renewed: whoever tries waits until it is revoked.
//!
//! Pace, as in etcd's `server/lease/lessor.go`: a check every 500 ms hands out at most 500 leases, and of the
//! revocations proposed at most 16 are unanswered. So 100,000 leases that run out at once are a steady trickle among
//! the other writes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::record::Lease;
use crate::replica::CallId;
use crate::replica::peer::LeaseTimes;
use crate::request::LeaseCheckpoint;
use crate::seeded::{self, Bug};
use crate::types::LeaseId;

/// Time between two checks.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Leases a check hands out, at most.
pub const EXPIRED_MAX: usize = 500;

/// Revocations proposed and not answered, at most.
pub const REVOKES_MAX: usize = 16;

/// Leases a check looks at, at most; if there are more to look at, the next one comes soon.
const LOOKS_MAX: usize = 2000;

/// How soon.
const NEXT_LOOKS: Duration = Duration::from_millis(10);

/// Leases that may run out in one second after a change of the leader, if there are at least [`SPREAD_MIN`].
const SPREAD_PER_SECOND: u32 = 750;
const SPREAD_MIN: usize = 1000;

/// What a try to renew a lease came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It has all its time again: so many seconds.
    Renewed(i64),
    /// There is no such lease.
    Gone,
    /// Something must happen first; then try again.
    Later(Later),
}

/// What a renewal waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// The lease's revocation, which is on its way.
    Revoked,
    /// That the lease's checkpoint is forgotten, which is to be proposed.
    Cleared,
    /// That this member leads and has applied everything its predecessors committed.
    Primary,
    /// What the leader says, which is another member.
    Leader,
    /// That this member still leads: another one may know the lease.
    Confirmed,
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Leases granted.
    pub granted: u64,
    /// Leases revoked, those that ran out too.
    pub revoked: u64,
    /// Renewals.
    pub renewed: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Times to live granted, in seconds, since the last time somebody took them; the newest [`TTLS_MAX`].
    pub ttls: VecDeque<i64>,
}

/// Times to live kept for whoever counts them.
pub const TTLS_MAX: usize = 4096;

/// A lease's time.
#[derive(Clone, Copy, Debug)]
struct Timer {
    ttl: i64,
    /// Seconds left as stored; 0 is none.
    remaining: i64,
    /// When it runs out, while this member leads.
    due: Option<Instant>,
    /// Its place in `looks`.
    look: Option<Instant>,
}

/// All leases and their times.
#[derive(Debug)]
pub struct Lessor {
    leases: HashMap<LeaseId, Timer>,
    looks: BTreeSet<(Instant, LeaseId)>,
    next_check: Instant,
    /// Handed out and not proposed.
    expired: VecDeque<LeaseId>,
    /// Proposed and not answered.
    revokes: usize,
    retry: Duration,
    primary: bool,
    /// Renewals that wait for a lease's revocation.
    waiting: BTreeMap<LeaseId, Vec<CallId>>,
    /// Those that wait for [`Lessor::promote`], oldest first.
    waiting_for_primary: VecDeque<(Instant, CallId)>,
    stats: Stats,
}

impl Lessor {
    /// The leases that are stored. A lease whose revocation was not answered is handed out again after `retry`.
    pub fn new(leases: impl Iterator<Item = (LeaseId, Lease)>, now: Instant, retry: Duration) -> Lessor {
        let timer =
            |lease: Lease| Timer { ttl: lease.ttl, remaining: lease.remaining, due: None, look: None };
        Lessor {
            leases: leases.map(|(id, lease)| (id, timer(lease))).collect(),
            looks: BTreeSet::new(),
            next_check: now + CHECK_INTERVAL,
            expired: VecDeque::new(),
            revokes: 0,
            retry,
            primary: false,
            waiting: BTreeMap::new(),
            waiting_for_primary: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// A lease was granted.
    pub fn on_granted(&mut self, now: Instant, id: LeaseId, ttl: i64) {
        let due = self.primary.then(|| now + seconds(ttl));
        let before = self.leases.insert(id, Timer { ttl, remaining: 0, due: None, look: None });
        assert!(before.is_none(), "lease {} was granted twice", id.0);
        self.set_due(id, due);
        self.stats.granted += 1;
        if self.stats.ttls.len() == TTLS_MAX {
            self.stats.ttls.pop_front();
        }
        self.stats.ttls.push_back(ttl);
    }

    /// A lease was revoked. Returns the renewals that waited for that.
    pub fn on_revoked(&mut self, id: LeaseId) -> Vec<CallId> {
        let timer = self.leases.remove(&id).unwrap_or_else(|| panic!("lease {} was revoked twice", id.0));
        if let Some(look) = timer.look {
            self.looks.remove(&(look, id));
        }
        self.stats.revoked += 1;
        self.waiting.remove(&id).unwrap_or_default()
    }

    /// What is stored of a lease has changed.
    pub fn on_checkpoint(&mut self, checkpoint: LeaseCheckpoint) {
        if let Some(timer) = self.leases.get_mut(&checkpoint.id) {
            timer.remaining = checkpoint.remaining;
        }
    }

    /// This member leads now, and has applied everything that was committed before. All leases have the time that is
    /// stored, and `extend` more, since nobody knows when they were renewed last. Returns the renewals that waited.
    pub fn promote(&mut self, now: Instant, extend: Duration) -> Vec<CallId> {
        assert!(!self.primary, "promoted twice");
        self.primary = true;
        let left = |timer: &Timer| seconds(if timer.remaining > 0 { timer.remaining } else { timer.ttl });
        let mut lefts: Vec<(Duration, LeaseId)> =
            self.leases.iter().map(|(id, timer)| (left(timer) + extend, *id)).collect();
        lefts.sort_unstable();
        if lefts.len() >= SPREAD_MIN {
            spread(&mut lefts);
        }
        for (left, id) in lefts {
            self.set_due(id, Some(now + left));
        }
        self.waiting_for_primary.drain(..).map(|(_, call)| call).collect()
    }

    /// This member leads no more: nobody here knows when a lease runs out.
    pub fn demote(&mut self) {
        self.primary = false;
        self.looks.clear();
        self.expired.clear();
        for timer in self.leases.values_mut() {
            (timer.due, timer.look) = (None, None);
        }
    }

    /// Whether this member decides when leases run out.
    pub fn is_primary(&self) -> bool {
        self.primary
    }

    /// Gives a lease all its time again.
    pub fn renew(&mut self, now: Instant, id: LeaseId) -> Renewal {
        if !self.primary {
            return Renewal::Later(Later::Primary);
        }
        let Some(timer) = self.leases.get_mut(&id) else { return Renewal::Gone };
        let due = timer.due.expect("a primary knows when leases run out");
        if due <= now {
            return Renewal::Later(Later::Revoked);
        }
        if timer.remaining > 0 {
            return Renewal::Later(Later::Cleared);
        }
        if !seeded::is(Bug::ForgetRenewal) {
            timer.due = Some(now + seconds(timer.ttl));
        }
        self.stats.renewed += 1;
        Renewal::Renewed(timer.ttl)
    }

    /// `call` wants to hear when this member leads, or that it does not until `deadline`.
    pub fn wait_for_primary(&mut self, call: CallId, deadline: Instant) {
        self.waiting_for_primary.push_back((deadline, call));
    }

    /// `call` wants to hear when the lease is revoked.
    pub fn wait_for_revoke(&mut self, id: LeaseId, call: CallId) {
        self.waiting.entry(id).or_default().push(call);
    }

    /// The next renewal that waited too long for this member to lead.
    pub fn poll_overdue(&mut self, now: Instant) -> Option<CallId> {
        let (_, call) = self.waiting_for_primary.pop_front_if(|(deadline, _)| *deadline <= now)?;
        Some(call)
    }

    /// Time has passed. Returns when to call again.
    pub fn handle_timeout(&mut self, now: Instant) -> Instant {
        if now >= self.next_check {
            let more = self.check(now);
            self.next_check = now + if more { NEXT_LOOKS } else { CHECK_INTERVAL };
        }
        self.next_check
    }

    /// Hands out leases that ran out. True if there are leases it had no time to look at.
    fn check(&mut self, now: Instant) -> bool {
        for _ in 0..LOOKS_MAX {
            if self.expired.len() >= EXPIRED_MAX {
                return false;
            }
            let Some(&(look, id)) = self.looks.first() else { return false };
            if look > now {
                return false;
            }
            let timer = self.leases.get(&id).expect("only leases are looked at");
            let due = timer.due.expect("leases that are looked at have a due time");
            if due > now {
                self.set_look(id, Some(due));
            } else {
                self.set_look(id, Some(now + self.retry));
                self.expired.push_back(id);
            }
        }
        true
    }

    /// The next lease to be revoked; [`Lessor::on_revoke_answered`] makes room for more.
    pub fn poll_expired(&mut self) -> Option<LeaseId> {
        while self.revokes < REVOKES_MAX {
            let id = self.expired.pop_front()?;
            if self.leases.contains_key(&id) {
                self.revokes += 1;
                return Some(id);
            }
        }
        None
    }

    /// Whether [`Lessor::poll_expired`] has something.
    pub fn has_expired(&self) -> bool {
        self.revokes < REVOKES_MAX && !self.expired.is_empty()
    }

    /// A revocation that [`Lessor::poll_expired`] asked for was answered, whatever the answer.
    pub fn on_revoke_answered(&mut self, revoked: bool) {
        self.revokes -= 1;
        self.stats.expired += u64::from(revoked);
    }

    /// Whether there is such a lease.
    pub fn has(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Seconds a lease was granted.
    pub fn ttl(&self, id: LeaseId) -> Option<i64> {
        self.leases.get(&id).map(|timer| timer.ttl)
    }

    /// Seconds a lease has left, truncated towards zero: 0 or less for one that has run out and is not revoked yet. A
    /// member that does not lead does not know, and tells all of them.
    pub fn seconds_left(&self, now: Instant, id: LeaseId) -> Option<i64> {
        let timer = self.leases.get(&id)?;
        Some(match timer.due {
            None => timer.ttl,
            Some(due) => match due.checked_duration_since(now) {
                Some(left) => left.as_secs() as i64,
                None => -(now.duration_since(due).as_secs() as i64),
            },
        })
    }

    /// A lease's times, if there is such a lease.
    pub fn times(&self, now: Instant, id: LeaseId) -> Option<LeaseTimes> {
        let (granted, left) = self.ttl(id).zip(self.seconds_left(now, id))?;
        Some(LeaseTimes { granted, left })
    }

    /// All leases, those first that run out first.
    pub fn by_due(&self) -> Vec<LeaseId> {
        let mut all: Vec<(Option<Instant>, LeaseId)> =
            self.leases.iter().map(|(id, timer)| (timer.due, *id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// What happened so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Times to live granted since the last call.
    pub fn take_ttls(&mut self) -> VecDeque<i64> {
        std::mem::take(&mut self.stats.ttls)
    }

    fn set_due(&mut self, id: LeaseId, due: Option<Instant>) {
        self.leases.get_mut(&id).expect("a lease that exists").due = due;
        self.set_look(id, due);
    }

    fn set_look(&mut self, id: LeaseId, look: Option<Instant>) {
        let timer = self.leases.get_mut(&id).expect("a lease that exists");
        if let Some(old) = std::mem::replace(&mut timer.look, look) {
            self.looks.remove(&(old, id));
        }
        if let Some(look) = look {
            self.looks.insert((look, id));
        }
    }
}

/// Delays leases, ascending by the time they have left, so that not too many run out in any second: clients that renewed
/// at different times would otherwise lose what kept them apart (etcd's `Promote`).
fn spread(lefts: &mut [(Duration, LeaseId)]) {
    const WINDOW: Duration = Duration::from_secs(1);
    let (mut base, mut next, mut count) = (lefts[0].0, lefts[0].0 + WINDOW, 0);
    for (left, _) in lefts {
        if *left > next {
            (base, next, count) = (*left, *left + WINDOW, 1);
            continue;
        }
        count += 1;
        if count <= SPREAD_PER_SECOND {
            continue;
        }
        // The window begins at `base`: the lease goes into the second that its number asks for.
        let delay = (WINDOW * (count / SPREAD_PER_SECOND)).saturating_sub(*left - base);
        *left += delay;
        next = base + delay;
    }
}

/// Seconds of a lease as a time; less than none is none.
fn seconds(ttl: i64) -> Duration {
    let time = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
    if seeded::is(Bug::ExpireEarly) { time / 2 } else { time }
}

#[cfg(test)]
mod tests;
