//! Socket bytes to engine requests and back.

/// The messages of the wire.
pub mod pb;
