//! Many versions of every key: the index of newest versions and the history of all of them.

/// The newest version of every key, and the small tables: a copy-on-write tree.
pub mod index;

/// A long range answer that walks the index again while it is sent.
pub mod walk;
