//! Whether what clients were told, and what is stored, could be the work of one correct server.
//!
//! Every answer of etcd carries a revision, so strict serializability is decided without a search:
//!
//! 1. The stored history gives the order: each revision is claimed by the one call whose answer names it, or, if
//!    nobody was answered, by a call with unknown outcome that would write exactly these bytes (values are unique).
//! 2. Each call is repeated on the [`Model`] at its place; every field of its answer must come out the same.
//! 3. Real time: a call that began after another had ended sees at least its revision, and writes a later one. A
//!    serializable read owes that only to what the same process had told.
//! 4. Whatever was acknowledged or seen is still there after every crash; a call takes effect at most once.
//!
//! Compactions and alarms change no revision: any order that real time allows is accepted for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::error::ApiError;
use engine::request::{AlarmAction, AlarmKind};

use crate::call::{Kv, MEMBER, Op, Reply, Request};
use crate::clock::Clock;
use crate::dump::Dump;
use crate::model::{At, Change, Model};

/// Counts the beginnings and ends of calls.
pub type Moment = u64;

/// Not yet.
const NEVER: Moment = Moment::MAX;

/// A call of a client.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked.
    pub request: Request,
    /// Which member it met.
    node: usize,
    /// When that process was started.
    born: Moment,
    begun: Moment,
    ended: Moment,
    /// On the simulated clock.
    begun_at: Duration,
    ended_at: Duration,
    /// Without one the outcome is unknown.
    reply: Option<Reply>,
}

/// A revision has no call behind it: a lease ran out.
struct RanOut;

/// How many of what was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls with an answer.
    pub answered: u64,
    /// Calls that a crash left without one, and that took effect.
    pub resolved: u64,
    /// Calls that a crash left without one, and that did not.
    pub lost: u64,
    /// Stored histories read.
    pub dumps: u64,
    /// Records that were missing in them, as they may.
    pub reclaimed: u64,
    /// Terms that had a leader.
    pub leaders: u64,
    /// Hashes of compactions in which two members were found to agree.
    pub hashes: u64,
    /// States of a leader that a member put in the place of its own.
    pub installed: u64,
    /// Changes of members that were made, and that were refused.
    pub changes: (u64, u64),
}

/// The judge of one run.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    model: Model,
    /// Calls since the last dump.
    calls: Vec<Call>,
    moment: Moment,
    /// When the process was started.
    born: BTreeMap<usize, Moment>,
    /// As of the last dump.
    compacted: Option<i64>,
    no_space: bool,
    /// All calls about leases so far that are not among `calls`.
    lease_calls: Vec<Call>,
    /// When each revision was first seen.
    seen_at: BTreeMap<i64, Duration>,
    /// The simulated time.
    pub now: Duration,
    /// There are several members, each with its own clock.
    pub of_group: bool,
    /// The product may raise the alarm by itself.
    pub full_disk: bool,
    /// What was judged.
    pub tally: Tally,
}

impl Judge {
    /// A call begins.
    pub fn begin(&mut self, node: usize, request: Request) -> usize {
        self.moment += 1;
        let born = self.born.get(&node).copied().unwrap_or(0);
        let (begun, begun_at) = (self.moment, self.now);
        let ended_at = Duration::MAX;
        self.calls.push(Call { request, node, born, begun, ended: NEVER, begun_at, ended_at, reply: None });
        self.calls.len() - 1
    }

    /// A call has its answer; a timeout, or the end of the member, says nothing about the outcome.
    pub fn end(&mut self, call: usize, reply: Reply) {
        self.moment += 1;
        let unknown = [ApiError::Timeout, ApiError::TimeoutLeaderFailed, ApiError::Stopped];
        if matches!(reply, Reply::Refused(error) if unknown.contains(&error)) {
            return;
        }
        let call = &mut self.calls[call];
        assert_eq!(call.ended, NEVER, "a second answer to {:?}", call.request);
        (call.ended, call.ended_at, call.reply) = (self.moment, self.now, Some(reply));
    }

