//! Telling systemd how far the start has come: the `sd_notify` protocol.
//!
//! One datagram a state, to the socket that `NOTIFY_SOCKET` names: a path, or with a leading `@` an abstract
//! name. Without the variable there is nobody to tell. etcd sends `READY=1` once the member serves;
//! `STOPPING=1` is ours.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The member serves.
    Ready,
    /// The process ends.
    Stopping,
}

impl State {
    fn datagram(self) -> &'static [u8] {
        match self {
            State::Ready => b"READY=1",
            State::Stopping => b"STOPPING=1",
        }
    }
}

/// Tells `state` to the socket that `notify_socket` (the value of `NOTIFY_SOCKET`) names. Never blocks.
///
/// Gives whether there was anybody to tell.
pub fn notify(notify_socket: Option<&str>, state: State) -> io::Result<bool> {
    let Some(name) = notify_socket.filter(|name| !name.is_empty()) else { return Ok(false) };
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.datagram(), &address)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut buf = [0; 64];
        let len = socket.recv(&mut buf).unwrap();
        buf[..len].to_vec()
    }

    #[test]
    fn by_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        assert!(notify(path.to_str(), State::Ready).unwrap());
        assert_eq!(received(&socket), b"READY=1");
    }

    #[test]
    fn by_abstract_name() {
        let name = format!("kontiki-notify-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert!(notify(Some(&format!("@{name}")), State::Stopping).unwrap());
        assert_eq!(received(&socket), b"STOPPING=1");
    }

    #[test]
    fn nobody_to_tell() {
        assert!(!notify(None, State::Ready).unwrap());
        assert!(!notify(Some(""), State::Ready).unwrap());
        assert!(notify(Some("/nonexistent/notify"), State::Ready).is_err());
    }
}
