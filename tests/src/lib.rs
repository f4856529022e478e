//! Judges of a running server, from outside: everything here talks to a process over its sockets and files and
//! knows nothing of the crates that make it. Any etcd-compatible binary can stand on either side.

/// Messages of the etcd API.
pub mod proto;

/// Directories and ports to work with.
pub mod scratch;

/// Choices from a seed.
pub mod random;

/// A server process.
pub mod server;

/// HTTP/2 as evidence.
pub mod wire;

/// Typed calls over it.
pub mod client;

/// Watch streams over it.
pub mod watch;

/// Real etcd and the server under test, call by call.
pub mod differential;

/// The server as a process.
pub mod process;
