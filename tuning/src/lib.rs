//! What the host can do, and what to make of it.
//!
//! [`probe`] asks the kernel and the disk, one question a file; [`profile`] turns the answers into settings,
//! each with the reason beside it. An answer that is in the way is an [`Obstacle`]: one sentence with the
//! cure. Probes are best effort and quick (the disk's is the longest, about 50 ms), and leave nothing behind.
//!
//! Nothing here depends on the rest of the server, and nothing of it is on the path of a request.

#![deny(unsafe_code)]

// One question to the host a file.
pub mod probe;

// From answers to settings.
pub mod profile;

use std::fmt;

/// Something of the host that is in the way: one sentence that names it and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle(pub String);

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Obstacle {}
