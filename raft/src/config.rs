//! Ticks and limits, checked once; a [`Config`] accepted by [`Raft`](crate::Raft) never changes.
//!
//! Defaults are etcd's where etcd has the knob (`server/etcdserver/raft.go`, `server.go`), and bounds on
//! memory where it has none.

use std::fmt;

use crate::types::MemberId;

/// How one member behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member. Not zero.
    pub id: MemberId,
    /// Seed of the election timeouts. Members should differ.
    pub seed: u64,
    /// Ticks (heartbeat intervals) without a leader before an election; drawn from `[n, 2n)` each time. At
    /// least 2.
    pub election_ticks: u32,
    /// Ask before disturbing: pre-vote (thesis §9.6).
    pub pre_vote: bool,
    /// A leader that hears no quorum for an election timeout steps down, and followers stay loyal to one they
    /// hear.
    pub check_quorum: bool,
    /// Proposed and not yet committed; refuse further proposals at this many bytes. One entry is always
    /// admitted.
    pub uncommitted_bytes_max: u64,
    /// Committed and not yet applied; refuse further proposals beyond this many entries (twice that for
    /// critical ones).
    pub apply_gap_max: u64,
    /// Data bytes of one `Append` message; a larger entry travels alone.
    pub append_bytes_max: u64,
    /// Unanswered `Append` messages per follower.
    pub inflight_count_max: usize,
    /// Bytes in unanswered `Append` messages per follower.
    pub inflight_bytes_max: u64,
    /// Entries kept behind a compaction point for slow followers (etcd: catch-up entries).
    pub kept_entries_max: u64,
    /// Bytes of such entries.
    pub kept_bytes_max: u64,
}

/// Why a [`Config`] is not valid: the caller's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Member id zero means nobody.
    ZeroId,
    /// With fewer than two ticks every heartbeat would race an election.
    ElectionTooShort,
    /// A window or message limit of zero lets nothing through.
    ZeroLimit,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroId => "member id zero",
            Self::ElectionTooShort => "election timeout below two heartbeat intervals",
            Self::ZeroLimit => "a limit of zero lets nothing through",
        })
    }
}

impl Config {
    /// etcd's behaviour for member `id`.
    pub fn new(id: MemberId, seed: u64) -> Self {
        Self {
            id,
            seed,
            election_ticks: 10,
            pre_vote: true,
            check_quorum: true,
            uncommitted_bytes_max: 64 << 20,
            apply_gap_max: 5_000,
            append_bytes_max: 1 << 20,
            inflight_count_max: 512,
            inflight_bytes_max: 16 << 20,
            kept_entries_max: 5_000,
            kept_bytes_max: 64 << 20,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.id == MemberId(0) {
            return Err(ConfigError::ZeroId);
        }
        if self.election_ticks < 2 {
            return Err(ConfigError::ElectionTooShort);
        }
        let counts = [self.uncommitted_bytes_max, self.append_bytes_max, self.inflight_bytes_max];
        if self.inflight_count_max == 0 || counts.contains(&0) {
            return Err(ConfigError::ZeroLimit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_what_cannot_work() {
        let check = |change: fn(&mut Config), expected| {
            let mut config = Config::new(MemberId(1), 0);
            change(&mut config);
            assert_eq!(config.check(), expected);
        };
        check(|_| {}, Ok(()));
        check(|c| c.id = MemberId(0), Err(ConfigError::ZeroId));
        check(|c| c.election_ticks = 1, Err(ConfigError::ElectionTooShort));
        check(|c| c.inflight_count_max = 0, Err(ConfigError::ZeroLimit));
        check(|c| c.append_bytes_max = 0, Err(ConfigError::ZeroLimit));
    }
}
