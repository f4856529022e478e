//! Socket bytes to engine requests and back.

/// The services: wire types to engine types and back.
pub mod api;

/// The messages of the wire.
pub mod pb;

/// Text in double quotes, as Go prints it.
mod quote;
