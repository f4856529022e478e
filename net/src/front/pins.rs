//! Revisions that reads and answers under way still need, and calls that wait until reclaim is finished.
//!
//! A [`Pin`] lives as long as what needs it. The driver tells the replica the oldest before each turn, and what stands in
//! the history from there on is kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::replica::{Fatal, Replica};
use engine::response::{OpAnswer, Response, TxnAnswer};
use engine::types::Revision;

use super::serve::Served;
use super::{ConnId, Front, Outgoing, Place};
use crate::api::maintenance;
use crate::grpc::{self, Status};

/// An answer that its client does not take for so long is given up: it keeps the space of everything that was
/// compacted since.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// How often stalled answers are looked for.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The revisions in need, with how many need each.
#[derive(Clone, Debug, Default)]
pub struct Pins(Rc<RefCell<BTreeMap<Revision, u64>>>);

impl Pins {
    /// Somebody needs this revision.
    pub fn pin(&self, revision: Revision) -> Pin {
        *self.0.borrow_mut().entry(revision).or_default() += 1;
        Pin { pins: self.clone(), revision }
    }

    /// The oldest in need.
    pub fn oldest(&self) -> Option<Revision> {
        self.0.borrow().keys().next().copied()
    }
}

/// The need of a revision.
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    revision: Revision,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.0.borrow_mut();
        let count = pins.get_mut(&self.revision).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            pins.remove(&self.revision);
        }
    }
}

/// The oldest revision at which an answer's records were what there was: of a write's previous versions the one before
/// it, of a range the one it read.
pub fn oldest_named(answer: &Response) -> Revision {
    match answer {
        Response::Range(range) => range.read_at,
        Response::Put(put) => before(put.revision),
        Response::DeleteRange(deleted) => before(deleted.revision),
        Response::Txn(txn) => oldest_in(txn),
        Response::Compact { revision }
        | Response::Alarm { revision, .. }
        | Response::LeaseGrant { revision, .. }
        | Response::LeaseRevoke { revision, .. }
        | Response::LeaseCheckpoint { revision, .. }
        | Response::Members { revision, .. } => *revision,
    }
}

fn oldest_in(txn: &TxnAnswer) -> Revision {
    // What a range found, the transaction may have changed afterwards.
    let own = before(txn.revision);
    txn.ops.iter().fold(own, |oldest, op| match op {
        OpAnswer::Range(range) => oldest.min(range.read_at),
        OpAnswer::Txn(nested) => oldest.min(oldest_in(nested)),
        OpAnswer::Put(_) | OpAnswer::DeleteRange(_) => oldest,
    })
}

fn before(revision: Revision) -> Revision {
    Revision(revision.0 - 1)
}

/// An answer on its way out.
#[derive(Debug)]
pub struct Sending {
    /// What is left of it.
    pub outgoing: Outgoing,
    /// Keeps its records.
    _pin: Pin,
    /// Its client took some of it since it was looked at.
    pub moved: bool,
    /// When it was seen to have moved.
    since: Option<Instant>,
}

impl Sending {
    /// Nothing of it was sent.
    pub fn new(outgoing: Outgoing, pin: Pin) -> Sending {
        Sending { outgoing, _pin: pin, moved: true, since: None }
    }

    fn is_stalled(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.moved) {
            self.since = Some(now);
        }
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= STALLED_MAX)
    }
}

/// A call that is answered when reclaim is finished.
#[derive(Debug)]
pub struct Finishing {
    pub place: Place,
    /// What was compacted when it came.
    compacted: Revision,
    /// A compaction's answer; without one it is a `Defragment`.
    answer: Option<Response>,
}

impl Finishing {
    /// Whether it is a call of `Defragment`.
    pub fn is_defragment(&self) -> bool {
        self.answer.is_none()
    }
}

impl Front {
    /// The oldest revision that an answer under way needs; ends those whose clients do not take them. Once a turn.
    pub fn oldest_pin(&mut self, now: Instant) -> Option<Revision> {
        if self.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AFTER) {
            self.looked_at = Some(now);
            self.end_stalled(now);
        }
        let answers = self.pins.oldest();
        answers.into_iter().chain(self.watches.core.oldest(now)).min()
    }

    fn end_stalled(&mut self, now: Instant) {
        let all = self.answers.iter_mut();
        let stalled: Vec<_> =
            all.filter_map(|(key, sending)| sending.is_stalled(now).then_some(*key)).collect();
        for key in stalled {
            self.answers.remove(&key);
            let place = Place::of_key(key);
            if let Some(mut connection) = self.take(place.conn) {
                let status = Status::new(
                    grpc::Code::DeadlineExceeded,
                    "etcdserver: the answer was not taken for a minute",
                );
                connection.server.finish(place.call, &status);
                self.put_back(place.conn, connection);
            }
        }
    }

    /// Answers when everything compacted so far has been given back.
    pub(super) fn defragment(&mut self, place: Place, replica: &Replica) -> Served {
        let compacted = replica.store().published().1.compacted;
        if replica.is_reclaimed(compacted) {
            return Served::Message(maintenance::defragment());
        }
        self.finishing.push(Finishing { place, compacted, answer: None });
        Served::Later
    }

    /// A physical compaction at `compacted` was applied; its answer comes when it was carried out.
    pub(super) fn finish_compaction(&mut self, place: Place, compacted: Revision, answer: Response) {
        self.finishing.push(Finishing { place, compacted, answer: Some(answer) });
    }

    /// Answers those for whom reclaim is finished.
    pub(super) fn answer_finished(&mut self, replica: &mut Replica) -> Result<(), Fatal> {
        if self.finishing.is_empty() {
            return Ok(());
        }
        for waiting in std::mem::take(&mut self.finishing) {
            if !replica.is_reclaimed(waiting.compacted) {
                self.finishing.push(waiting);
                continue;
            }
            let served = match waiting.answer {
                Some(answer) => Served::Answer(answer),
                None => Served::Message(maintenance::defragment()),
            };
            let place = waiting.place;
            self.with(place, |front, server| front.settle(place, served, server, replica))?;
        }
        Ok(())
    }

    /// Gives up the calls of a connection that wait for reclaim, but for those to `keep`.
    pub(super) fn drop_finishing(&mut self, conn: ConnId, keep: impl Fn(grpc::CallId) -> bool) {
        self.finishing.retain(|waiting| waiting.place.conn != conn || keep(waiting.place.call));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pin_counts_until_its_last_holder_goes() {
        let pins = Pins::default();
        let pin = |revision| pins.pin(Revision(revision));
        let (a, b, c, d) = (pin(7), pin(3), pin(3), pin(9));
        let mut seen = vec![pins.oldest()];
        for pin in [b, c, a, d] {
            drop(pin);
            seen.push(pins.oldest());
        }
        assert_eq!(seen, [Some(3), Some(3), Some(7), Some(9), None].map(|oldest| oldest.map(Revision)));
    }
}