    /// Revisions up to this one are there.
    pub fn see(&mut self, revision: i64) {
        let last = self.seen_at.last_key_value().map_or(1, |(last, _)| *last);
        self.seen_at.extend((last + 1..=revision).map(|revision| (revision, self.now)));
    }

    /// The process is gone: what has no answer never gets one. Of a single member it takes effect before whatever
    /// follows or not at all; in a group others may have it, and bring it about later.
    pub fn crash(&mut self, node: usize) {
        self.moment += 1;
        if !self.of_group {
            let open = self.calls.iter_mut().filter(|call| call.ended == NEVER);
            open.for_each(|call| call.ended = self.moment);
        }
        self.born.insert(node, self.moment);
    }

    /// The call as it was begun.
    pub fn request(&self, call: usize) -> &Request {
        &self.calls[call].request
    }

    /// Highest revision a client was told of since the last dump, or stored then.
    pub fn seen_revision(&self) -> i64 {
        let told = self.calls.iter().filter_map(|call| call.reply.as_ref()?.revision()).max();
        told.unwrap_or(0).max(self.model.revision())
    }

    /// The versions that the last dump confirmed.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The compaction revision that the last dump confirmed; -1 for none.
    pub fn compacted(&self) -> i64 {
        self.compacted.unwrap_or(-1)
    }

    /// Compares all calls since the last dump with what is stored now. No call may be open.
    pub fn settle(&mut self, dump: &Dump) -> Result<(), String> {
        self.compare_known(dump)?;
        let seen = Seen::of(&self.calls, self.model.revision());
        let claims = self.claim(dump)?;
        self.check_unchanging(dump, &claims, &seen)?;
        self.check_renewals()?;
        self.check_time(&claims, &seen)?;
        self.check_compacted(dump)?;
        self.check_alarms(dump)?;
        self.tally.answered += self.calls.iter().filter(|call| call.reply.is_some()).count() as u64;
        let resolved = claims.values().filter(|call| self.calls[**call].reply.is_none()).count() as u64;
        let unknown = self.calls.iter().filter(|call| call.reply.is_none()).count() as u64;
        self.tally.resolved += resolved;
        self.tally.lost += unknown - resolved;
        self.tally.dumps += 1;
        let about_leases = |call: &Call| {
            matches!(call.request, Request::Grant { .. } | Request::Revoke(_) | Request::Renew(_))
        };
        self.lease_calls.extend(std::mem::take(&mut self.calls).into_iter().filter(about_leases));
        self.compacted = Some(dump.compacted);
        self.no_space = dump.alarms.contains(&(MEMBER, AlarmKind::NoSpace));
        Ok(())
    }

    /// What was stored at the last dump is stored still.
    fn compare_known(&self, dump: &Dump) -> Result<(), String> {
        let known = self.model.revision();
        if dump.revision < known {
            return Err(format!("revision {known} was stored, and now the store ends at {}", dump.revision));
        }
        for (&revision, changes) in dump.changes.range(..=known) {
            let was = self.model.changes(revision);
            if was != changes {
                return Err(format!("revision {revision} changed from {was:?} to {changes:?}"));
            }
        }
        Ok(())
    }

