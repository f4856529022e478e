//! The one system call of this crate that has no safe wrapper.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::io_uring::{io_uring_params, io_uring_setup};

/// Sets a ring of two entries up; dropping the descriptor takes it down again.
pub(super) fn set_up() -> Result<OwnedFd, Errno> {
    let mut params = io_uring_params::default();
    // SAFETY: `wq_fd` must be an open descriptor if the ATTACH_WQ flag is set; the default sets no flag.
    unsafe { io_uring_setup(2, &mut params) }
}
