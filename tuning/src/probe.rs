//! Questions to the host.

// May this process use io_uring?
pub mod ring;

// How much memory may be locked, how many files opened?
pub mod limits;

// How much memory it may have.
pub mod memory;

// Does a directory take direct IO, and in what units?
pub mod direct;

// Which CPUs are there, and which one hears from the disk?
pub mod cpus;

// How long until a write is durable, either way?
pub mod flush;

#[allow(unsafe_code)]
mod ring_driver;
