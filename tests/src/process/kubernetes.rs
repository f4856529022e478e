//! The command lines and probes of those who start etcd for Kubernetes. Their URLs are `https` where they are `http`
//! here, as long as there is no TLS.
//!
//! - kubeadm 1.37: `cmd/kubeadm/app/phases/etcd/local.go`, and what the kubelet asks of the pod;
//! - envtest of controller-runtime: `pkg/internal/testing/controlplane/etcd.go`;
//! - Kubernetes' integration tests: `test/integration/framework/etcd.go`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use crate::client::Client;
use crate::scratch::free_ports;
use crate::server::{Binary, START_MAX, STOP_MAX, Server, Site};

use super::{Failure, Verdict, ensure};

/// Between two probes.
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// The shortest time that a kubelet gives a probe here; readiness and startup are the same.
const PROBE_MAX: Duration = Duration::from_secs(15);

/// Starts it in each of their ways.
pub fn run(binary: &Binary) -> Verdict {
    kubeadm(binary)?;
    envtest(binary)?;
    integration(binary)?;
    Ok("kubeadm's pod, envtest, and the integration tests of Kubernetes".to_owned())
}

/// The static pod: probes on the port for metrics, clients on two addresses, and a restart by the kubelet with the same
/// command line.
fn kubeadm(binary: &Binary) -> Result<(), Failure> {
    let mut site = Site::new("kubeadm")?;
    let [metrics] = free_ports()?;
    let probes = Target::Tcp(([127, 0, 0, 1], metrics).into());
    // 127.0.0.2 stands for the address of the host.
    let host = SocketAddr::from(([127, 0, 0, 2], site.client().port()));
    let peer = SocketAddr::from(([127, 0, 0, 2], site.peer().port()));
    let flags = [
        format!("--advertise-client-urls=http://{host}"),
        format!("--data-dir={}", site.data_dir().display()),
        "--feature-gates=InitialCorruptCheck=true".to_owned(),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=control-plane-1=http://{peer}"),
        format!("--listen-client-urls=http://{},http://{host}", site.client()),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        format!("--listen-peer-urls=http://{peer}"),
        "--name=control-plane-1".to_owned(),
        "--snapshot-count=10000".to_owned(),
        "--watch-progress-notify-interval=5s".to_owned(),
    ];
    for life in ["first", "second"] {
        let mut server = Server::launch_alone(binary, site, &flags)?;
        ready(&mut server, &probes, "/readyz")?;
        for (path, says) in [
            ("/livez", "ok"),
            // kubeadm before 1.34.
            ("/health?exclude=NOSPACE&serializable=true", r#""health":"true""#),
            ("/health?serializable=false", r#""health":"true""#),
            ("/metrics", "etcd_server_has_leader 1"),
        ] {
            probes.ask(path)?.must(path, 200, says)?;
        }
        Target::Tcp(host).ask("/version")?.must("/version", 200, r#""etcdserver":"3.6."#)?;
        for address in [host, server.client()] {
            let put = Client::open(address)?.put(b"/registry/health", life.as_bytes())?;
            ensure(put.is_ok(), || format!("a put through {address} in the {life} life: {put:?}"))?;
        }
        site = stop(server)?;
    }
    Ok(())
}

/// It looks into `--help` before it starts, and takes /health for ready.
fn envtest(binary: &Binary) -> Result<(), Failure> {
    let help = binary.run(&["--help"], START_MAX)?;
    let mut lines = help.output.iter().map(|line| line.trim_start());
    ensure(help.status.success() && lines.any(|line| line.starts_with("--unsafe-no-fsync")), || {
        format!("--help, {}, shows no line of --unsafe-no-fsync", help.status)
    })?;
    let mut site = Site::new("envtest")?;
    let client = Target::Tcp(site.client());
    // It makes the directory, of mode 0700.
    let dir = site.scratch().path().to_owned();
    let flags = [
        format!("--advertise-client-urls=http://{}", site.client()),
        format!("--data-dir={}", dir.display()),
        format!("--listen-client-urls=http://{}", site.client()),
        format!("--listen-peer-urls=http://{}", site.peer()),
        "--unsafe-no-fsync=true".to_owned(),
    ];
    let mut server = Server::launch_alone(binary, site, &flags)?;
    ready(&mut server, &client, "/health")?;
    stop(server)?;
    Ok(())
}

/// Flags with one dash and two words, a socket in the data directory, and port 0.
fn integration(binary: &Binary) -> Result<(), Failure> {
    let mut site = Site::new("integration")?;
    let dir = site.scratch().path().to_owned();
    let socket = dir.join("etcd.sock");
    let flags = [
        "--data-dir",
        &dir.display().to_string(),
        "--listen-client-urls",
        &format!("unix://{}", socket.display()),
        "--advertise-client-urls",
        "http://127.0.0.111:0",
        "--listen-peer-urls",
        "http://127.0.0.1:0",
        "-log-level",
        "warn",
        "--quota-backend-bytes",
        "8589934592",
    ]
    .map(str::to_owned);
    let mut server = Server::launch_alone(binary, site, &flags)?;
    ready(&mut server, &Target::Unix(socket), "/health")?;
    stop(server)?;
    Ok(())
}

/// Waits until a probe is answered with 200, as all of them do.
fn ready(server: &mut Server, target: &Target, path: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let answer = target.ask(path);
        if answer.as_ref().is_ok_and(|answer| answer.code == 200) {
            return Ok(());
        }
        ensure(begun.elapsed() < START_MAX && server.is_running(), || {
            format!("{target} {path} never said 200: {answer:?}\n{}", server.log().join("\n"))
        })?;
        thread::sleep(PROBE_PAUSE);
    }
}

fn stop(server: Server) -> Result<Site, Failure> {
    let (status, site) = server.terminate()?;
    let signal = status.and_then(|status| status.signal());
    ensure(signal == Some(15), || format!("SIGTERM gave {status:?}, should be death by it in {STOP_MAX:?}"))?;
    Ok(site)
}

/// Where probes go.
enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Target {
    fn ask(&self, path: &str) -> io::Result<Answer> {
        match self {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PROBE_MAX))?;
                exchange(stream, path)
            }
            Target::Unix(name) => {
                let stream = UnixStream::connect(name)?;
                stream.set_read_timeout(Some(PROBE_MAX))?;
                exchange(stream, path)
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => write!(f, "{address}"),
            Target::Unix(name) => write!(f, "{}", name.display()),
        }
    }
}

/// What a probe heard.
#[derive(Debug)]
struct Answer {
    code: u16,
    text: String,
}

impl Answer {
    fn must(&self, path: &str, code: u16, says: &str) -> Result<(), Failure> {
        ensure(self.code == code && self.text.contains(says), || {
            format!("{path} should be {code} and say {says:?}: {self:?}")
        })
    }
}

fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<Answer> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| io::Error::other(format!("no HTTP answer: {text:?}")))?;
    Ok(Answer { code, text })
}
