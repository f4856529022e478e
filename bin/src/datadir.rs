//! The data directory: what may lie there, who owns it, and how it comes into being.
//!
//! ```text
//! <data-dir>/        0700
//!   member           a note for people and for etcd, which stops at it instead of serving an empty cluster
//!   identity         who this member is; its lock says that a process is at home (see `identity`)
//!   identity.new     the same during the first start, before anything was served
//!   log/             log segments, unless --wal-dir names another directory
//!   history/         history segments
//!   index.db         the index
//!   reserve          space for when the disk is full
//! ```
//!
//! **Nothing is ever started over.** etcd, given a directory of files it does not know, warns and serves an
//! empty cluster, and a kubelet that sees one deletes every pod (kubernetes#38918). Here a directory that
//! holds etcd's `member` folder, or anything unknown and no identity, is an error that names what was found
//! and the cure.
//!
//! A first start takes four steps, and a crash between any two leaves a directory the next start understands:
//!
//! 1. [`DataDir::create`] makes the directory, the note and `identity.new`, locked, and syncs them;
//! 2. the caller makes log, history and index, and syncs them;
//! 3. [`DataDir::commit`] renames `identity.new` to `identity` and syncs the directory;
//! 4. only now may the member serve.
//!
//! With `identity.new` and no `identity`, nothing was served: [`Found::Unfinished`], to be created again.

mod identity;
mod lock;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::disk::record::Recorder;
pub use identity::{Identity, IdentityError};

const NOTE: &str = "member";
const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
const LOG: &str = "log";
const HISTORY: &str = "history";
const INDEX: &str = "index.db";
const RESERVE: &str = "reserve";

/// Names of ours at the top; any other is a stranger.
const OURS: &[&str] = &[NOTE, IDENTITY, IDENTITY_NEW, LOG, HISTORY, INDEX, RESERVE];

/// What a fresh file system brings along.
const HARMLESS: &[&str] = &["lost+found"];

/// How long a start waits for the process that holds the directory: its last writes may outlive it.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

const NOTE_TEXT: &str = "\
This directory holds the data of a Kontiki server, not of etcd.

This file has the name of the folder in which etcd keeps its data. It is here so that an etcd started on this
directory by mistake stops, instead of serving an empty cluster in place of the data below. Leave it where it is.
To move the data to etcd, take a snapshot with `etcdctl snapshot save` and restore it with `etcdutl snapshot restore`.
";

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What it is.
    pub found: Found,
    /// Names beside our own. etcd warns of each: `found invalid file under data directory`.
    pub strangers: Vec<String>,
    /// Permission bits, when others than the owner may enter.
    pub open_to_others: Option<u32>,
}

/// What a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty directory.
    Fresh,
    /// A first start that ended before it served.
    Unfinished,
    /// A member's data.
    Ours(Identity),
}

