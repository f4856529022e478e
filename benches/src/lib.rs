//! Numbers we stand behind: a load generator that costs little, and runs of the server and real etcd by turns on
//! one disk. Criterion benches of the pure cores stand beside this crate's sources, in `benches/`.

/// Requests as fast as a server takes them, or at a given rate.
pub mod load;

/// Servers by turns, medians, and the report.
pub mod compare;
