//! One server process: any etcd-compatible binary, started with etcd's flags in a directory of its own, watched
//! through its log, ended by its process id.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::scratch::{Scratch, free_ports, workspace};

/// The log line after which a server answers.
pub const READY: &str = "ready to serve client requests";
/// How long a start may take; a cold debug build on a busy machine needs seconds.
pub const START_MAX: Duration = Duration::from_secs(30);
/// How long a process may live on after SIGTERM.
pub const STOP_MAX: Duration = Duration::from_secs(5);
/// Another process may take a port between our choice and the server's bind.
const START_ATTEMPTS: usize = 3;

/// A program that can stand on either side of a comparison.
#[derive(Clone, Debug)]
pub struct Binary {
    /// What reports call it.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Flags it gets at every start.
    pub flags: Vec<String>,
    /// A program and its arguments that becomes the executable; empty if nothing stands before it.
    pub launcher: Vec<String>,
}

impl Binary {
    /// Real etcd: `etcd` in `ETCD_DIR`, or in `tests/borrowed/bin/etcd36`.
    pub fn etcd() -> Result<Binary, StartError> {
        let dir = match std::env::var_os("ETCD_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => workspace().join("tests/borrowed/bin/etcd36"),
        };
        Binary::at("etcd", &dir.join("etcd"), "run tests/borrowed/get-etcd.sh, or set ETCD_DIR")
    }

    /// The server under test: `KONTIKI_BIN`, or the newest of `target/{release,debug}/kontiki`.
    pub fn subject() -> Result<Binary, StartError> {
        let path = match std::env::var_os("KONTIKI_BIN") {
            Some(path) => PathBuf::from(path),
            None => newest_build(),
        };
        Binary::at("kontiki", &path, "run cargo build, or set KONTIKI_BIN")
    }

    /// The program at `path`, which must exist; `cure` tells the reader what to do when it does not.
    pub fn at(name: &str, path: &Path, cure: &str) -> Result<Binary, StartError> {
        if !path.is_file() {
            return Err(StartError::Missing { path: path.to_path_buf(), cure: cure.to_owned() });
        }
        Ok(Binary {
            name: name.to_owned(),
            path: path.to_path_buf(),
            flags: Vec::new(),
            launcher: Vec::new(),
        })
    }

    /// Runs it with `args` until it ends by itself, at most `limit`; then it is killed and the error says so.
    pub fn run(&self, args: &[&str], limit: Duration) -> io::Result<Ended> {
        self.run_with(args, &[], limit)
    }

    /// The same with variables in its environment.
    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)], limit: Duration) -> io::Result<Ended> {
        let mut command = self.command(args.iter().map(|&arg| arg.into()));
        let mut process = Process::new(command.envs(env.iter().copied()).spawn()?);
        let status = process.wait(limit)?.ok_or_else(|| {
            let lines = process.log.lines().join("\n");
            io::Error::new(io::ErrorKind::TimedOut, format!("still running after {limit:?}: {lines}"))
        })?;
        Ok(Ended { status, output: process.log.lines() })
    }

    fn command(&self, args: impl Iterator<Item = OsString>) -> Command {
        let mut words = self.launcher.iter().map(OsString::from).chain([self.path.clone().into_os_string()]);
        let mut command = Command::new(words.next().expect("the executable at least"));
        command.args(words);
        // A variable such as ETCD_NAME of the caller would shadow a flag and stop the server.
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(key);
            }
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn newest_build() -> PathBuf {
    let builds = ["release", "debug"].map(|profile| workspace().join("target").join(profile).join("kontiki"));
    let modified = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    builds.into_iter().max_by_key(modified).expect("two candidates")
}

/// A process that ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Its lines on stdout and stderr.
    pub output: Vec<String>,
}

