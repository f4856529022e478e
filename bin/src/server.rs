//! A server from its configuration to its end.
//!
//! 1. Ask the host what it allows, take the ports, take the data directory: whatever can be refused is refused
//!    before anything is written.
//! 2. Open the replica, on this thread; a first start becomes a member only when all of it is durable.
//! 3. Run the state core until a signal comes.
//! 4. Drain, seal, checkpoint, and die of the signal, as etcd does.

// Ports.
mod listen;

// io_uring or not.
mod driver;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::disk::record::Recorder;
use engine::map::mapping;
use engine::replica::open::{self, Opened};
use engine::replica::{self, Replica};
use engine::types::Member;
use engine::wal;
use net::front::{self, Front};
use net::grpc;
use net::http::access::Access;
use net::http::endpoints::Port;
use tuning::profile::Profile;

use crate::config::{Allowed, Config};
use crate::conn;
use crate::datadir::{DataDir, Found, Identity, LOCK_WAIT};
use crate::disks::{Disks, LogFiles};
use crate::flags::Failure;
use crate::logging::Logger;
use crate::metrics::{self, Metrics};
use crate::node::Node;
use crate::notify::{self, State};
use crate::pulse::{self, Beat};
use crate::runtime::Runtime;
use crate::signals::{Signal, Signals};
use crate::url::Url;
use crate::{bootstrap, datadir, version};
use driver::Choice;
use listen::{Bound, bind};

/// How long clients may take to finish their calls after a signal.
const DRAIN: Duration = Duration::from_secs(2);

/// How long an orderly end may take in all.
const STOP: Duration = Duration::from_millis(4500);

/// The history in memory may take one byte in so many of what this process may have. What leaves is in the page cache,
/// as long as there is room.
const HISTORY_PART: u64 = 8;

/// Looks for a signal this often.
const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// Runs a server until it ends. Does not return after a signal: the process dies of it.
pub fn run(config: Config) -> ExitCode {
    let log = match config.open_log() {
        Ok(log) => log,
        Err(failure) => {
            eprintln!("{}", failure.error());
            return ExitCode::FAILURE;
        }
    };
    config.notes.iter().for_each(|note| note.log(&log));
    let failure = match start(&config, &log) {
        Ok(signal) => {
            log.flush();
            signal.end_process()
        }
        Err(failure) => failure,
    };
    failure.log(&log);
    log.flush();
    ExitCode::FAILURE
}

/// What a start needs before it runs.
struct Prepared {
    opened: Opened,
    dir: DataDir,
    disks: Disks,
    log_files: LogFiles,
    runtime: Runtime,
    profile: Profile,
    cluster_id: u64,
    member_id: u64,
    listeners: Vec<Bound>,
    /// Watched where the executor needs it.
    beat: Beat,
    /// Other members do not connect yet, but the ports are ours.
    peer_listeners: Vec<Bound>,
    metrics_listeners: Vec<Bound>,
}

fn start(config: &Config, log: &Logger) -> Result<Signal, Failure> {
    let signals = Signals::install().map_err(|error| refuse(format!("no signal handlers: {error}")))?;
    let prepared = prepare(config, log)?;
    let (runtime, profile) = (prepared.runtime, prepared.profile.clone());
    runtime
        .run(&profile, serve(config, log.clone(), signals, prepared))
        .map_err(|error| refuse(format!("the executor does not start: {error}")))?
}

fn prepare(config: &Config, log: &Logger) -> Result<Prepared, Failure> {
    tuning::probe::limits::raise_open_files();
    tuning::probe::limits::check_open_files(tuning::probe::limits::open_files()).map_err(|o| refuse(o.0))?;
    let inspection = datadir::inspect(&config.data_dir).map_err(|error| refuse(error.to_string()))?;
    for stranger in &inspection.strangers {
        let (name, dir) = (stranger.to_string(), config.data_dir.display().to_string());
        log.warn("found invalid file under data directory", &[("filename", &name), ("data-dir", &dir)]);
    }
    let initialized = matches!(inspection.found, Found::Ours(_));
    config.log_start(log, initialized);
    let listeners = bind(&config.listen_client_urls, config)?;
    let peer_listeners = bind(&config.listen_peer_urls, config)?;
    let metrics_listeners = bind(&config.listen_metrics_urls, config)?;
    let wal_dir = config.wal_dir.as_deref();
    let mut dir = match inspection.found {
        Found::Ours(_) => DataDir::open(&config.data_dir, wal_dir, LOCK_WAIT),
        Found::Fresh | Found::Unfinished => {
            let plan = bootstrap::plan(config, &bootstrap::resolve_by_system)?;
            let identity = Identity { cluster_id: plan.cluster_id, member_id: plan.member_id };
            DataDir::create(&config.data_dir, wal_dir, identity)
        }
    }
    .map_err(|error| refuse(error.to_string()))?;
    let Identity { cluster_id, member_id } = *dir.identity();
    let driver = Choice::make(config, &dir, log)?;
    let recorder = config.record_disk.as_deref().map(record).transpose()?;
    let disks =
        Disks::new(dir.path().to_owned(), dir.log_dir().to_owned(), recorder.clone(), config.stall_reads);
    let opened = open_replica(config, &dir, &disks, driver.wal_mode(config))?;
    for warning in &opened.warnings {
        log.warn(warning, &[]);
    }
    if !initialized {
        dir.commit(recorder.as_ref()).map_err(|error| refuse(error.to_string()))?;
    }
    let log_files = driver.log_files(config, &dir, recorder)?;
    let Choice { runtime, profile, .. } = driver;
    let beat = match runtime {
        Runtime::Ring => pulse::start(),
        Runtime::Portable => Ok(Beat::default()),
    }
    .map_err(|error| refuse(format!("no thread to watch the executor: {error}")))?;
    Ok(Prepared {
        opened,
        dir,
        disks,
        log_files,
        runtime,
        profile,
        cluster_id,
        member_id,
        listeners,
        beat,
        peer_listeners,
        metrics_listeners,
    })
}

