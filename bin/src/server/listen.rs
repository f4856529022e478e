//! The ports of a server.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use net::listen::Listener;

use super::refuse;
use crate::config::Config;
use crate::flags::Failure;
use crate::url::{Scheme, Url};

/// Takes the ports of `urls`.
pub(super) fn bind(urls: &[Url], config: &Config) -> Result<Vec<(Url, Listener)>, Failure> {
    let mut listeners = Vec::new();
    for url in urls {
        if url.scheme() != Scheme::Http {
            return Err(refuse(format!("{}: only http:// URLs can be listened on yet", url.as_str())));
        }
        let address = address_of(url).map_err(refuse)?;
        let listener = bind_patiently(address, config.socket.reuse_port).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::AddrInUse => "address already in use".to_owned(),
                _ => error.to_string(),
            };
            refuse(format!("listen tcp {address}: bind: {reason}"))
        })?;
        listeners.push((url.clone(), listener));
    }
    Ok(listeners)
}

/// How long a busy port may still be that of a process which was just killed: the kernel keeps its sockets until the
/// last operation on its ring has ended.
const PORT_WAIT: Duration = Duration::from_secs(1);

fn bind_patiently(address: SocketAddr, reuse_port: bool) -> io::Result<Listener> {
    let begun = Instant::now();
    loop {
        match Listener::bind(address, reuse_port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < PORT_WAIT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// The address to bind: an IP address, or localhost.
fn address_of(url: &Url) -> Result<SocketAddr, String> {
    let found = match url.host().parse::<IpAddr>() {
        Ok(ip) => url.port().parse().map(|port| SocketAddr::new(ip, port)).ok(),
        Err(_) => {
            let mut all = url.address().to_socket_addrs().map_err(|error| error.to_string())?;
            let first = all.next();
            // Go prefers IPv4 when a name has both.
            first.into_iter().chain(all).min_by_key(SocketAddr::is_ipv6)
        }
    };
    found.ok_or_else(|| format!("{}: no address to listen on", url.as_str()))
}
