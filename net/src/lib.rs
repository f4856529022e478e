//! Socket bytes to engine requests and back.
//!
//! The modules stand in the order a request passes them.

// Listening sockets.
pub mod listen;

// HTTP/2 frames, streams and windows of one connection, sans-IO (RFC 9113).
pub mod h2;

// Header compression: blocks to fields and fields to blocks, bounded (RFC 7541).
pub mod hpack;

// gRPC calls of one connection, sans-IO: what a driver feeds and the API answers.
pub mod grpc;

// The services: wire types to engine types and back.
pub mod api;

// The messages of the wire.
pub mod pb;

// HTTP/1.1: health, version, metrics.
pub mod http;

// All connections of one core, between socket bytes and the replica.
pub mod front;

// Entries whose keys are never mistaken for later ones.
pub mod slab;

// Text in double quotes, as Go prints it.
mod quote;