/// Begins the recording of disk operations that a test asked for.
fn record(path: &Path) -> Result<Recorder, Failure> {
    Recorder::create(path)
        .map_err(|error| refuse(format!("--kontiki-record-disk={}: {error}", path.display())))
}

fn open_replica(config: &Config, dir: &DataDir, disks: &Disks, mode: wal::Mode) -> Result<Opened, Failure> {
    let Identity { cluster_id, member_id } = *dir.identity();
    let mut settings = replica::Config::new(cluster_id, member_id, u64::from_le_bytes(random()));
    settings.heartbeat = config.heartbeat;
    settings.request_timeout = config.request_timeout();
    settings.raft.election_ticks = config.election_ticks();
    settings.raft.kept_entries_max = config.snapshot_catchup_entries;
    settings.request_bytes_max = usize::try_from(config.max_request_bytes).unwrap_or(usize::MAX);
    settings.checkpoint_entries = config.checkpoint_entries;
    settings.quota_bytes = config.quota_backend_bytes;
    if let Some(bytes) = tuning::probe::memory::memory_bytes() {
        let share = usize::try_from(bytes / HISTORY_PART).unwrap_or(usize::MAX);
        settings.history.resident_bytes = settings.history.resident_bytes.min(share);
    }
    settings.wal = wal::Config::for_entries(settings.request_bytes_max.saturating_add(512 << 10));
    settings.wal.mode = mode;
    let mut disk = disks.open().map_err(|error| refuse(error.to_string()))?;
    let open_index = || File::open(dir.index_file());
    let mapping = may_map(dir).map_err(refuse)?.then_some(&open_index as &dyn Fn() -> std::io::Result<File>);
    let nonce = u64::from_le_bytes(random());
    open::open(settings, &mut *disk, mapping, nonce, Instant::now())
        .map_err(|error| refuse(error.to_string()))
}

/// Whether the file system shows writes in mappings.
fn may_map(dir: &DataDir) -> Result<bool, String> {
    let told = |error: std::io::Error| format!("a scratch file in {}: {error}", dir.path().display());
    let scratch = tempfile::tempfile_in(dir.path()).map_err(told)?;
    mapping::is_coherent(&scratch).map_err(told)
}