    /// Finds the call behind each new revision, and moves the model on.
    fn claim(&mut self, dump: &Dump) -> Result<BTreeMap<i64, usize>, String> {
        let mut claims = BTreeMap::new();
        for (at, call) in self.calls.iter().enumerate() {
            let Some(reply) = call.reply.as_ref().filter(|reply| reply.is_change()) else { continue };
            let revision = reply.revision().expect("a change has a revision");
            if let Some(other) = claims.insert(revision, at) {
                return Err(format!(
                    "two calls were told of revision {revision}: {:?} and {:?}",
                    self.calls[other].request, call.request
                ));
            }
            if revision <= self.model.revision() {
                return Err(format!("revision {revision} was used before {:?} got it", call.request));
            }
            if revision > dump.revision {
                return Err(format!(
                    "acknowledged and lost: {:?} at revision {revision}; the store ends at {}",
                    call.request, dump.revision
                ));
            }
        }
        for revision in self.model.revision() + 1..=dump.revision {
            let stored = dump.changes.get(&revision).map_or(&[][..], Vec::as_slice);
            let claimed = match claims.get(&revision) {
                Some(&call) => Ok(Ok(call)),
                None => self.behind(revision, stored, &claims),
            };
            let Ok(claimed) = claimed? else {
                self.model.push(stored.to_vec());
                continue;
            };
            claims.insert(revision, claimed);
            let call = &self.calls[claimed];
            let mut compacted = self.compactions(call);
            let at = compacted.find_map(|compacted| {
                let lease = self.may_exist(call);
                let at = At { revision: revision - 1, compacted, no_space: false, lease };
                let (reply, changes) = self.model.execute(&call.request, &at);
                let same = call.reply.as_ref().is_none_or(|given| *given == reply) && changes == stored;
                same.then_some(changes)
            });
            let Some(changes) = at else {
                let (compacted, lease) = (self.compacted(), self.may_exist(call));
                let at = At { revision: revision - 1, compacted, no_space: false, lease };
                let (reply, changes) = self.model.execute(&call.request, &at);
                return Err(format!(
                    "{:?} at revision {revision} was answered {:?} and stored {stored:?}; right is {reply:?} and \
                     {changes:?}",
                    call.request, call.reply
                ));
            };
            drop(compacted);
            self.model.push(changes);
        }
        Ok(claims)
    }

    /// What is behind a revision that no answer names: a call, or the end of a lease that ran out. Where both could be,
    /// a revocation that was cut off goes first.
    fn behind(
        &self,
        revision: i64,
        stored: &[Change],
        claims: &BTreeMap<i64, usize>,
    ) -> Result<Result<usize, RanOut>, String> {
        let Some(lease) = self.run_out(revision, stored)? else {
            return self.unknown_behind(revision, stored, claims).map(Ok);
        };
        let is_open_revoke = |call: &Call| {
            call.request == Request::Revoke(lease) && call.reply.is_none() && call.ended != NEVER
        };
        if self.calls.iter().any(is_open_revoke)
            && let Ok(call) = self.unknown_behind(revision, stored, claims)
        {
            return Ok(Ok(call));
        }
        Ok(Err(RanOut))
    }

    /// The unanswered call that wrote exactly `stored`.
    fn unknown_behind(
        &self,
        revision: i64,
        stored: &[Change],
        claims: &BTreeMap<i64, usize>,
    ) -> Result<usize, String> {
        let writes = |call: &Call, compacted| {
            let lease = self.may_exist(call);
            let at = At { revision: revision - 1, compacted, no_space: false, lease };
            let (reply, changes) = self.model.execute(&call.request, &at);
            changes == stored && call.reply.as_ref().is_none_or(|given| *given == reply)
        };
        // Whether a revocation changed keys does not show in its answer.
        let is_open = |call: &Call| call.reply.is_none() || matches!(call.reply, Some(Reply::Revoked { .. }));
        // Nor was it begun after a later revision had been told of, or over before an earlier one was asked for.
        let told = claims.range(revision + 1..).map(|(_, nth)| self.calls[*nth].ended).min();
        let asked = claims.range(..revision).map(|(_, nth)| self.calls[*nth].begun).max();
        let seen_at = self.seen_at.get(&revision).copied().unwrap_or(self.now);
        let fits = |(nth, call): &(usize, &Call)| {
            is_open(call)
                && call.begun_at <= seen_at
                && told.is_none_or(|told| call.begun <= told)
                && asked.is_none_or(|asked| asked <= call.ended)
                && !matches!(call.request, Request::Renew(_))
                && !claims.values().any(|claimed| claimed == nth)
                && !stored.is_empty()
                && self.compactions(call).any(|compacted| writes(call, compacted))
        };
        // A revocation that was answered found its lease, so none before it had been carried out. Deletes may look alike:
        // the one that was cut off first goes first.
        let found = self
            .calls
            .iter()
            .enumerate()
            .filter(fits)
            .min_by_key(|(_, call)| (call.reply.is_none(), call.ended));
        let lost = || format!("revision {revision} came from nowhere: {stored:?}");
        found.map(|(nth, _)| nth).ok_or_else(lost)
    }

