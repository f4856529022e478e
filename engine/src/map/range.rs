//! A reserved range of addresses, in units of a page: the system calls behind it.
//!
//! The range is reserved without access rights, which costs nothing, and opened chunk by chunk; a file is placed over
//! its first part. Under Miri it is an ordinary allocation, so everything but the mapping of a file runs there.

use std::ptr::NonNull;

use super::page::PAGE_SIZE;

/// Units opened at a time: 2 MiB, a huge page where the system grants one. The range starts on such a boundary.
pub(super) const CHUNK_UNITS: u32 = 512;

/// Why pages of the mapping are not resident.
#[derive(Debug)]
pub(super) enum Unpopulated {
    /// The file could not be read.
    Read(std::io::Error),
    /// The memory may not be locked (RLIMIT_MEMLOCK, or too many mappings), or the kernel is too old to populate.
    Unlockable,
}

/// A reserved range of addresses.
#[derive(Debug)]
pub(super) struct Range {
    base: NonNull<u8>,
    units: usize,
    #[cfg(not(miri))]
    reservation: NonNull<u8>,
    #[cfg(not(miri))]
    reserved: usize,
}

// SAFETY: the range is plain memory; who reads and writes which part of it when is settled by the duties of the
// unsafe functions of `Space`, which hold across threads.
unsafe impl Send for Range {}
// SAFETY: as for Send; all methods take `&self` and are system calls or address arithmetic.
unsafe impl Sync for Range {}

#[cfg(not(miri))]
const CHUNK_BYTES: usize = CHUNK_UNITS as usize * PAGE_SIZE;

impl Range {
    /// Address of the first unit.
    pub fn start(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// Address of a unit.
    ///
    /// # Safety
    ///
    /// - `unit` is inside the range.
    pub unsafe fn unit(&self, unit: u32) -> NonNull<u8> {
        debug_assert!((unit as usize) < self.units, "unit {unit} is beyond {} units", self.units);
        // SAFETY: inside the range by the caller's duty, so the sum stays inside the one reservation.
        unsafe { self.base.add(unit as usize * PAGE_SIZE) }
    }
}

#[cfg(not(miri))]
impl Range {
    /// Reserves `units`, none of which may be touched yet.
    pub fn reserve(units: usize) -> std::io::Result<Range> {
        let reserved = units * PAGE_SIZE + CHUNK_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), reserved, libc::PROT_NONE, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let reservation = NonNull::new(address.cast::<u8>()).expect("the kernel never places a mapping at 0");
        let skip = reservation.as_ptr().align_offset(CHUNK_BYTES);
        assert!(skip < CHUNK_BYTES, "alignment skips {skip} bytes");
        // SAFETY: `skip` is below the CHUNK_BYTES by which the reservation is longer than the range.
        let base = unsafe { reservation.add(skip) };
        Ok(Range { base, units, reservation, reserved })
    }

    /// Opens units for reading and writing and faults them in.
    pub fn open(&self, first: u32, count: u32) -> std::io::Result<()> {
        let (start, len) = self.stretch(first, count);
        // SAFETY: the units lie inside our own reservation, and giving them rights changes no bytes.
        if unsafe { libc::mprotect(start, len, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // Both are advice: on an older kernel or without huge pages the first touch pays.
        // SAFETY: as above; neither call changes bytes, it only backs untouched zeroes with memory.
        unsafe {
            libc::madvise(start, len, libc::MADV_HUGEPAGE);
            libc::madvise(start, len, libc::MADV_POPULATE_WRITE);
        }
        Ok(())
    }

    /// Places a read-only mapping of the file over the first `units`, whatever its length.
    pub fn map_file(&self, file: &std::fs::File, units: usize) -> std::io::Result<()> {
        use std::os::fd::AsRawFd;
        let len = units * PAGE_SIZE;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let start = self.base.as_ptr().cast();
        // SAFETY: replaces the first part of our own reservation, where nothing is in use yet; the range is longer
        // than `len`, and `file` stays open for the duration of the call, which is all the kernel needs.
        let address = unsafe { libc::mmap(start, len, libc::PROT_READ, flags, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: advice on our own mapping. Random: a populate brings in what it names and nothing around it.
        unsafe { libc::madvise(start, len, libc::MADV_RANDOM) };
        Ok(())
    }

    /// Faults in mapped units and locks them.
    pub fn populate(&self, first: u32, count: u32) -> Result<(), Unpopulated> {
        let (start, len) = self.stretch(first, count);
        // Random access is advised, so populating alone would read page by page: ask for the whole stretch first.
        // SAFETY: the units lie in our own mapping; reading ahead, populating and locking change no bytes.
        let outcome = unsafe {
            libc::madvise(start, len, libc::MADV_WILLNEED);
            libc::madvise(start, len, libc::MADV_POPULATE_READ)
        };
        if outcome != 0 {
            let error = std::io::Error::last_os_error();
            // Linux before 5.14 does not know the advice.
            let unknown = error.raw_os_error() == Some(libc::EINVAL);
            return Err(if unknown { Unpopulated::Unlockable } else { Unpopulated::Read(error) });
        }
        // SAFETY: as above.
        if unsafe { libc::mlock(start, len) } != 0 {
            return Err(Unpopulated::Unlockable);
        }
        Ok(())
    }

    /// Unlocks mapped units and lets the system have their memory.
    pub fn depopulate(&self, first: u32, count: u32) {
        let (start, len) = self.stretch(first, count);
        // SAFETY: the units lie in our own mapping of a file, which is read-only: unlocking and dropping its pages
        // changes no bytes, the next touch reads them again.
        unsafe {
            libc::munlock(start, len);
            libc::madvise(start, len, libc::MADV_DONTNEED);
        }
    }

    /// Address and length in bytes of some units, for a system call.
    fn stretch(&self, first: u32, count: u32) -> (*mut libc::c_void, usize) {
        assert!(
            first as usize + count as usize <= self.units,
            "{count} units from {first} are beyond the range"
        );
        // SAFETY: inside the range, as just asserted.
        (unsafe { self.unit(first) }.as_ptr().cast(), count as usize * PAGE_SIZE)
    }
}

#[cfg(not(miri))]
impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `reserve` mapped; the last owner is gone, so no reference into it is left.
        let outcome = unsafe { libc::munmap(self.reservation.as_ptr().cast(), self.reserved) };
        debug_assert_eq!(outcome, 0, "unmapping our own range failed");
    }
}

#[cfg(miri)]
impl Range {
    fn layout(units: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(units * PAGE_SIZE, PAGE_SIZE).expect("test limits are small")
    }

    pub fn reserve(units: usize) -> std::io::Result<Range> {
        // SAFETY: limits are checked to be above zero.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(Range::layout(units)) }).expect("memory");
        Ok(Range { base, units })
    }

    pub fn open(&self, _: u32, _: u32) -> std::io::Result<()> {
        Ok(())
    }

    pub fn map_file(&self, _: &std::fs::File, _: usize) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub fn populate(&self, _: u32, _: u32) -> Result<(), Unpopulated> {
        unreachable!("nothing can be mapped under Miri")
    }

    pub fn depopulate(&self, _: u32, _: u32) {
        unreachable!("nothing can be mapped under Miri")
    }
}

#[cfg(miri)]
impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `alloc_zeroed` with the same layout.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), Range::layout(self.units)) }
    }
}
