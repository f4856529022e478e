//! Where log lines go.
//!
//! Used by the writer thread alone. An output that fails costs its lines, never the process: there is nobody
//! left to tell.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// One target of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// Standard error. systemd's journal reads it too, so `systemd/journal` means this.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// An open output.
pub(super) enum Sink {
    Stderr,
    Stdout,
    File(File),
}

impl Sink {
    pub(super) fn open(output: &Output) -> Result<Sink, String> {
        Ok(match output {
            Output::Stderr => Sink::Stderr,
            Output::Stdout => Sink::Stdout,
            Output::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Sink::File(file.map_err(|error| {
                    let name = path.display().to_string();
                    format!("open sink {name:?}: open {name}: {}", crate::flags::reason(&error))
                })?)
            }
        })
    }

    /// Writes whole lines and flushes them.
    pub(super) fn write(&mut self, lines: &[u8]) {
        let _ = match self {
            Sink::Stderr => write_now(&mut io::stderr(), lines),
            Sink::Stdout => write_now(&mut io::stdout(), lines),
            Sink::File(file) => write_now(file, lines),
        };
    }
}

fn write_now(to: &mut impl Write, lines: &[u8]) -> io::Result<()> {
    to.write_all(lines)?;
    to.flush()
}
