//! The words of the log: terms, indexes, positions, entries and what a member must remember across a crash.
//!
//! Plain data without behaviour beyond ordering and bounds. Names follow the Raft thesis §3 and etcd's
//! `raftpb`; [`LogPosition`] is ours: it orders *writes*, where [`LogIndex`] orders entries.

use std::fmt;

use bytes::Bytes;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// An election period; at most one leader in each (thesis §3.3). Zero: before any election.
    Term
}

number! {
    /// The place of an entry in the replicated log, from one. Zero: before the first entry.
    LogIndex
}

number! {
    /// The identity of a member, never reused within a cluster. etcd derives it from peer URLs and a token.
    MemberId
}

number! {
    /// The place of a write in the order in which one member's [`Append`](crate::Append)s are handed out,
    /// from one.
    ///
    /// A write is stable once its position is inside the durable prefix. Rewriting an index takes a new
    /// position, so a late completion of the overwritten entry cannot be mistaken for the new one. Starts
    /// over with the process.
    LogPosition
}

number! {
    /// Number of a group of linearizable reads that are confirmed together. Grows; never used twice by a
    /// [`Raft`].
    ///
    /// [`Raft`]: crate::Raft
    ReadRound
}

impl Term {
    /// The term a candidate of this term moves to.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; zero stays zero.
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many entries lie in `(earlier, self]`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl LogPosition {
    /// The position of the next write.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl ReadRound {
    /// The round after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What an entry's bytes mean to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Opaque to raft. Empty data is the no-op a leader opens its term with; it is applied like any other
    /// entry.
    Normal,
    /// An encoded [`ConfChange`](crate::ConfChange).
    ConfChange,
}

/// One slot of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that created it.
    pub term: Term,
    /// Its place in the log.
    pub index: LogIndex,
    /// Whether raft itself must understand `data`.
    pub kind: EntryKind,
    /// The command. Shared, never copied: the log, every peer and apply hold the same bytes.
    pub data: Bytes,
}

/// What a member must not forget across a crash (thesis §3.8, figure 3.1 "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Who got this member's vote in `term`.
    pub vote: Option<MemberId>,
    /// A hint: everything up to here is known committed. May lag; never makes a write necessary by itself.
    pub commit: LogIndex,
}

/// The members of the cluster as of some applied entry. Both lists ascend and share no member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Members whose votes and acknowledgements count.
    pub voters: Vec<MemberId>,
    /// Members that receive the log and nothing else.
    pub learners: Vec<MemberId>,
}

impl ConfState {
    /// Sorts both lists and drops repetitions.
    pub fn new(
        voters: impl IntoIterator<Item = MemberId>,
        learners: impl IntoIterator<Item = MemberId>,
    ) -> Self {
        Self { voters: ascending(voters), learners: ascending(learners) }
    }

    /// Whether `id` has a vote.
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.voters.binary_search(&id).is_ok()
    }

    /// Whether `id` only learns.
    pub fn is_learner(&self, id: MemberId) -> bool {
        self.learners.binary_search(&id).is_ok()
    }

    /// Voters, then learners.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Whether the lists are what this type promises; values from a disk or peer may not be.
    pub fn is_well_formed(&self) -> bool {
        let ascends = |ids: &[MemberId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
        ascends(&self.voters) && ascends(&self.learners) && !self.learners.iter().any(|&id| self.is_voter(id))
    }
}

/// The point a snapshot of the applied state stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effect it holds.
    pub index: LogIndex,
    /// That entry's term.
    pub term: Term,
    /// The members as of that entry.
    pub conf_state: ConfState,
}

/// No cluster gets here by counting; larger terms and indexes come from damage and would overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

fn ascending(ids: impl IntoIterator<Item = MemberId>) -> Vec<MemberId> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(raw: &[u64]) -> Vec<MemberId> {
        raw.iter().copied().map(MemberId).collect()
    }

    #[test]
    fn conf_state_sorts_and_checks_itself() {
        let conf = ConfState::new(ids(&[3, 1, 3]), ids(&[9, 4]));
        assert_eq!(conf, ConfState { voters: ids(&[1, 3]), learners: ids(&[4, 9]) });

        let check = |voters: &[u64], learners: &[u64], expected: bool| {
            let conf = ConfState { voters: ids(voters), learners: ids(learners) };
            assert_eq!(conf.is_well_formed(), expected, "{conf:?}");
        };
        check(&[], &[], true);
        check(&[1, 2], &[3], true);
        check(&[2, 1], &[], false);
        check(&[1, 1], &[], false);
        check(&[1], &[1], false);
    }

    #[test]
    fn distances_never_wrap() {
        assert_eq!(LogIndex(0).prev(), LogIndex(0));
        assert_eq!(LogIndex(7).since(LogIndex(5)), 2);
        assert_eq!(LogIndex(5).since(LogIndex(7)), 0);
    }
}
