//! `kontiki utl`: what can be done to a data directory while no server runs on it.

use std::path::Path;
use std::process::ExitCode;

use engine::disk::file::FileDisk;
use engine::map;
use engine::replica::payload::Payload;
use engine::wal::recover::Voters;
use engine::wal::{EntryId, Identity, inspect};

use crate::datadir::{DataDir, LOCK_WAIT};

const USAGE: &str = "\
Usage:
  kontiki utl log check DIR
      Prints what the log of the data directory DIR holds, what of it is damaged and what would be lost.
  kontiki utl log cut --accept-data-loss DIR
      Copies the log to DIR/log.bak, then drops everything from the first damage on, so that the server starts again.
";

/// Runs the tool with the arguments behind `utl`.
pub fn run(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["log", "check", dir] => check(Path::new(dir)),
        ["log", "cut", "--accept-data-loss", dir] => cut(Path::new(dir)),
        ["log", "cut", _] => Err("log cut loses data: say --accept-data-loss to do it anyway".into()),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Holds the directory, so that no server starts meanwhile.
struct Opened {
    dir: DataDir,
    disk: FileDisk,
    applied: EntryId,
}

fn open(path: &Path) -> Result<Opened, String> {
    let dir = DataDir::open(path, None, LOCK_WAIT).map_err(|error| error.to_string())?;
    let mut disk = FileDisk::with_log(path, dir.log_dir()).map_err(|error| error.to_string())?;
    let index = map::open(&mut disk, None, map::Limits::default()).map_err(|error| error.to_string())?;
    let applied = match index.generation {
        0 => EntryId::default(),
        _ => Payload::decode(&index.payload)?.applied,
    };
    Ok(Opened { dir, disk, applied })
}

fn check(path: &Path) -> Result<String, String> {
    let Opened { mut disk, applied, .. } = open(path)?;
    let report = inspect::check(&mut disk, applied.index).map_err(|error| error.to_string())?;
    Ok(report.to_string())
}

fn cut(path: &Path) -> Result<String, String> {
    let Opened { dir, mut disk, applied } = open(path)?;
    let backup = path.join("log.bak");
    if backup.exists() {
        return Err(format!("{} exists: move it away, it may hold the only copy", backup.display()));
    }
    let mut copy = FileDisk::with_log(&backup, backup.join("log")).map_err(|error| error.to_string())?;
    let identity = Identity { cluster: dir.identity().cluster_id, member: dir.identity().member_id };
    let nonce = u64::from_le_bytes(crate::server::random());
    let config = Default::default();
    let before = inspect::check(&mut disk, applied.index).map_err(|error| error.to_string())?;
    inspect::cut(&mut disk, &mut copy, identity, applied, Voters::Single, config, nonce)
        .map_err(|error| error.to_string())?;
    Ok(format!("{before}The log was cut there. As it was, it is in {}.\n", backup.display()))
}