    /// Calls that changed nothing must be right at the revision they name, or, refused, at one that was possible.
    fn check_unchanging(
        &self,
        dump: &Dump,
        claims: &BTreeMap<i64, usize>,
        seen: &Seen,
    ) -> Result<(), String> {
        let changing: BTreeSet<usize> = claims.values().copied().collect();
        for (nth, call) in self.calls.iter().enumerate() {
            if changing.contains(&nth) || matches!(call.request, Request::Renew(_)) {
                continue;
            }
            let Some(reply) = call.reply.as_ref().filter(|reply| !reply.is_change()) else { continue };
            if matches!(reply, Reply::Refused(error) if never_looked(*error)) {
                continue;
            }
            let revisions = match reply.revision() {
                Some(revision) if revision > dump.revision => {
                    return Err(format!(
                        "{:?} saw revision {revision}; the store ends at {}",
                        call.request, dump.revision
                    ));
                }
                Some(revision) => revision..=revision,
                None => seen.before(call.begun)..=dump.revision,
            };
            if !revisions.clone().any(|revision| self.is_right(call, reply, revision)) {
                let (compacted, no_space) = (self.compacted(), self.no_space);
                let at = At { revision: *revisions.end(), compacted, no_space, lease: self.may_exist(call) };
                let right = self.model.execute(&call.request, &at).0;
                return Err(format!(
                    "{:?} was answered {reply:?}; at revisions {revisions:?} right is {right:?}",
                    call.request
                ));
            }
        }
        Ok(())
    }

    fn is_right(&self, call: &Call, reply: &Reply, revision: i64) -> bool {
        let leases = [(true, self.may_exist(call)), (false, self.may_be_missing(call))];
        let leases = leases.into_iter().filter_map(|(exists, possible)| possible.then_some(exists));
        let alarms = [false, true].into_iter().filter(|raised| self.may_be_raised(call, *raised));
        let cases: Vec<(bool, bool)> =
            alarms.flat_map(|alarm| leases.clone().map(move |lease| (alarm, lease))).collect();
        self.compactions(call).any(|compacted| {
            cases.iter().any(|&(no_space, lease)| {
                let at = At { revision, compacted, no_space, lease };
                let (right, changes) = self.model.execute(&call.request, &at);
                right == *reply && changes.is_empty()
            })
        })
    }

    /// Until when a call's answer promised the lease, at least.
    fn lease_until(&self, call: &Call) -> Option<Duration> {
        let seconds = match (&call.request, call.reply.as_ref()?) {
            (Request::Grant { ttl, .. }, Reply::Granted { .. }) => *ttl,
            (_, Reply::Renewed(ttl)) if *ttl > 0 => *ttl,
            _ => return None,
        };
        let time = Duration::from_secs(seconds as u64);
        Some(call.begun_at + if self.of_group { Clock::shortest(time) } else { time })
    }

    /// Calls about a lease, of all lives, but for one.
    fn others_about<'a>(&'a self, lease: i64, call: &'a Call) -> impl Iterator<Item = &'a Call> {
        let all = self.lease_calls.iter().chain(&self.calls);
        all.filter(move |other| !std::ptr::eq(*other, call) && other.request.lease() == Some(lease))
    }

