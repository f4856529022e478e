//! Every kind of directory a start may meet.

use super::*;

const ID: Identity = Identity { cluster_id: 1, member_id: 2 };

fn dir() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a").join("data");
    (parent, path)
}

fn created(path: &Path) {
    DataDir::create(path, None, ID).unwrap().commit(None).unwrap();
}

/// Lays `entries` (a trailing slash is a folder) and inspects.
fn inspect_with(entries: &[&str]) -> Result<Inspection, DataDirError> {
    let (_parent, path) = dir();
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in entries {
        match entry.strip_suffix('/') {
            Some(folder) => fs::create_dir_all(path.join(folder)).unwrap(),
            None => fs::write(path.join(entry), "x").unwrap(),
        }
    }
    inspect(&path)
}

#[test]
fn what_was_never_a_member_is_fresh() {
    for (entries, strangers) in [(&[] as &[&str], &[] as &[&str]), (&["lost+found/"], &["lost+found"])] {
        let inspection = inspect_with(entries).unwrap();
        assert_eq!(inspection.found, Found::Fresh, "{entries:?}");
        assert_eq!(inspection.strangers, strangers);
    }
    assert_eq!(inspect(Path::new("/nonexistent/data")).unwrap().found, Found::Fresh);
}

#[test]
fn our_note_alone_is_fresh() {
    let (_parent, path) = dir();
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join(NOTE), NOTE_TEXT).unwrap();
    assert_eq!(inspect(&path).unwrap().found, Found::Fresh);
}

#[test]
fn nothing_is_started_over() {
    for (entries, text) in [
        (&["member/"] as &[&str], "holds the data of an etcd (member/ is a directory)"),
        (&["member/", "identity"], "holds the data of an etcd"),
        (&["member"], "holds files of something else (member)"),
        (&["x.db"], "holds files of something else (x.db)"),
        (&["lost+found/", "proxy/"], "holds files of something else (lost+found, proxy)"),
        (&["member", "index.db"], "has lost its file identity but still holds index.db, member"),
        (&["log/"], "has lost its file identity but still holds log"),
        (&["identity"], "not an identity file"),
    ] {
        let error = inspect_with(entries).unwrap_err().to_string();
        assert!(error.contains(text), "{entries:?}: {error}");
    }
}

#[test]
fn a_first_start_in_steps() {
    let (_parent, path) = dir();
    let mut data = DataDir::create(&path, None, ID).unwrap();
    assert_eq!(inspect(&path).unwrap().found, Found::Unfinished);
    assert!(data.log_dir().is_dir() && data.history_dir().is_dir());
    fs::write(data.index_file(), "half").unwrap();
    data.commit(None).unwrap();
    assert_eq!(
        inspect(&path).unwrap(),
        Inspection { found: Found::Ours(ID), strangers: Vec::new(), open_to_others: None }
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(path.join(IDENTITY)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_unfinished_start_is_begun_again() {
    let (_parent, path) = dir();
    let data = DataDir::create(&path, None, Identity { cluster_id: 7, member_id: 7 }).unwrap();
    fs::write(data.log_dir().join("segment"), "half").unwrap();
    fs::write(data.index_file(), "half").unwrap();
    drop(data);
    let mut data = DataDir::create(&path, None, ID).unwrap();
    assert!(!data.index_file().exists());
    assert_eq!(fs::read_dir(data.log_dir()).unwrap().count(), 0);
    data.commit(None).unwrap();
    assert_eq!(inspect(&path).unwrap().found, Found::Ours(ID));
}

#[test]
fn two_starts_exclude_each_other() {
    let (_parent, path) = dir();
    let mut first = DataDir::create(&path, None, ID).unwrap();
    assert!(matches!(DataDir::create(&path, None, ID), Err(DataDirError::Locked(..))));
    first.commit(None).unwrap();
    // The lock has followed the file through its rename.
    let error = DataDir::open(&path, None, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("is in use by "), "{error}");
    drop(first);
    assert_eq!(*DataDir::open(&path, None, Duration::ZERO).unwrap().identity(), ID);
}

#[test]
fn a_faster_start_is_not_cleared_away() {
    let (_parent, path) = dir();
    created(&path);
    fs::write(path.join(INDEX), "data").unwrap();
    assert!(matches!(DataDir::create(&path, None, ID), Err(DataDirError::Appeared(_))));
    assert!(path.join(INDEX).exists());
}

#[test]
fn a_log_may_lie_elsewhere() {
    let (_parent, path) = dir();
    let wal = path.with_file_name("wal");
    let data = DataDir::create(&path, Some(&wal), ID).unwrap();
    assert_eq!(data.log_dir(), wal);
    assert!(wal.is_dir() && !path.join(LOG).exists());
}

#[test]
fn strangers_beside_data_and_open_doors_are_told() {
    let (_parent, path) = dir();
    created(&path);
    fs::create_dir(path.join("backup")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let inspection = inspect(&path).unwrap();
    assert_eq!(inspection.found, Found::Ours(ID));
    assert_eq!(inspection.strangers, ["backup"]);
    assert_eq!(inspection.open_to_others, Some(0o755));
}

/// Etcd's `MkdirAll(member/snap)` fails over a file called `member`: that is what the note is for.
#[test]
fn etcd_cannot_make_its_folder_here() {
    let (_parent, path) = dir();
    created(&path);
    assert!(fs::create_dir_all(path.join("member/snap")).is_err());
    assert!(fs::read_to_string(path.join(NOTE)).unwrap().contains("not of etcd"));
}
