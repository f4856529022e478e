//! Many versions of every key: the index of newest versions and the history of all of them.

/// A long range answer that walks the index again while it is sent.
pub mod walk;
