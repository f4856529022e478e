//! Writes the corpus: `cargo run -p kontiki-fuzz-targets`, after a target or a format has changed. What fuzzing
//! found and is kept under another name stays.
#![allow(clippy::disallowed_methods, reason = "a tool that writes files")]

use std::path::Path;

use targets::{TARGETS, corpus};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for target in &TARGETS {
        let folder = root.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in corpus(target) {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
