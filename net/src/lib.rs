//! Socket bytes to engine requests and back.

/// The services: wire types to engine types and back.
pub mod api;

/// The messages of the wire.
pub mod pb;

/// HTTP/1.1: health, version, metrics.
pub mod http;

/// Text in double quotes, as Go prints it.
mod quote;
