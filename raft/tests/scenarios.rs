//! Whole scenarios with everything that happens in them, as text in `testdata/` (see `harness/script.rs`).

mod harness;

use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata").join(name)
}

macro_rules! scenarios {
    ($folder:literal: $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                crate::harness::script::run(&crate::folder($folder).join(concat!(stringify!($name), ".txt")));
            }
        )*

        #[test]
        fn every_file_is_run() {
            let named = [$(stringify!($name)),*];
            for file in std::fs::read_dir(crate::folder($folder)).unwrap() {
                let path = file.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap();
                assert!(path.is_dir() || named.contains(&stem), "{stem}.txt is not listed in scenarios.rs");
            }
        }
    };
}

scenarios! {
    "":
    single_node_start,
    single_node_pipeline,
    single_node_restart,
    async_persist_term_change,
    election_and_replication,
    pre_vote,
    conflicting_suffix,
    read_rounds,
    conf_change,
    learner,
    snapshot,
    transfer,
    check_quorum,
    forgotten_removal,
    lost_append,
    slow_follower,
}

// Elections, replication, reads and transfers: the cases of etcd raft's `raft_test.go` that need several members.
mod core {
    scenarios! {
        "core":
        dueling_candidates,
        dueling_pre_candidates,
        a_candidate_concedes,
        a_lone_candidate_waits,
        a_newer_log_is_overwritten,
        old_messages_are_ignored,
        forwarded_proposals,
        forwards_overtaken,
        a_forward_to_a_deposed_leader,
        earlier_terms_commit_with_the_own,
        a_late_own_vote,
        a_superseded_leader,
        a_stuck_candidate_is_freed,
        a_disruptive_rejoiner,
        a_removed_member_stays_quiet,
        a_member_removed_unawares,
        an_old_leader_answers_no_read,
        reads_by_a_follower,
        reads_by_a_learner,
        learners_confirm_no_read,
        a_new_leader_reads_after_its_first_commit,
        a_smaller_quorum_frees_reads,
        reads_share_rounds,
        late_echoes_confirm_nothing_new,
        a_vote_is_given_once_over_a_crash,
        a_vote_not_durable_was_not_given,
        even_split,
        two_members_need_both,
        mixed_pre_vote,
        pre_vote_split,
        a_smaller_term_completes_the_election,
        hints_shorter,
        hints_longer_of_an_old_term,
        hints_many_terms_apart,
        hints_empty,
        hints_one_long_foreign_term,
        transfer_to_a_slow_member,
        transfer_after_a_snapshot,
        transfers_refused,
        transfer_there_and_back,
        a_second_transfer_replaces_the_first,
        a_transfer_to_a_member_that_is_removed,
        a_transfer_ends_with_the_term,
        a_lost_invitation,
        an_invitation_twice,
        a_target_waits_for_its_changes,
    }
}

// Membership: every operation, refusal and crash between commit and apply.
mod conf_change {
    scenarios! {
        "conf_change":
        add_voter,
        add_twice,
        add_learner_and_promote,
        promotion_waits_for_the_log,
        no_demotion,
        remove_follower,
        remove_learner,
        remove_stranger,
        the_last_voter_stays,
        one_at_a_time,
        not_before_the_own_term,
        a_change_survives_its_leader,
        a_change_dies_with_its_leader,
        a_removal_commits_what_waits,
        the_leader_leaves_with_entries_under_way,
        replace_the_leader,
        one_becomes_five,
        five_become_one,
        a_dead_newcomer_blocks_a_lone_voter,
        a_learner_votes,
        a_campaign_waits_for_the_change,
        a_removed_member_comes_back,
        restart_between_commit_and_apply,
        changes_through_a_follower_are_refused,
    }
}

// Windows, probes, snapshots, writes in flight: the cases of etcd raft's interaction scripts.
mod interaction {
    scenarios! {
        "interaction":
        window_of_two,
        window_of_bytes,
        a_lost_window,
        lost_answers,
        appends_of_one_entry,
        appends_backwards,
        appends_twice,
        a_stream_replayed,
        unreachable_and_back,
        heartbeats_rescue_a_probe,
        commit_news_travels,
        a_lagging_commit,
        uncommitted_quota,
        apply_gap,
        several_writes_in_flight,
        slow_leader,
        a_rewritten_index,
        snapshot_to_a_voter,
        snapshot_lost,
        snapshot_twice,
        snapshot_and_crash,
        snapshot_behind_what_is_pending,
        snapshot_of_what_it_holds,
        compaction_keeps_some,
        probe_then_replicate,
        follower_ahead_of_the_new_leader,
        single_voter_with_learners,
        restart_everybody,
        restart_with_checkpoints,
        restart_leader_with_entries_under_way,
        leaders_in_turn,
    }
}

// Damaged disks: members that recover.
mod storage {
    scenarios! {
        "storage":
        repaired_in_the_same_term,
        repaired_while_idle,
        repaired_for_a_read,
        damage_uncovers_old_entries,
        a_forgotten_vote,
        a_recovering_member_does_not_vote,
        a_committed_entry_is_not_dropped,
        the_leader_is_damaged,
        two_of_three_stall,
        two_of_five_go_on,
        damaged_again_while_recovering,
        crash_while_recovering,
        recovered_by_a_snapshot,
        a_damaged_learner,
        reads_wait_for_repair,
        no_transfer_to_a_recovering_member,
        commits_need_somebody_sound,
        damage_that_hit_nothing,
        a_promise_of_a_lost_entry,
        an_isolated_member_with_a_higher_term,
        torn_last_write_of_a_learner,
        lost_above_the_checkpoint,
        a_member_without_anything,
    }
}

// What is in no other suite: torn writes, one-way links, clocks.
mod own {
    scenarios! {
        "own":
        truncation_lost_in_a_crash,
        truncation_kept_over_a_crash,
        leader_slower_than_both_and_dead,
        term_and_vote_in_one_write,
        late_echoes_of_an_earlier_start,
        a_deaf_cluster,
        a_deaf_follower,
        a_mute_follower,
        a_ring_of_links,
        the_majority_moves_on,
        clock_far_ahead,
        clock_of_the_leader_far_ahead,
        everybody_dies_at_every_step,
    }
}
