//! The ports of a server.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use net::listen::Listener;

use super::refuse;
use crate::config::Config;
use crate::flags::Failure;
use crate::url::{Scheme, Url};

/// A port that was taken.
pub(super) struct Bound {
    /// What clients would call it; with port 0 in the URL, the port that was given.
    pub(super) address: String,
    pub(super) listener: Listener,
    /// Its name in the file system, if it has one.
    pub(super) name: Option<Name>,
}

/// The name of a socket in the file system, which goes with its server.
pub(super) struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        // If it is gone already, that is what was wanted.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Takes the ports of `urls`.
pub(super) fn bind(urls: &[Url], config: &Config) -> Result<Vec<Bound>, Failure> {
    urls.iter().map(|url| bind_one(url, config)).collect()
}

fn bind_one(url: &Url, config: &Config) -> Result<Bound, Failure> {
    match url.scheme() {
        Scheme::Http => {
            let address = address_of(url).map_err(refuse)?;
            let listener = bind_patiently(|| Listener::bind(address, config.socket.reuse_port))
                .map_err(|error| in_the_way("tcp", &address.to_string(), &error))?;
            let address = listener.local_address().map_or_else(|_| address.to_string(), |a| a.to_string());
            Ok(Bound { address, listener, name: None })
        }
        Scheme::Unix => {
            let address = url.address().to_owned();
            let path = PathBuf::from(&address);
            let listener = bind_patiently(|| Listener::bind_unix(&path))
                .map_err(|error| in_the_way("unix", &address, &error))?;
            Ok(Bound { address, listener, name: Some(Name(path)) })
        }
        Scheme::Https | Scheme::Unixs => Err(refuse(format!("{}: TLS is not built yet", url.as_str()))),
    }
}

/// Go's sentence.
fn in_the_way(network: &str, address: &str, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        _ => error.to_string(),
    };
    refuse(format!("listen {network} {address}: bind: {reason}"))
}

/// How long a busy port may still be that of a process which was just killed: the kernel keeps its sockets until the
/// last operation on its ring has ended.
const PORT_WAIT: Duration = Duration::from_secs(1);

fn bind_patiently(bind: impl Fn() -> io::Result<Listener>) -> io::Result<Listener> {
    let begun = Instant::now();
    loop {
        match bind() {
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
