//! Whether a file system allows the index to be mapped: what a write puts into a file must show in a mapping of it.
//!
//! True of every local Linux file system; not of some network and FUSE ones. It is asked once, on a scratch file, as
//! the answer decides how the index is opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memmap2::MmapOptions;

use super::page::PAGE_SIZE;

/// Writes to `scratch`, a file of the directory in question whose contents do not matter, opened for reading and
/// writing, and looks whether a mapping shows it. Blocks for a few system calls.
///
/// Errors: the file could not be written. A refused mapping is an answer: not coherent.
pub fn is_coherent(scratch: &File) -> io::Result<bool> {
    scratch.write_all_at(&[0x11; PAGE_SIZE], 0)?;
    // SAFETY: the file is a scratch file that nobody but us writes or cuts; the bytes are compared as volatile reads
    // of single bytes below, so a change between them is no hazard.
    let Ok(mapping) = (unsafe { MmapOptions::new().len(PAGE_SIZE).map(scratch) }) else {
        return Ok(false);
    };
    let shows = |byte| {
        // SAFETY: both addresses lie in the mapping, which is one page long and backed by a page of the file.
        [0, PAGE_SIZE - 1].iter().all(|at| unsafe { mapping.as_ptr().add(*at).read_volatile() } == byte)
    };
    if !shows(0x11) {
        return Ok(false);
    }
    scratch.write_all_at(&[0xee; PAGE_SIZE], 0)?;
    Ok(shows(0xee))
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_the_tests_is_coherent() {
        let path = std::env::temp_dir().join(format!("kontiki-coherent-{}", std::process::id()));
        let options = File::options().read(true).write(true).create(true).truncate(true).clone();
        let file = options.open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(is_coherent(&file).unwrap());
    }
}
