//! Commands as etcd answers them, and as no slicing and no cold page may change them.

// What etcd would answer.
mod model;

// Answers in words.
mod show;

// A store that is driven in slices.
pub(crate) mod world;

// What was seen on etcd.
mod facts;

// Random commands.
mod random;
