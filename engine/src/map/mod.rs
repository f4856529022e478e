//! The index file as checked pages: the only folder with unsafe code.

/// Pages as the tree sees them.
pub mod page;
