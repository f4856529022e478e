//! The house rules that a machine can check. Each message says what to do about it.

mod layers;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::root;

/// Never looked at: built, fetched or written by other tools.
const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", "Cargo.lock", "go.sum"];
/// Below the root: programs and data of others.
const BORROWED: [&str; 1] = ["tests/borrowed/bin"];
/// What is checked as text.
const EXTENSIONS: [&str; 10] = ["rs", "toml", "md", "sh", "proto", "fbs", "go", "yml", "yaml", "txt"];

/// One file of the repository.
struct File {
    /// Relative to the root, with slashes.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1; 0 for the whole file.
    line: usize,
    message: String,
}

/// Checks the whole repository; true if it is tidy.
pub fn run() -> bool {
    let start = Instant::now();
    let mut paths = Vec::new();
    collect(&root(), &mut paths);
    paths.sort();
    let mut findings = Vec::new();
    let mut count = 0;
    for path in paths {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        let file = File { path, text };
        findings.extend(text::check(&file));
        findings.extend(layers::check(&file));
        count += 1;
    }
    for Finding { path, line, message } in &findings {
        println!("{path}:{line}: {message}");
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("xtask: {:12} {seconds:7.1} s  {count} files, {} findings", "tidy", findings.len());
    findings.is_empty()
}

/// Adds all files below `folder` that are ours, as paths relative to the root.
fn collect(folder: &Path, paths: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let relative = relative(&path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) || BORROWED.contains(&relative.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else if is_text(&path) {
            paths.push(relative);
        }
    }
}

fn relative(path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root()).unwrap_or(path).to_path_buf();
    path.to_string_lossy().replace('\\', "/")
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    EXTENSIONS.contains(&extension.as_ref()) || path.ends_with(".ci/run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        assert!(run(), "see the findings above");
    }
}
