//! What a member is built from at start, and the checks that keep a damaged disk from becoming a wrong
//! member.

use std::fmt;

use bytes::Bytes;

use crate::confchange::{ConfChange, ConfChangeOp};
use crate::config::ConfigError;
use crate::types::{ConfState, Entry, EntryKind, HardState, LogIndex, MemberId, NUMBER_MAX, Term};

/// What was read back from disk, all of it durable. The default is a member that has never run.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// From the newest valid block.
    pub hard_state: HardState,
    /// The members as of `applied` or of a later entry that was applied once; the newest the disk holds.
    pub conf_state: ConfState,
    /// The last entry whose effect the restored state holds.
    pub applied: LogIndex,
    /// The entry just before `entries`: its index, zero for a log from its beginning.
    pub boundary_index: LogIndex,
    /// Its term.
    pub boundary_term: Term,
    /// All valid entries after the boundary.
    pub entries: Vec<Entry>,
    /// How often this member was started before. Scopes read rounds, so that an answer to an earlier life,
    /// still on its way, is not taken for one to this life.
    pub starts: u64,
    /// Set when acknowledged data is damaged: the highest promise any valid block proves. The member takes
    /// part in nothing that counts until it has matched a leader beyond it.
    pub recovering: Option<Promise>,
}

/// An entry this member may have acknowledged in an earlier life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Its term, or a later one it may have voted in.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
}

/// Why a member cannot be built: what was read contradicts itself, or the caller is mistaken about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The configuration is not valid.
    Config(ConfigError),
    /// A term or index no log can reach.
    Absurd,
    /// Entry `index` is not where it should be, or its term descends.
    Disorder {
        /// The index found.
        index: LogIndex,
    },
    /// The log holds a term the hard state has not reached.
    TermBeyondHardState {
        /// The last entry's term.
        last_term: Term,
        /// The hard state's.
        term: Term,
    },
    /// A vote without a term, or for nobody.
    BadVote,
    /// Entries known committed are missing. With one voter this proves loss; in a group, where a commit index
    /// may be ahead of the own disk, the caller lowers the hint to what it found.
    CommitBeyondLog {
        /// The commit index found.
        commit: LogIndex,
        /// The last entry found.
        last: LogIndex,
    },
    /// The state is ahead of the log.
    AppliedBeyondLog {
        /// The applied index.
        applied: LogIndex,
        /// The last entry found.
        last: LogIndex,
    },
    /// Entries between the state and the log are missing.
    AppliedBehindLog {
        /// The applied index.
        applied: LogIndex,
        /// The entry before the first one found.
        boundary: LogIndex,
    },
    /// The member lists are not ascending or not disjoint.
    BadConfState,
    /// A configuration entry that cannot be read.
    BadConfChange {
        /// Its index.
        index: LogIndex,
    },
    /// A new cluster must count this member among its founders.
    NotAFounder,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::Absurd => f.write_str("a term or index beyond all reason"),
            Self::Disorder { index } => write!(f, "entry {index} is out of order"),
            Self::TermBeyondHardState { last_term, term } => {
                write!(f, "the last entry is of term {last_term}, the hard state of term {term}")
            }
            Self::BadVote => f.write_str("a vote without a term, or for nobody"),
            Self::CommitBeyondLog { commit, last } => {
                write!(f, "entries up to {commit} are committed, the log ends at {last}")
            }
            Self::AppliedBeyondLog { applied, last } => {
                write!(f, "entries up to {applied} are applied, the log ends at {last}")
            }
            Self::AppliedBehindLog { applied, boundary } => {
                write!(f, "entries up to {applied} are applied, the log begins after {boundary}")
            }
            Self::BadConfState => f.write_str("the member lists are not ascending or not disjoint"),
            Self::BadConfChange { index } => write!(f, "entry {index} is no membership change"),
            Self::NotAFounder => f.write_str("this member is not among the founders"),
        }
    }
}

impl std::error::Error for RestoreError {}

