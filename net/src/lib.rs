//! Socket bytes to engine requests and back.

// HTTP/2 frames, streams and windows of one connection, sans-IO (RFC 9113).
pub mod h2;

// Header compression: blocks to fields and fields to blocks, bounded (RFC 7541).
pub mod hpack;

// gRPC calls of one connection, sans-IO: what a driver feeds and the API answers.
pub mod grpc;
