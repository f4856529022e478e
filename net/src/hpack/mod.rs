//! HPACK, the header compression of HTTP/2 (RFC 7541), for one server connection.
//!
//! The decoder is complete (static and dynamic table, Huffman) and bounded; the encoder does only what a gRPC server
//! needs: it keeps the three fields of every successful answer in the peer's table and spells out the rest. Nothing
//! here knows HTTP semantics beyond naming the fields we care about: which fields a request must or must not have is
//! judged in [`crate::h2`].

// Names we know at a glance, and the flat list a block decodes into.
pub mod field;

// The 61 predefined fields (RFC 7541 appendix A).
pub mod static_table;

// Fields the peer asked us to remember (RFC 7541 §2.3.2).
pub mod dynamic_table;

// String literals in their Huffman form (RFC 7541 §5.2).
pub mod huffman;

// Header block to fields.
pub mod decode;

// Fields to header block.
pub mod encode;

pub use decode::{DecodeError, Decoder};
pub use encode::Encoder;
pub use field::{FieldList, FieldName};

/// Size of the dynamic table on both sides, the default of RFC 7541 which we neither raise nor lower.
pub const TABLE_SIZE_BYTES_MAX: usize = 4096;

/// What an entry costs beyond its own bytes (RFC 7541 §4.1).
pub const ENTRY_OVERHEAD_BYTES: usize = 32;