    /// Whether the lease that a call names may have existed when it was carried out.
    fn may_exist(&self, call: &Call) -> bool {
        let Some(lease) = call.request.lease() else { return false };
        let mut granted = false;
        for other in self.others_about(lease, call) {
            match (&other.request, &other.reply) {
                (Request::Grant { .. }, Some(Reply::Refused(_))) => {}
                (Request::Grant { .. }, _) => granted |= other.begun < call.ended,
                (Request::Revoke(_), Some(Reply::Revoked { .. })) if other.ended < call.begun => {
                    return false;
                }
                _ => {}
            }
        }
        granted
    }

    /// Whether it may not have: unless somebody was told that it has time until after the call, and nobody tried to end
    /// it.
    fn may_be_missing(&self, call: &Call) -> bool {
        let Some(lease) = call.request.lease() else { return true };
        let revoked = |other: &Call| {
            matches!(other.request, Request::Revoke(_))
                && !matches!(other.reply, Some(Reply::Refused(_)))
                && other.begun < call.ended
        };
        let promised = |other: &Call| {
            other.ended < call.begun && self.lease_until(other).is_some_and(|until| until > call.ended_at)
        };
        self.others_about(lease, call).any(revoked) || !self.others_about(lease, call).any(promised)
    }

    /// The lease whose end a revision may be because it ran out: all its keys at once, in order, and not before the
    /// time that anybody was promised.
    fn run_out(&self, revision: i64, stored: &[Change]) -> Result<Option<i64>, String> {
        let Some(first) = stored.first() else { return Ok(None) };
        let before = self.model.get(&first.key, revision - 1);
        let Some(lease) = before.map(|kv| kv.lease).filter(|lease| *lease != 0) else { return Ok(None) };
        if stored != self.model.revoked(lease, revision - 1) {
            return Ok(None);
        }
        let all = self.lease_calls.iter().chain(&self.calls);
        let about = all.filter(|call| call.request.lease() == Some(lease));
        if about.clone().any(|call| matches!(call.reply, Some(Reply::Revoked { .. }))) {
            return Ok(None);
        }
        let at = self.seen_at.get(&revision).copied().unwrap_or(self.now);
        let promised =
            |call: &&Call| call.ended_at <= at && self.lease_until(call).is_some_and(|until| until > at);
        match about.clone().find(promised) {
            None => Ok(Some(lease)),
            // A delete, or a revocation, that was cut off may look the same.
            Some(_) if self.calls.iter().any(|call| call.reply.is_none()) => Ok(None),
            Some(call) => Err(format!("lease {lease} ran out at {at:?}, before the time of {call:?}")),
        }
    }

    /// Renewals tell of leases that may exist, and of none only if there may be none.
    fn check_renewals(&self) -> Result<(), String> {
        for call in &self.calls {
            let right = match &call.reply {
                Some(Reply::Renewed(0)) => self.may_be_missing(call),
                Some(Reply::Renewed(_)) => self.may_exist(call),
                _ => true,
            };
            if !right {
                return Err(format!("a lease came or went: {call:?}"));
            }
        }
        Ok(())
    }

