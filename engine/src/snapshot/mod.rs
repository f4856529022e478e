//! The way out: the store as a bbolt file that etcd's own tools accept and etcd serves.
//!
//! `etcdctl snapshot save` writes down what `Maintenance.Snapshot` streams: an image of etcd's database file and its
//! SHA-256. Ours is written as it is sent, front to back, without a file and in bounded memory. The format wants to know
//! at its beginning where it ends, so the walk over the rows is made twice at one revision: once to count pages, once
//! to send them.
//!
//! This knows the format and what belongs in it; messages and connections are `net`'s. Idea and names:
//! go.etcd.io/bbolt (`page.go`, `meta.go`) and etcd's `server/storage/schema`.

// Pages, byte by byte.
pub mod layout;

// Rows in order into pages in order.
pub mod tree;

// What etcd keeps besides keys.
pub mod contents;

// The whole file, in two passes.
pub mod image;
