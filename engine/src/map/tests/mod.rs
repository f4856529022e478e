//! Tests of the whole folder: a toy tree, a disk whose power can fail, and what they show.

mod crash;
mod disk;
mod toy;