    /// Compaction revisions that a call may have met.
    fn compactions<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = i64> + 'a {
        let compactions = || {
            let calls = self.calls.iter().filter(move |other| !std::ptr::eq(*other, call));
            calls.filter_map(|other| match (&other.request, &other.reply) {
                (Request::Compact(_), Some(Reply::Refused(_))) => None,
                (Request::Compact(revision), _) => Some((*revision, other)),
                _ => None,
            })
        };
        let done = compactions().filter(|(_, other)| other.reply.is_some() && other.ended < call.begun);
        let least = done.map(|(revision, _)| revision).max().unwrap_or(-1).max(self.compacted());
        let begun =
            compactions().filter(move |(revision, other)| other.begun < call.ended && *revision > least);
        std::iter::once(least).chain(begun.map(|(revision, _)| revision))
    }

    /// Whether NOSPACE may have been raised, or not raised, when a call was carried out.
    fn may_be_raised(&self, call: &Call, raised: bool) -> bool {
        let flips = |to: bool| {
            self.calls.iter().filter(move |other| {
                let wanted = if to { AlarmAction::Activate } else { AlarmAction::Deactivate };
                matches!(&other.request, Request::Alarm(action, AlarmKind::NoSpace) if *action == wanted)
                    && !matches!(other.reply, Some(Reply::Refused(_)))
            })
        };
        // The state at `since` lasts unless it was certainly flipped afterwards and before the call.
        let lasts = |since: Moment| {
            !flips(!raised)
                .any(|other| other.reply.is_some() && since < other.begun && other.ended < call.begun)
        };
        (raised && self.full_disk)
            || (self.no_space == raised && lasts(0))
            || flips(raised)
                .any(|other| other.begun < call.ended && (std::ptr::eq(other, call) || lasts(other.ended)))
    }

    /// Later revisions do not belong to calls that were over when earlier ones began, and no read goes back.
    fn check_time(&self, claims: &BTreeMap<i64, usize>, seen: &Seen) -> Result<(), String> {
        let mut first_end = (NEVER, 0);
        for (&revision, &nth) in claims.iter().rev() {
            let call = &self.calls[nth];
            if first_end.0 < call.begun {
                return Err(format!(
                    "revision {revision} was begun after revision {} had been answered: {:?}",
                    first_end.1, call.request
                ));
            }
            if call.ended < first_end.0 {
                first_end = (call.ended, revision);
            }
        }
        for call in &self.calls {
            let Some(revision) = call.reply.as_ref().and_then(Reply::revision) else { continue };
            let least = match call.request.is_serializable() {
                true => self.seen_in_life(call),
                false => seen.before(call.begun),
            };
            if revision < least {
                return Err(format!(
                    "stale: {:?} saw revision {revision} after {least} had been seen",
                    call.request
                ));
            }
            if let Some(&behind) = claims.get(&revision)
                && self.calls[behind].begun > call.ended
            {
                return Err(format!("{:?} saw revision {revision} before it was written", call.request));
            }
        }
        Ok(())
    }

    /// What a process had told of before a call of its own began.
    fn seen_in_life(&self, call: &Call) -> i64 {
        let same = |other: &&Call| (other.node, other.born) == (call.node, call.born);
        let before = self.calls.iter().filter(same).filter(|other| other.ended < call.begun);
        before.filter_map(|other| other.reply.as_ref()?.revision()).max().unwrap_or(0)
    }

    fn check_compacted(&self, dump: &Dump) -> Result<(), String> {
        let now = Call {
            begun_at: self.now,
            ended_at: Duration::MAX,
            request: Request::Op(Op::Range(crate::call::Range::of(crate::call::Keys::all(), 0))),
            node: 0,
            born: 0,
            begun: self.moment + 1,
            ended: NEVER,
            reply: None,
        };
        let possible: Vec<i64> = self.compactions(&now).collect();
        let kept = possible.contains(&dump.compacted);
        let wrong = || format!("the compaction revision is {}; possible are {possible:?}", dump.compacted);
        if kept { Ok(()) } else { Err(wrong()) }
    }

    fn check_alarms(&self, dump: &Dump) -> Result<(), String> {
        let now = Call {
            begun_at: self.now,
            ended_at: Duration::MAX,
            request: Request::Alarm(AlarmAction::Get, AlarmKind::None),
            node: 0,
            born: 0,
            begun: self.moment + 1,
            ended: NEVER,
            reply: None,
        };
        let raised = match dump.alarms[..] {
            [] => false,
            [(MEMBER, AlarmKind::NoSpace)] => true,
            ref other => return Err(format!("alarms nobody raised: {other:?}")),
        };
        let kept = self.may_be_raised(&now, raised);
        if kept { Ok(()) } else { Err(format!("the alarm was lost, or came back: {:?}", dump.alarms)) }
    }

    /// Compares an answer at `revision`, given outside any call, with the model.
    pub fn check_range(&self, range: &crate::call::Range, reply: &Reply) -> Result<(), String> {
        let (revision, compacted) = (self.model.revision(), self.compacted());
        let at = At { revision, compacted, no_space: false, lease: false };
        let (right, _) = self.model.execute(&Request::Op(Op::Range(range.clone())), &at);
        if right == *reply { Ok(()) } else { Err(format!("{range:?} gives {reply:?}; right is {right:?}")) }
    }
}

