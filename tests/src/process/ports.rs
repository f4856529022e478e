//! Ports of every kind: sockets in the file system, a port for metrics alone, and port 0.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::scratch::free_ports;
use crate::server::{Binary, Server, Site};

use super::{Failure, Verdict, ensure};

const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Starts `binary` twice on the same name in the file system: after a kill, which leaves it there, and after a SIGTERM,
/// which does not.
pub fn run(binary: &Binary) -> Verdict {
    let mut site = Site::new("ports")?;
    let [metrics] = free_ports()?;
    let name = site.scratch().path().join("client.sock");
    let clients = format!("--listen-client-urls=http://{},unix://{}", site.client(), name.display());
    let metrics_url = format!("--listen-metrics-urls=http://127.0.0.1:{metrics}");
    // The URL that members are told stays the one of the site.
    let flags = [clients.as_str(), &metrics_url, "--listen-peer-urls=http://127.0.0.1:0"];
    let start = |site| Server::start_at(binary, site, &flags).map_err(|(error, _)| error);

    let server = start(site)?;
    check(&get(UnixStream::connect(&name)?, "/health")?, "200", r#""health":"true""#)?;
    check(&get(UnixStream::connect(&name)?, "/version")?, "200", "etcdserver")?;
    let site = server.kill()?;
    ensure(name.exists(), || format!("{} went with a kill -9", name.display()))?;

    let server = start(site)?;
    check(&get(UnixStream::connect(&name)?, "/readyz")?, "200", "ok")?;
    let ask_metrics =
        |path| -> Result<String, Failure> { get(TcpStream::connect(("127.0.0.1", metrics))?, path) };
    check(&ask_metrics("/metrics")?, "200", "etcd_server_has_leader 1")?;
    check(&ask_metrics("/health")?, "200", r#""health":"true""#)?;
    check(&ask_metrics("/version")?, "404", "404 page not found")?;
    let peer = server.log().into_iter().find(|line| line.contains("serving peer traffic"));
    ensure(peer.as_ref().is_some_and(|line| !line.contains(":0\"")), || {
        format!("the port that was given for port 0 is not told: {peer:?}")
    })?;
    server.terminate()?;
    ensure(!name.exists(), || format!("{} is still there after SIGTERM", name.display()))?;
    Ok("sockets in the file system, metrics alone, port 0".to_owned())
}

fn check(answer: &str, code: &str, says: &str) -> Result<(), Failure> {
    let good = answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.contains(says);
    ensure(good, || format!("should be {code} with {says:?}: {answer}"))
}

fn get(mut stream: impl Read + Write + Timeout, path: &str) -> Result<String, Failure> {
    stream.limit(ANSWER_MAX)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A stream that gives up.
trait Timeout {
    fn limit(&self, time: Duration) -> std::io::Result<()>;
}

impl Timeout for TcpStream {
    fn limit(&self, time: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

impl Timeout for UnixStream {
    fn limit(&self, time: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}
