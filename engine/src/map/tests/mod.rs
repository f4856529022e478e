//! Tests of the whole folder: a toy tree, a disk whose power can fail, and what they show.

mod crash;
mod damage;
mod disk;
mod failure;
mod loads;
#[cfg(not(miri))]
pub mod mapped;
#[cfg(not(miri))]
mod threads;
pub mod toy;
mod versions;
