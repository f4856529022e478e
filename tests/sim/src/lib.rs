//! The deterministic simulator: the real replica on a simulated clock and disk, simulated clients, and a judge that
//! knows what etcd would have answered.
//!
//! Not here: sockets and protobuf (`tests/differential` and `tests/process` have those). The idea of a whole system in one thread under one seed is FoundationDB's; naming the faults that
//! each file may suffer is TigerBeetle's. `docs/testing.md` says how to run it and what it has found.
//!
//! The modules stand in the order a call passes them.

// What clients ask and get.
pub mod call;

// What they do.
pub mod workload;

// Sizes and speeds.
pub mod settings;

// Calls under way.
pub mod serve;

// Watch streams and their clients.
pub mod watching;

// Whether what watchers were told could be right.
pub mod watchers;

// A machine's idea of the time.
pub mod clock;

// What is between members.
pub mod network;

// What consensus must never do.
pub mod consensus;

// Machines, processes, clients.
pub mod world;

// One number for all that happened.
pub mod trace;

// Everything that is stored.
pub mod dump;

// What etcd would answer.
pub mod model;

// What HashKV must say.
pub mod hash;

// What the members say of it, compared.
pub mod hashes;

// Whether what was answered could be right.
pub mod judge;

// Whole runs, one a seed.
pub mod seeds;

// The same for several members.
pub mod cluster;

// How single cases end.
pub mod outcome;

// One kind of fault at many places.
pub mod faults;

// Whether seeded bugs are found.
#[cfg(feature = "seeded-bugs")]
pub mod bugs;