impl Restored {
    pub(crate) fn check(&self) -> Result<(), RestoreError> {
        if self.boundary_index.0 > NUMBER_MAX || self.hard_state.term.0 > NUMBER_MAX {
            return Err(RestoreError::Absurd);
        }
        let last_term = self.check_entries()?;
        let last = LogIndex(self.boundary_index.0 + self.entries.len() as u64);
        let HardState { term, vote, commit } = self.hard_state;
        if last_term > term {
            return Err(RestoreError::TermBeyondHardState { last_term, term });
        }
        if vote == Some(MemberId(0)) || (vote.is_some() && term == Term(0)) {
            return Err(RestoreError::BadVote);
        }
        if commit > last {
            return Err(RestoreError::CommitBeyondLog { commit, last });
        }
        if self.applied > last {
            return Err(RestoreError::AppliedBeyondLog { applied: self.applied, last });
        }
        if self.applied < self.boundary_index {
            let boundary = self.boundary_index;
            return Err(RestoreError::AppliedBehindLog { applied: self.applied, boundary });
        }
        if !self.conf_state.is_well_formed() {
            return Err(RestoreError::BadConfState);
        }
        Ok(())
    }

    /// Checks order and configuration entries; the last term found.
    fn check_entries(&self) -> Result<Term, RestoreError> {
        let (mut index, mut term) = (self.boundary_index, self.boundary_term);
        for entry in &self.entries {
            if entry.index != index.next() || entry.term < term {
                return Err(RestoreError::Disorder { index: entry.index });
            }
            if entry.kind == EntryKind::ConfChange && ConfChange::decode(&entry.data).is_err() {
                return Err(RestoreError::BadConfChange { index: entry.index });
            }
            (index, term) = (entry.index, entry.term);
        }
        Ok(term)
    }
}

/// The first entries of a new cluster, the same on every founding member: one change per founder, ascending,
/// in [`BOOTSTRAP_TERM`].
pub(crate) fn founding_changes(mut founders: Vec<(MemberId, Bytes)>) -> Vec<ConfChange> {
    founders.sort_by_key(|(member, _)| *member);
    founders.dedup_by_key(|(member, _)| *member);
    let change = |(member, context)| ConfChange { op: ConfChangeOp::AddVoter, member, context };
    founders.into_iter().map(change).collect()
}

/// The term of the founding entries; the first election is for the next one, as clients of etcd expect to
/// see.
pub(crate) const BOOTSTRAP_TERM: Term = Term(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn restored() -> Restored {
        let entry = |(index, term)| Entry {
            index: LogIndex(index),
            term: Term(term),
            kind: EntryKind::Normal,
            data: Bytes::new(),
        };
        Restored {
            hard_state: HardState { term: Term(4), vote: Some(MemberId(1)), commit: LogIndex(7) },
            conf_state: ConfState::new([MemberId(1)], []),
            applied: LogIndex(6),
            boundary_index: LogIndex(5),
            boundary_term: Term(2),
            entries: [(6, 2), (7, 3), (8, 3)].map(entry).to_vec(),
            starts: 0,
            recovering: None,
        }
    }

    #[test]
    fn contradictions_on_disk_are_errors() {
        let check = |damage: fn(&mut Restored), expected: Result<(), RestoreError>| {
            let mut restored = restored();
            damage(&mut restored);
            assert_eq!(restored.check(), expected);
        };
        check(|_| {}, Ok(()));
        check(|r| *r = Restored::default(), Ok(()));
        check(|r| r.entries[1].index = LogIndex(9), Err(RestoreError::Disorder { index: LogIndex(9) }));
        check(|r| r.entries[2].term = Term(2), Err(RestoreError::Disorder { index: LogIndex(8) }));
        check(|r| r.entries[0].term = Term(1), Err(RestoreError::Disorder { index: LogIndex(6) }));
        check(
            |r| r.entries[2].term = Term(5),
            Err(RestoreError::TermBeyondHardState { last_term: Term(5), term: Term(4) }),
        );
        check(|r| r.boundary_index = LogIndex(u64::MAX), Err(RestoreError::Absurd));
        check(|r| r.hard_state.term = Term(u64::MAX), Err(RestoreError::Absurd));
        check(|r| r.hard_state.vote = Some(MemberId(0)), Err(RestoreError::BadVote));
        check(
            |r| r.hard_state.commit = LogIndex(9),
            Err(RestoreError::CommitBeyondLog { commit: LogIndex(9), last: LogIndex(8) }),
        );
        check(
            |r| r.applied = LogIndex(9),
            Err(RestoreError::AppliedBeyondLog { applied: LogIndex(9), last: LogIndex(8) }),
        );
        check(
            |r| r.applied = LogIndex(4),
            Err(RestoreError::AppliedBehindLog { applied: LogIndex(4), boundary: LogIndex(5) }),
        );
        check(|r| r.conf_state.learners.push(MemberId(1)), Err(RestoreError::BadConfState));
        check(
            |r| r.entries[0].kind = EntryKind::ConfChange,
            Err(RestoreError::BadConfChange { index: LogIndex(6) }),
        );
    }
}
