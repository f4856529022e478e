//! Whole scenarios with everything that happens in them, as text in `testdata/` (see `harness/script.rs`).

mod harness;

use std::path::Path;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                let file = concat!("tests/testdata/", stringify!($name), ".txt");
                harness::script::run(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
            }
        )*

        #[test]
        fn every_file_is_run() {
            let named = [$(stringify!($name)),*];
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                let stem = path.file_stem().unwrap().to_str().unwrap();
                assert!(named.contains(&stem), "{stem}.txt is not listed in scenarios.rs");
            }
        }
    };
}

scenarios! {
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