async fn serve(
    config: &Config,
    log: Logger,
    signals: Signals,
    prepared: Prepared,
) -> Result<Signal, Failure> {
    // Until the end of this.
    let _locked = prepared.dir;
    let (runtime, member_id) = (prepared.runtime, prepared.member_id);
    let replica: Replica = prepared.opened.replica;
    let metrics = Metrics::new(config.metrics, metrics::about(config, member_id));
    let front = Front::new(front_config(config, member_id));
    let (disks, log_files) = (prepared.disks, prepared.log_files);
    let node = Node::new(runtime, replica, front, log.clone(), log_files, disks, metrics);
    node.warn_of_slow(config.warning_apply_duration, config.warning_unary_request_duration);
    runtime.spawn_local(Rc::clone(&node).run_turns());
    runtime.spawn_local(Rc::clone(&node).run_clock(prepared.beat));
    runtime.spawn_local(Rc::clone(&node).run_upkeep(config.auto_compaction));
    node.ring();
    log.info(
        "starting etcd server",
        &[
            ("local-member-id", &format!("{member_id:x}")),
            ("cluster-id", &format!("{:x}", prepared.cluster_id)),
            ("replayed-entries", &prepared.opened.replayed),
        ],
    );
    let access =
        Access { hosts: allowed(&config.host_whitelist), tls: false, origins: allowed(&config.cors) };
    // Names of sockets go when this ends.
    let mut names = Vec::new();
    let client_addresses = accept(&node, Port::Client(access), prepared.listeners, &mut names)?;
    let metrics_addresses = accept(&node, Port::Metrics, prepared.metrics_listeners, &mut names)?;
    for Bound { address, listener, name } in prepared.peer_listeners {
        names.extend(name);
        let listener = runtime.listen(listener).map_err(cannot_listen)?;
        runtime.spawn_local(conn::turn_away(runtime, listener));
        log.info("serving peer traffic", &[("address", &address)]);
    }
    for address in &metrics_addresses {
        log.info("serving metrics", &[("address", address)]);
    }
    // Ready means that a linearizable read is answered.
    while node.read_outside().await.is_err() {
        runtime.sleep(Duration::from_millis(1)).await;
    }
    log.info("ready to serve client requests", &[]);
    for address in &client_addresses {
        log.info(
            "serving client traffic insecurely; this is strongly discouraged!",
            &[("traffic", &"grpc+http"), ("address", address)],
        );
    }
    tell_systemd(&log, State::Ready);
    let signal = loop {
        if let Some(signal) = signals.pending() {
            break signal;
        }
        runtime.sleep(SIGNAL_POLL).await;
    };
    log.info("received signal; shutting down", &[("signal", &signal.name())]);
    tell_systemd(&log, State::Stopping);
    log.info(
        "closing etcd server",
        &[("name", &config.name), ("data-dir", &config.data_dir.display().to_string())],
    );
    node.stop(DRAIN, STOP).await;
    log.info("closed etcd server", &[("name", &config.name)]);
    Ok(signal)
}

/// Accepts connections on `listeners`; gives their addresses.
fn accept(
    node: &Rc<Node>,
    port: Port,
    listeners: Vec<Bound>,
    names: &mut Vec<listen::Name>,
) -> Result<Vec<String>, Failure> {
    let port = Rc::new(port);
    let mut addresses = Vec::new();
    for Bound { address, listener, name } in listeners {
        names.extend(name);
        addresses.push(address);
        let listener = node.runtime.listen(listener).map_err(cannot_listen)?;
        node.runtime.spawn_local(conn::accept(Rc::clone(node), listener, Rc::clone(&port)));
    }
    Ok(addresses)
}

fn tell_systemd(log: &Logger, state: State) {
    let socket = std::env::var("NOTIFY_SOCKET").ok();
    match notify::notify(socket.as_deref(), state) {
        Ok(true) if matches!(state, State::Ready) => log.info("successfully notified init daemon", &[]),
        Ok(_) => {}
        Err(error) => log.warn("failed to notify init daemon", &[("error", &error.to_string())]),
    }
}

fn front_config(config: &Config, member_id: u64) -> front::Config {
    let never = Duration::from_secs(u64::from(u32::MAX));
    let texts = |urls: &[Url]| urls.iter().map(|url| url.as_str().to_owned()).collect();
    front::Config {
        grpc: grpc::Config {
            http: net::h2::Config {
                max_concurrent_streams: config.max_concurrent_streams,
                ping_interval_min: config.keepalive.min_time,
                keepalive_interval: config.keepalive.interval.unwrap_or(never),
                keepalive_timeout: config.keepalive.timeout.unwrap_or(never),
            },
            message_len_max: usize::try_from(config.max_request_bytes)
                .unwrap_or(usize::MAX)
                .saturating_add(512 << 10),
            route: front::lookup,
        },
        ops_max: usize::try_from(config.max_txn_ops).unwrap_or(usize::MAX),
        version: version::ETCD.into(),
        storage_version: version::CLUSTER.into(),
        quota: config.quota_backend_bytes.map_or(0, |bytes| bytes as i64),
        members: vec![Member {
            id: member_id,
            name: config.name.clone(),
            peer_urls: texts(&config.initial_advertise_peer_urls),
            client_urls: texts(&config.advertise_client_urls),
            is_learner: false,
        }],
        watch: engine::watch::Config {
            progress_interval: config.watch_progress_notify_interval,
            ..engine::watch::Config::default()
        },
        leader_grace: 3 * config.election,
    }
}

fn allowed(list: &Allowed) -> Vec<String> {
    match list {
        Allowed::Any => Vec::new(),
        Allowed::Only(names) => names.clone(),
    }
}

fn cannot_listen(error: std::io::Error) -> Failure {
    refuse(format!("a port cannot be used: {error}"))
}

fn refuse(error: impl Into<String>) -> Failure {
    Failure::start(Vec::new(), error.into())
}

/// Bytes nobody can guess.
pub(crate) fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    let flags = rustix::rand::GetRandomFlags::empty();
    let filled = rustix::rand::getrandom(&mut bytes[..], flags).expect("the kernel has random bytes");
    assert_eq!(filled, bytes.len(), "short reads of so few bytes do not happen");
    bytes
}
