//! A long range answer that walks the index again while it is sent.

/// Placeholder until the store exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk;