/// Why a directory cannot be used. Each text names what was found and the cure.
#[derive(Debug)]
pub enum DataDirError {
    /// etcd's data lies there.
    Etcd(PathBuf),
    /// Unknown files lie there, and no identity.
    Strangers(PathBuf, Vec<String>),
    /// Some of our files lie there, and no identity.
    IdentityMissing(PathBuf, Vec<String>),
    /// The identity cannot be read.
    Identity(PathBuf, IdentityError),
    /// Another process is at home; its id, if the system tells.
    Locked(PathBuf, Option<u32>),
    /// Another process made a member of it during this start.
    Appeared(PathBuf),
    /// The system refused.
    Io(PathBuf, &'static str, io::Error),
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataDirError::Etcd(dir) => write!(
                f,
                "data directory {} holds the data of an etcd ({NOTE}/ is a directory); keep it for etcd, and name an \
                 empty directory with --data-dir",
                dir.display()
            ),
            DataDirError::Strangers(dir, names) => write!(
                f,
                "data directory {} holds files of something else ({}); name an empty directory with --data-dir, or \
                 move them away",
                dir.display(),
                names.join(", ")
            ),
            DataDirError::IdentityMissing(dir, names) => write!(
                f,
                "data directory {} has lost its file {IDENTITY} but still holds {}; restore it from a backup, or name \
                 an empty directory with --data-dir",
                dir.display(),
                names.join(", ")
            ),
            DataDirError::Identity(file, why) => {
                write!(f, "{}: {why}; restore it from a backup of this member", file.display())
            }
            DataDirError::Locked(dir, pid) => {
                let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                write!(
                    f,
                    "data directory {} is in use by {who}; stop it, or name another --data-dir",
                    dir.display()
                )
            }
            DataDirError::Appeared(dir) => write!(
                f,
                "data directory {} became a member's while this start began; start again, once",
                dir.display()
            ),
            DataDirError::Io(path, what, error) => write!(f, "cannot {what} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {}

/// Looks at `path` without changing anything there.
pub fn inspect(path: &Path) -> Result<Inspection, DataDirError> {
    let names = match list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Inspection { found: Found::Fresh, strangers: Vec::new(), open_to_others: None });
        }
        Err(error) => return Err(DataDirError::Io(path.to_owned(), "read directory", error)),
    };
    if path.join(NOTE).is_dir() {
        return Err(DataDirError::Etcd(path.to_owned()));
    }
    let (ours, strangers): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| OURS.contains(&name.as_str()));
    let has = |name: &str| ours.iter().any(|ours| ours == name);
    let found = if has(IDENTITY) {
        let file = path.join(IDENTITY);
        let bytes = fs::read(&file).map_err(|error| DataDirError::Io(file.clone(), "read", error))?;
        Found::Ours(Identity::decode(&bytes).map_err(|why| DataDirError::Identity(file, why))?)
    } else if has(IDENTITY_NEW) {
        Found::Unfinished
    } else if !ours.is_empty() && ours != [NOTE] {
        return Err(DataDirError::IdentityMissing(path.to_owned(), ours));
    } else if has(NOTE) && !is_our_note(path) {
        return Err(DataDirError::Strangers(path.to_owned(), ours));
    } else if strangers.iter().any(|name| !HARMLESS.contains(&name.as_str())) {
        return Err(DataDirError::Strangers(path.to_owned(), strangers));
    } else {
        Found::Fresh
    };
    let mode = fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777).unwrap_or(0o700);
    Ok(Inspection { found, strangers, open_to_others: Some(mode).filter(|mode| mode & 0o077 != 0) })
}

/// Somebody's own file of that name must not be overwritten.
fn is_our_note(path: &Path) -> bool {
    fs::read(path.join(NOTE)).is_ok_and(|text| text == NOTE_TEXT.as_bytes())
}

fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A data directory this process holds. The lock goes with it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    log: PathBuf,
    identity: Identity,
    /// Open for its lock; it follows the inode through the rename of [`DataDir::commit`].
    _lock: File,
}