/// Highest revision that clients were told of, over time.
struct Seen {
    base: i64,
    /// By end of a call, the highest so far.
    ended: Vec<(Moment, i64)>,
}

impl Seen {
    fn of(calls: &[Call], base: i64) -> Seen {
        let told = calls.iter().filter_map(|call| Some((call.ended, call.reply.as_ref()?.revision()?)));
        let mut ended: Vec<(Moment, i64)> = told.collect();
        ended.sort_unstable();
        let mut highest = base;
        for (_, revision) in &mut ended {
            highest = highest.max(*revision);
            *revision = highest;
        }
        Seen { base, ended }
    }

    /// What a call that begins now must see.
    fn before(&self, moment: Moment) -> i64 {
        let after = self.ended.partition_point(|(ended, _)| *ended < moment);
        after.checked_sub(1).map_or(self.base, |last| self.ended[last].1)
    }
}

/// Refused before anybody looked at the store: it says nothing of it, and there is no effect.
fn never_looked(error: ApiError) -> bool {
    matches!(
        error,
        ApiError::NoLeader
            | ApiError::LeaderChanged
            | ApiError::DeadlineExceeded
            | ApiError::TooManyRequests
            | ApiError::RequestTooLarge
    )
}

/// A version as records hold it.
pub fn kv_of(fields: &engine::mvcc::wire::KeyValue<'_>) -> Kv {
    Kv {
        key: bytes::Bytes::copy_from_slice(fields.key),
        value: bytes::Bytes::copy_from_slice(fields.value),
        created: fields.create_revision,
        modified: fields.mod_revision,
        version: fields.version,
        lease: fields.lease,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::call::{Keys, Range};

    fn put(key: &'static str, value: &'static str) -> Request {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        Request::Op(Op::Put { key, value, prev_kv: false, ignore_value: false, lease: 0 })
    }

    fn get(key: &'static str) -> Request {
        Request::Op(Op::Range(Range::of(Keys::one(Bytes::from_static(key.as_bytes())), 0)))
    }

    fn done(revision: i64) -> Reply {
        Reply::Put { revision, prev: None }
    }

    fn found(revision: i64, kvs: &[Kv]) -> Reply {
        Reply::Range { revision, kvs: kvs.to_vec(), more: false, count: kvs.len() as i64 }
    }

    fn kv(key: &'static str, value: &'static str, modified: i64) -> Kv {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        Kv { key, value, created: modified, modified, version: 1, lease: 0 }
    }

    /// A store in which each revision from 2 on created one key.
    fn stored(kvs: &[(&'static str, &'static str)]) -> Dump {
        let created = (2..).zip(kvs).map(|(revision, &(key, value))| {
            let kv = kv(key, value, revision);
            (revision, vec![Change { key: kv.key.clone(), kv: Some(kv) }])
        });
        let changes: BTreeMap<i64, Vec<Change>> = created.collect();
        Dump { revision: 1 + kvs.len() as i64, compacted: -1, changes, ..Dump::default() }
    }

    /// Judges calls that follow each other; the last `open` of them are cut off by a crash.
    fn judge(calls: &[(Request, Option<Reply>)], dump: &Dump) -> Result<Tally, String> {
        let mut judge = Judge::default();
        for (request, reply) in calls {
            let call = judge.begin(0, request.clone());
            if let Some(reply) = reply {
                judge.end(call, reply.clone());
            }
        }
        judge.crash(0);
        judge.settle(dump).map(|()| judge.tally)
    }

    #[test]
    fn what_one_server_could_do_is_right() {
        let check = |calls: &[(Request, Option<Reply>)], dump: Dump, resolved: u64, lost: u64| {
            let tally = judge(calls, &dump).unwrap();
            assert_eq!((tally.resolved, tally.lost), (resolved, lost), "{calls:?}");
        };
        check(&[], stored(&[]), 0, 0);
        check(&[(put("a", "1"), Some(done(2)))], stored(&[("a", "1")]), 0, 0);
        // Without an answer it may be there or not.
        check(&[(put("a", "1"), None)], stored(&[("a", "1")]), 1, 0);
        check(&[(put("a", "1"), None)], stored(&[]), 0, 1);
        check(&[(put("a", "1"), Some(Reply::Refused(ApiError::Timeout)))], stored(&[("a", "1")]), 1, 0);
        let read = (get("a"), Some(found(2, &[kv("a", "1", 2)])));
        check(&[(put("a", "1"), Some(done(2))), read], stored(&[("a", "1")]), 0, 0);
    }

    #[test]
    fn what_none_could_do_is_not() {
        let check = |calls: &[(Request, Option<Reply>)], dump: Dump, says: &str| {
            let error = judge(calls, &dump).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        let first = || (put("a", "1"), Some(done(2)));
        check(&[first()], stored(&[]), "acknowledged and lost");
        check(&[first()], stored(&[("a", "2")]), "was answered");
        check(&[], stored(&[("a", "1")]), "came from nowhere");
        check(&[(put("a", "1"), None)], stored(&[("a", "1"), ("a", "1")]), "came from nowhere");
        check(&[first(), (put("b", "2"), Some(done(2)))], stored(&[("a", "1")]), "two calls were told");
        check(&[first(), (get("a"), Some(found(1, &[])))], stored(&[("a", "1")]), "stale");
        check(&[first(), (get("a"), Some(found(2, &[])))], stored(&[("a", "1")]), "was answered");
        check(&[first(), (get("a"), Some(found(3, &[])))], stored(&[("a", "1")]), "saw revision 3");
        let early = (get("a"), Some(found(2, &[kv("a", "1", 2)])));
        check(&[early, first()], stored(&[("a", "1")]), "before it was written");
        let late = [(put("a", "1"), Some(done(3))), (put("b", "2"), Some(done(2)))];
        check(&late, stored(&[("b", "2"), ("a", "1")]), "was begun after");
        check(&[first()], Dump { compacted: 2, ..stored(&[("a", "1")]) }, "compaction revision");
        let alarms = vec![(MEMBER, AlarmKind::NoSpace)];
        check(&[first()], Dump { alarms, ..stored(&[("a", "1")]) }, "alarm");
    }

    #[test]
    fn a_call_begun_after_a_revision_was_seen_is_not_behind_it() {
        let check = |seen: u64, begun: u64, right: bool| {
            let mut judge = Judge::default();
            let at = |judge: &mut Judge, second: u64| judge.now = Duration::from_secs(second);
            if seen < begun {
                at(&mut judge, seen);
                judge.see(2);
            }
            at(&mut judge, begun);
            judge.begin(0, put("a", "1"));
            if seen >= begun {
                at(&mut judge, seen);
                judge.see(2);
            }
            judge.crash(0);
            assert_eq!(
                judge.settle(&stored(&[("a", "1")])).is_ok(),
                right,
                "seen at {seen}, begun at {begun}"
            );
        };
        check(2, 1, true);
        check(1, 1, true);
        check(1, 2, false);
    }

    #[test]
    fn what_was_stored_stays() {
        let mut judge = Judge::default();
        let call = judge.begin(0, put("a", "1"));
        judge.end(call, done(2));
        judge.settle(&stored(&[("a", "1")])).unwrap();
        judge.settle(&stored(&[("a", "1")])).unwrap();
        assert!(judge.clone().settle(&stored(&[("a", "2")])).unwrap_err().contains("changed"));
        assert!(judge.settle(&stored(&[])).unwrap_err().contains("now the store ends"));
    }
}
