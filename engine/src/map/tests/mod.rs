//! Tests of the whole folder: a toy tree, a disk whose power can fail, and what they show.

mod crash;
mod damage;
mod disk;
#[cfg(not(miri))]
mod mapped;
#[cfg(not(miri))]
mod threads;
mod toy;
mod versions;
