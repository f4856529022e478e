//! What is not gRPC on the client port, and all of the metrics port: HTTP/1.1.

// What a connection speaks, from its first bytes.
pub mod sniff;

// How long each step may take.
pub mod pace;

// Parameters of a URL.
pub mod query;

// Who may ask.
pub mod access;

// The checks behind `/livez` and `/readyz`.
mod checks;

// Health, version and metrics: what is asked and what is answered, without a socket.
pub mod endpoints;

// Transports for `hyper`.
pub mod io;

// A connection, by `hyper`.
pub mod serve;