impl DataDir {
    /// Step 1 of a first start. `wal_dir` is where the log lies if not here.
    ///
    /// Also for [`Found::Unfinished`]: what the unfinished start left of log, history and index is removed
    /// first. [`DataDirError::Locked`] when another start is at it, [`DataDirError::Appeared`] when one was
    /// faster.
    pub fn create(path: &Path, wal_dir: Option<&Path>, identity: Identity) -> Result<DataDir, DataDirError> {
        make_dir(path)?;
        let new = path.join(IDENTITY_NEW);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&new);
        let mut file = file.map_err(|error| DataDirError::Io(new.clone(), "create", error))?;
        lock::take(&file, Duration::ZERO).map_err(|holder| locked(path, holder))?;
        // Another start may have come and gone since the caller looked; its data must not be cleared.
        if path.join(IDENTITY).exists() {
            return Err(DataDirError::Appeared(path.to_owned()));
        }
        clear_unfinished(path)?;
        let write = |file: &mut File, bytes: &[u8]| {
            file.set_len(0)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write(&mut file, &identity.encode()).map_err(|error| DataDirError::Io(new, "write", error))?;
        let note = path.join(NOTE);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&note)
            .and_then(|mut file| write(&mut file, NOTE_TEXT.as_bytes()))
            .map_err(|error| DataDirError::Io(note, "write", error))?;
        let log = wal_dir.map_or_else(|| path.join(LOG), Path::to_owned);
        make_dir(&log)?;
        make_dir(&path.join(HISTORY))?;
        sync_dir(path)?;
        Ok(DataDir { path: path.to_owned(), log, identity, _lock: file })
    }

    /// Step 3 of a first start: from here on the directory is a member's, whatever happens. A `recorder` notes it.
    pub fn commit(&mut self, recorder: Option<&Recorder>) -> Result<(), DataDirError> {
        let noted = recorder.map(|r| (r, r.begin_rename(IDENTITY_NEW.as_ref(), IDENTITY.as_ref())));
        let (from, to) = (self.path.join(IDENTITY_NEW), self.path.join(IDENTITY));
        let renamed = fs::rename(&from, &to).map_err(|error| DataDirError::Io(to, "create", error));
        let committed = renamed.and_then(|()| sync_dir(&self.path));
        if let Some((recorder, begun)) = noted {
            recorder.end(begun, committed.is_ok());
        }
        committed
    }

    /// Takes the directory of a member, waiting up to `wait` for the process that holds it.
    pub fn open(path: &Path, wal_dir: Option<&Path>, wait: Duration) -> Result<DataDir, DataDirError> {
        let file_path = path.join(IDENTITY);
        let io = |what, error| DataDirError::Io(file_path.clone(), what, error);
        let file = OpenOptions::new().read(true).write(true).open(&file_path).map_err(|e| io("open", e))?;
        lock::take(&file, wait).map_err(|holder| locked(path, holder))?;
        let bytes = fs::read(&file_path).map_err(|error| io("read", error))?;
        let identity =
            Identity::decode(&bytes).map_err(|why| DataDirError::Identity(file_path.clone(), why))?;
        let log = wal_dir.map_or_else(|| path.join(LOG), Path::to_owned);
        Ok(DataDir { path: path.to_owned(), log, identity, _lock: file })
    }

    /// Who the member is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directory of the log segments.
    pub fn log_dir(&self) -> &Path {
        &self.log
    }

    /// Directory of the history segments.
    pub fn history_dir(&self) -> PathBuf {
        self.path.join(HISTORY)
    }

    /// File of the index.
    pub fn index_file(&self) -> PathBuf {
        self.path.join(INDEX)
    }
}

/// A log in a directory of its own is left alone: the log's own checks find out whose it is.
fn clear_unfinished(path: &Path) -> Result<(), DataDirError> {
    for name in [LOG, HISTORY, INDEX, RESERVE] {
        let victim = path.join(name);
        let removed = match name {
            INDEX | RESERVE => fs::remove_file(&victim),
            _ => fs::remove_dir_all(&victim),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DataDirError::Io(victim, "remove", error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn locked(path: &Path, refusal: lock::Refusal) -> DataDirError {
    match refusal {
        lock::Refusal::Held(pid) => DataDirError::Locked(path.to_owned(), pid),
        lock::Refusal::Io(error) => DataDirError::Io(path.to_owned(), "lock", error),
    }
}

/// Makes a directory for the owner alone, its parents first, and makes each name durable.
fn make_dir(path: &Path) -> Result<(), DataDirError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(DataDirError::Io(path.to_owned(), "create directory", error))
        }
        // Another start may be at the same place; the lock sorts that out.
        _ => sync_dir(parent),
    }
}

fn sync_dir(path: &Path) -> Result<(), DataDirError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(|error| DataDirError::Io(path.to_owned(), "sync directory", error))
}

#[cfg(test)]
mod tests;