/// Why no server is there.
#[derive(Debug)]
pub enum StartError {
    /// No such program.
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// What to do about it.
        cure: String,
    },
    /// It ended before it was ready.
    Ended {
        /// How.
        status: ExitStatus,
        /// Its last lines.
        log: Vec<String>,
    },
    /// It was not ready in time.
    Late {
        /// Its last lines.
        log: Vec<String>,
    },
    /// The system refused to start it or to give it a directory.
    Io(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError::Io(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Missing { path, cure } => write!(f, "{} is not there: {cure}", path.display()),
            StartError::Ended { status, log } => write!(f, "ended with {status}:\n{}", tail(log)),
            StartError::Late { log } => write!(f, "not ready after {START_MAX:?}:\n{}", tail(log)),
            StartError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

fn tail(log: &[String]) -> String {
    log[log.len().saturating_sub(12)..].join("\n")
}

/// Where a server keeps its data and listens; outlives the process, so that the next one can go on from it.
#[derive(Debug)]
pub struct Site {
    scratch: Scratch,
    client: u16,
    peer: u16,
}

impl Site {
    /// A new directory and two free ports.
    pub fn new(name: &str) -> io::Result<Site> {
        let [client, peer] = free_ports()?;
        Ok(Site { scratch: Scratch::new(name)?, client, peer })
    }

    /// The same kind of place around data that is already there, such as a copy.
    pub fn around(scratch: Scratch) -> io::Result<Site> {
        let [client, peer] = free_ports()?;
        Ok(Site { scratch, client, peer })
    }

    /// The directory that holds the data directory.
    pub fn scratch(&mut self) -> &mut Scratch {
        &mut self.scratch
    }

    /// What `--data-dir` names.
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The client port.
    pub fn client(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.client).into()
    }

    /// The peer port.
    pub fn peer(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.peer).into()
    }

    /// The flags that put a server here.
    pub fn flags(&self) -> Vec<String> {
        let client = format!("http://{}", self.client());
        let peer = format!("http://{}", self.peer());
        vec![
            "--name=m0".into(),
            format!("--data-dir={}", self.data_dir().display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=m0={peer}"),
        ]
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Process,
    site: Site,
}

impl Server {
    /// Starts `binary` in a new directory and waits until it is ready.
    pub fn start(binary: &Binary, flags: &[&str]) -> Result<Server, StartError> {
        let mut attempt = 1;
        loop {
            let site = Site::new(&binary.name)?;
            match Server::start_at(binary, site, flags) {
                Err((StartError::Ended { log, .. }, _))
                    if attempt < START_ATTEMPTS
                        && log.iter().any(|line| line.contains("address already in use")) =>
                {
                    attempt += 1;
                }
                result => return result.map_err(|(error, _)| error),
            }
        }
    }

    /// Starts `binary` at `site`, which comes back with the error if that fails.
    pub fn start_at(binary: &Binary, site: Site, flags: &[&str]) -> Result<Server, (StartError, Site)> {
        match launch(binary, &site, flags) {
            Ok(process) => Ok(Server { process, site }),
            Err(error) => Err((error, site)),
        }
    }

    /// Starts `binary` at `site` and does not wait for it.
    pub fn launch(binary: &Binary, site: Site, flags: &[&str]) -> io::Result<Server> {
        Ok(Server { process: spawn(binary, &site, flags)?, site })
    }

    /// Starts `binary` with `args` and nothing else, whatever `site` would say, and does not wait for it.
    pub fn launch_alone(binary: &Binary, site: Site, args: &[String]) -> io::Result<Server> {
        let process = Process::new(binary.command(args.iter().map(OsString::from)).spawn()?);
        Ok(Server { process, site })
    }

    /// kill -9, then `binary` again on the same data and ports.
    pub fn kill_and_restart(&mut self, binary: &Binary) -> Result<(), StartError> {
        self.process.child.kill()?;
        self.process.child.wait()?;
        self.process = launch(binary, &self.site, &[])?;
        Ok(())
    }

    /// SIGTERM, then `binary` again on the same data and ports.
    pub fn restart(&mut self, binary: &Binary) -> Result<(), StartError> {
        if self.process.terminate()?.is_none() {
            let text = format!("{} did not end within {STOP_MAX:?}", binary.name);
            return Err(io::Error::new(io::ErrorKind::TimedOut, text).into());
        }
        self.process = launch(binary, &self.site, &[])?;
        Ok(())
    }

    /// The client port.
    pub fn client(&self) -> SocketAddr {
        self.site.client()
    }

    /// Where it runs.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// All lines it has written so far.
    pub fn log(&self) -> Vec<String> {
        self.process.log.lines()
    }

    /// Waits until a line contains `text`.
    pub fn wait_for_line(&self, text: &str, limit: Duration) -> bool {
        self.process.log.wait_for(text, limit)
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }

    /// kill -9: nothing is flushed. The site stays.
    pub fn kill(mut self) -> io::Result<Site> {
        self.process.child.kill()?;
        self.process.child.wait()?;
        Ok(self.site)
    }

    /// SIGTERM, then waits at most [`STOP_MAX`]: `None` is a process that did not end and was killed.
    pub fn terminate(mut self) -> io::Result<(Option<ExitStatus>, Site)> {
        let status = self.process.terminate()?;
        Ok((status, self.site))
    }
}

fn launch(binary: &Binary, site: &Site, flags: &[&str]) -> Result<Process, StartError> {
    let mut process = spawn(binary, site, flags)?;
    process.wait_ready()?;
    Ok(process)
}

fn spawn(binary: &Binary, site: &Site, flags: &[&str]) -> io::Result<Process> {
    let args = site.flags().into_iter().chain(binary.flags.iter().cloned());
    let args = args.chain(flags.iter().map(|&flag| flag.to_owned())).map(OsString::from);
    Ok(Process::new(binary.command(args).spawn()?))
}

/// A child with its output collected; killed when dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    log: Log,
}

impl Process {
    fn new(mut child: Child) -> Process {
        let log = Log::default();
        log.collect(child.stdout.take().expect("stdout is piped"));
        log.collect(child.stderr.take().expect("stderr is piped"));
        Process { child, log }
    }

    fn wait_ready(&mut self) -> Result<(), StartError> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if self.log.wait_for(READY, Duration::from_millis(50)) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                // The last lines may still be on their way through the pipe.
                thread::sleep(Duration::from_millis(50));
                return Err(StartError::Ended { status, log: self.log.lines() });
            }
        }
        Err(StartError::Late { log: self.log.lines() })
    }

    /// How it ended after SIGTERM, or `None` after [`STOP_MAX`]; then it is killed.
    fn terminate(&mut self) -> io::Result<Option<ExitStatus>> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.wait(STOP_MAX)
    }

    /// How it ended, or `None` after `limit`; then it is killed.
    fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                thread::sleep(Duration::from_millis(20));
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a process, filled by one thread per stream.
#[derive(Clone, Debug, Default)]
struct Log {
    shared: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Log {
    fn collect(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { return };
                log.lock().push(String::from_utf8_lossy(&line).into_owned());
                log.shared.1.notify_all();
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn wait_for(&self, text: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut lines = self.lock();
        let mut seen = 0;
        loop {
            if lines[seen..].iter().any(|line| line.contains(text)) {
                return true;
            }
            seen = lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            lines = self.shared.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Binary {
        Binary::at("sh", Path::new("/bin/sh"), "a POSIX shell is needed").unwrap()
    }

    #[test]
    fn output_and_status_are_collected() {
        let ended = shell().run(&["-c", "echo out; echo err >&2; exit 3"], STOP_MAX).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        let mut output = ended.output;
        output.sort();
        assert_eq!(output, ["err", "out"]);
    }

    #[test]
    fn a_process_that_hangs_is_killed() {
        let error = shell().run(&["-c", "exec sleep 60"], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_missing_program_names_the_cure() {
        let error = Binary::at("x", Path::new("/nowhere/x"), "build it").unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/x is not there: build it");
    }
}
