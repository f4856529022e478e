//! Majority arithmetic over the voters: what a quorum has reached, and whether an election is decided.
//!
//! Membership changes one member at a time, so consecutive configurations always overlap and no joint quorum
//! is needed (thesis §4.1). Counterpart of etcd raft's `quorum/majority.go`.

use crate::seeded::{self, Bug};
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
            let missing = usize::from(seeded::is(Bug::CountMinority));
            values[voters.len() - majority(voters.len()) + missing]
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

    fn majority_reaches(values: &[u64], expected: u64) {
        assert_eq!(reached(&voters(values.len()), |id| values[id.0 as usize - 1]), expected);
    }

    cases! {
        majority_reaches {
            nothing_of_nobody: (&[], 0);
            its_own_alone: (&[12], 12);
            the_lower_of_two: (&[12, 5], 5);
            nothing_of_two_if_one_has_nothing: (&[12, 0], 0);
            the_middle_of_three: (&[12, 5, 6], 6);
            the_lower_of_two_when_the_third_has_nothing: (&[100, 101, 0], 100);
            the_second_of_four: (&[1, 2, 3, 4], 2);
            an_equal_pair: (&[7, 7, 1], 7);
            the_middle_of_five: (&[101, 104, 103, 103, 99], 103);
            the_third_lowest_of_six: (&[1, 2, 3, 4, 5, 6], 3);
            the_middle_of_seven: (&[1, 2, 3, 4, 5, 6, 7], 4);
        }
    }

    fn tally_of(votes: &str, expected: VoteResult) {
        let vote = |id: MemberId| match votes.as_bytes()[id.0 as usize - 1] {
            b'y' => Some(true),
            b'n' => Some(false),
            _ => None,
        };
        assert_eq!(tally(&voters(votes.len()), vote), expected);
    }

    cases! {
        tally_of {
            nobody: ("", VoteResult::Lost);
            one_yes: ("y", VoteResult::Won);
            one_no: ("n", VoteResult::Lost);
            one_silent: ("_", VoteResult::Pending);
            two_split: ("yn", VoteResult::Lost);
            two_with_one_silent: ("y_", VoteResult::Pending);
            three_with_two_yes: ("yy_", VoteResult::Won);
            three_split_and_one_silent: ("yn_", VoteResult::Pending);
            three_with_two_no: ("nn_", VoteResult::Lost);
            four_with_one_silent: ("yyn_", VoteResult::Pending);
            four_split: ("ynny", VoteResult::Lost);
            four_with_three_yes: ("yyyn", VoteResult::Won);
            five_with_three_yes: ("yyy__", VoteResult::Won);
            five_with_three_no: ("nynn_", VoteResult::Lost);
        }
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

        /// Single changes need no joint quorum: whatever majorities two groups one voter apart form, they share a
        /// member.
        #[test]
        fn majorities_one_voter_apart_overlap(count in 1usize..9, order in any::<u64>()) {
            let larger = voters(count + 1);
            let smaller = &larger[..count];
            let pick = |from: &[MemberId], turn: u64| {
                let mut ids = from.to_vec();
                ids.sort_by_key(|id| (id.0.wrapping_mul(turn | 1)) % 97);
                ids.truncate(majority(from.len()));
                ids
            };
            let (one, other) = (pick(&larger, order), pick(smaller, order >> 32));
            prop_assert!(one.iter().any(|id| other.contains(id)), "{one:?} {other:?}");
        }
    }
}
