//! Majority arithmetic over the voters: what a quorum has reached, and whether an election is decided.
//!
//! Membership changes one member at a time, so consecutive configurations always overlap and no joint quorum
//! is needed (thesis §4.1). Counterpart of etcd raft's `quorum/majority.go`.

use crate::types::MemberId;

/// State of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteResult {
    Won,
    Lost,
    Pending,
}

/// Members that make a majority of `voters`.
pub(crate) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest value that a majority of `voters` has reached; the default (zero) with no voters at all:
/// nobody can acknowledge anything then.
pub(crate) fn reached<T: Ord + Copy + Default>(
    voters: &[MemberId],
    mut value_of: impl FnMut(MemberId) -> T,
) -> T {
    match voters {
        [] => T::default(),
        [alone] => value_of(*alone),
        _ => {
            let mut values: Vec<T> = voters.iter().map(|&id| value_of(id)).collect();
            values.sort_unstable();
            values[voters.len() - majority(voters.len())]
        }
    }
}

/// Counts `vote_of` each voter (`None`: not heard yet). With no voters an election cannot be won.
pub(crate) fn tally(voters: &[MemberId], mut vote_of: impl FnMut(MemberId) -> Option<bool>) -> VoteResult {
    let (mut granted, mut refused) = (0, 0);
    for &id in voters {
        match vote_of(id) {
            Some(true) => granted += 1,
            Some(false) => refused += 1,
            None => {}
        }
    }
    let needed = majority(voters.len());
    if granted >= needed {
        VoteResult::Won
    } else if voters.len() - refused < needed {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn voters(count: usize) -> Vec<MemberId> {
        (1..=count as u64).map(MemberId).collect()
    }

    #[test]
    fn reached_is_the_majority_value() {
        let check = |values: &[u64], expected: u64| {
            assert_eq!(
                reached(&voters(values.len()), |id| values[id.0 as usize - 1]),
                expected,
                "{values:?}"
            );
        };
        check(&[], 0);
        check(&[12], 12);
        check(&[12, 5], 5);
        check(&[12, 0], 0);
        check(&[12, 5, 6], 6);
        check(&[100, 101, 0], 100);
        check(&[1, 2, 3, 4], 2);
        check(&[101, 104, 103, 103, 99], 103);
    }

    #[test]
    fn tally_decides_as_early_as_possible() {
        let check = |votes: &str, expected: VoteResult| {
            let vote = |id: MemberId| match votes.as_bytes()[id.0 as usize - 1] {
                b'y' => Some(true),
                b'n' => Some(false),
                _ => None,
            };
            assert_eq!(tally(&voters(votes.len()), vote), expected, "{votes}");
        };
        check("", VoteResult::Lost);
        check("y", VoteResult::Won);
        check("n", VoteResult::Lost);
        check("_", VoteResult::Pending);
        check("yn", VoteResult::Lost);
        check("y_", VoteResult::Pending);
        check("yy_", VoteResult::Won);
        check("yn_", VoteResult::Pending);
        check("nn_", VoteResult::Lost);
        check("yyn_", VoteResult::Pending);
        check("ynny", VoteResult::Lost);
        check("yyy__", VoteResult::Won);
    }

    proptest! {
        #[test]
        fn reached_agrees_with_counting(values in proptest::collection::vec(0u64..20, 1..8)) {
            let ids = voters(values.len());
            let got = reached(&ids, |id| values[id.0 as usize - 1]);
            let count = |at_least: u64| values.iter().filter(|&&v| v >= at_least).count();
            prop_assert!(count(got) >= majority(ids.len()));
            prop_assert!(count(got + 1) < majority(ids.len()));
        }
    }
}
