//! Directories and ports for one run: made on demand, gone when dropped.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed when dropped unless [`Scratch::keep`] was called.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes a new directory below [`scratch_root`]; `name` helps whoever finds it.
    pub fn new(name: &str) -> io::Result<Scratch> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = scratch_root().join(format!("{name}-{}-{number}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch { path, kept: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory behind, as evidence.
    pub fn keep(&mut self) -> &Path {
        self.kept = true;
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: what stays is below `target/` and named after this process.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// `KONTIKI_TEST_DIR`, or `target/tmp`: a real disk, where /tmp is often memory and refuses direct IO.
pub fn scratch_root() -> PathBuf {
    match std::env::var_os("KONTIKI_TEST_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => workspace().join("target/tmp"),
    }
}

/// The root of this repository.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is inside the workspace").to_path_buf()
}

/// `N` ports of 127.0.0.1 that were free a moment ago. Another process may still take one first, so whoever
/// listens on them must be ready to ask again.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    // All are held until all are known, or the kernel might give the same one twice.
    let listeners =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<Vec<_>>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_goes_with_its_owner() {
        let scratch = Scratch::new("scratch").unwrap();
        let path = scratch.path().to_path_buf();
        fs::write(path.join("file"), b"x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c, "{a} {b} {c}");
    }
}
