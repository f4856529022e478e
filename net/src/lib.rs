//! Socket bytes to engine requests and back.

/// Header compression: blocks to fields and fields to blocks, bounded (RFC 7541).
pub mod hpack;
