//! The server process around the engine: what it is told, where its data lies, how it starts and ends.
//!
//! A library beside the program, so that tests and benches can start a member without a process. The modules
//! stand in the order a start uses them; none of them is on the path of a request.

// Which etcd we stand in for.
pub mod version;

// Go's notation of time spans.
pub mod duration;

// URLs to listen on and to advertise.
pub mod url;

// Command line, environment and configuration file, to raw values.
pub mod flags;

// Raw values, to a valid configuration.
pub mod config;

// Log lines.
pub mod logging;

// A fresh member's identity, and the checks of its cluster.
pub mod bootstrap;

// The data directory and who owns it.
pub mod datadir;

// Word to systemd.
pub mod notify;

// The wish to end, and the end.
pub mod signals;

// Numbers for Prometheus.
pub mod metrics;

// A bell between tasks.
mod wake;

// A thread that wakes an executor without a timer.
mod pulse;

// Log files and all other files.
pub mod disks;

// The executor that runs all this.
pub mod runtime;

// The state core's loop.
pub mod node;

// Lines about clients that a limit turned away.
mod complaints;

// Lines about requests that took long.
mod slow;

// Connections without HTTP/2, and how many there may be of all.
mod guests;

// One client connection.
pub mod conn;

// What HTTP checks ask of the state core.
mod http;

// From a configuration to the end of the process.
pub mod server;

// Tools for a data directory at rest.
pub mod utl;
