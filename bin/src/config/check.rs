//! The conditions of etcd, in etcd's order and words.
//!
//! [`verify`] is what etcd checks before it starts (`failed to verify flags`); the functions that return
//! values below it are what it works out, or fails over, while it starts.

use std::time::Duration;

use super::{AutoCompaction, Host, support};
use crate::duration::GoDuration;
use crate::flags::{Given, Note, gate_enabled};
use crate::logging::{self, Format, Level, Output};
use crate::url::{self, Url};

/// The one complaint that etcd logs twice.
pub(super) const ADVERTISE_MISSING: &str =
    "--advertise-client-urls is required when --listen-client-urls is set explicitly";

const ELECTION_MS_MAX: u64 = 50_000;
const SAMPLES_MAX: i64 = 1_000_000;
const DEFAULT_NAME: &str = "default";

/// Why there is no logger.
pub(super) enum LoggingError {
    /// The level is none: etcd panics.
    Level(String),
    /// Anything else, as a sentence.
    Other(String),
}

/// Level, form and outputs of the log: etcd's `config_logging.go`.
pub(super) fn logging(given: &Given) -> Result<logging::Options, LoggingError> {
    // Before the logger exists, etcd finds only these two; the order matters for who sees which sentence.
    support::conflicts(given).map_err(LoggingError::Other)?;
    if given.text("discovery-fallback") == "proxy" {
        let error = "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"";
        return Err(LoggingError::Other(error.to_owned()));
    }
    match given.text("logger") {
        "zap" => {}
        "capnslog" => return Err(LoggingError::Other("--logger=capnslog is removed in v3.5".to_owned())),
        other => return Err(LoggingError::Other(format!("unknown logger option {other:?}"))),
    }
    let names = given.names("log-outputs");
    if names.iter().all(|name| name.is_empty()) {
        return Err(LoggingError::Other("open sink \"\": open : no such file or directory".to_owned()));
    }
    if names.len() > 1 && names.iter().any(|name| name == "default") {
        let error = "multi logoutput for \"default\" is not supported yet";
        return Err(LoggingError::Other(error.to_owned()));
    }
    let is_file =
        |name: &&String| !["default", "stderr", "stdout", "systemd/journal"].contains(&name.as_str());
    let files = names.iter().filter(is_file).count();
    if given.bool("enable-log-rotation") && (files > 1 || (files == 0 && names.len() <= 1)) {
        let error = "--log-outputs requires a single file path when --log-rotate-config-json is defined";
        return Err(LoggingError::Other(error.to_owned()));
    }
    let level = given.text("log-level");
    let level = Level::parse(level).ok_or_else(|| LoggingError::Level(level.to_owned()))?;
    let format = match given.text("log-format") {
        "json" | "" => Format::Json,
        "console" => Format::Console,
        other => {
            let error = format!("unknown log format: {other}, supported values json, console");
            return Err(LoggingError::Other(error));
        }
    };
    Ok(logging::Options { level, format, outputs: outputs(&names) })
}

/// `/dev/null` discards everything, wherever it stands.
fn outputs(names: &[String]) -> Vec<Output> {
    if names.iter().any(|name| name == "/dev/null") {
        return Vec::new();
    }
    let mut outputs: Vec<Output> = names
        .iter()
        .map(|name| match name.as_str() {
            "default" | "stderr" | "systemd/journal" => Output::Stderr,
            "stdout" => Output::Stdout,
            path => Output::File(path.into()),
        })
        .collect();
    outputs.sort();
    outputs.dedup();
    outputs
}

/// etcd's `Validate`; warnings go to `notes`.
pub(super) fn verify(given: &Given, notes: &mut Vec<Note>) -> Result<(), String> {
    check_urls(given, notes)?;
    check_discovery(given)?;
    check_timing(given)?;
    if advertise_client_is_missing(given) {
        return Err(ADVERTISE_MISSING.to_owned());
    }
    match given.text("auto-compaction-mode") {
        "periodic" | "revision" => {}
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        other => return Err(format!("unknown auto-compaction-mode {other:?}")),
    }
    check_features(given, notes)?;
    if given.text("name") == DEFAULT_NAME {
        let msg = "it isn't recommended to use default name, please set a value for --name. Note that etcd might run \
                   into issue when multiple members have the same default name";
        notes.push(Note::new(Level::Warn, msg).with("name", DEFAULT_NAME));
    }
    check_tls_versions(given)?;
    let both = ["experimental-warning-unary-request-duration", "warning-unary-request-duration"];
    if both.iter().all(|name| given.span(name).nanos() != 0 && given.is_set(name)) {
        return Err(
            "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags \
                    are set. Use only --warning-unary-request-duration"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_urls(given: &Given, notes: &mut Vec<Note>) -> Result<(), String> {
    for name in ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls"] {
        given.urls(name).iter().try_for_each(Url::check_bind)?;
    }
    if given.urls("listen-client-http-urls").is_empty() {
        let msg = "Running http and grpc server on single port. This is not recommended for production.";
        notes.push(Note::new(Level::Warn, msg));
    }
    given.urls("listen-metrics-urls").iter().try_for_each(Url::check_bind)?;
    let advertised = [
        ("initial-advertise-peer-urls", given.urls("initial-advertise-peer-urls")),
        ("advertise-client-urls", advertise_client_urls(given)),
    ];
    for (name, urls) in advertised {
        if let Err(why) = urls.iter().try_for_each(Url::check_host) {
            return Err(format!("--{name} {:?} must be \"host:port\" ({why})", url::join(&urls)));
        }
    }
    Ok(())
}

fn check_discovery(given: &Given) -> Result<(), String> {
    let is_given = |name: &&str| !given.text(name).is_empty();
    let ways = [
        !given.text("discovery").is_empty(),
        !initial_cluster_text(given).is_empty(),
        !given.text("discovery-srv").is_empty(),
        !given.text("discovery-endpoints").is_empty(),
    ];
    if ways.iter().filter(|way| **way).count() > 1 {
        return Err("multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \
                    \"discovery-endpoints\" or \"discovery-srv\""
            .to_owned());
    }
    const V3: &[&str] = &[
        "discovery-endpoints",
        "discovery-token",
        "discovery-cert",
        "discovery-key",
        "discovery-cacert",
        "discovery-user",
        "discovery-password",
    ];
    if is_given(&"discovery-proxy") && V3.iter().any(is_given) {
        return Err("both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings \
                    (discovery-token, discovery-endpoints, discovery-cert, discovery-key, discovery-cacert, \
                    discovery-user, discovery-password) are set"
            .to_owned());
    }
    if is_given(&"discovery-token") != is_given(&"discovery-endpoints") {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    match given.list("discovery-endpoints").iter().any(|endpoint| endpoint.trim().is_empty()) {
        true => Err("--discovery-endpoints must not contain empty endpoints".to_owned()),
        false => Ok(()),
    }
}

fn check_timing(given: &Given) -> Result<(), String> {
    let (heartbeat, election) = (given.uint("heartbeat-interval"), given.uint("election-timeout"));
    for (name, ms) in [("heartbeat-interval", heartbeat), ("election-timeout", election)] {
        if ms == 0 {
            return Err(format!("--{name} must be >0 (set to {ms}ms)"));
        }
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    match election > ELECTION_MS_MAX {
        true => Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        )),
        false => Ok(()),
    }
}

fn check_features(given: &Given, notes: &mut Vec<Note>) -> Result<(), String> {
    if given.bool(support::current(given, "enable-distributed-tracing")) {
        let why = match given.int(support::current(given, "distributed-tracing-sampling-rate")) {
            ..0 => Some("positive".to_owned()),
            0..=SAMPLES_MAX => None,
            _ => Some(format!("less than {SAMPLES_MAX}")),
        };
        if let Some(why) = why {
            let why = format!("tracing sampling rate must be {why}");
            return Err(format!("distributed tracing configurition is not valid: ({why})"));
        }
    }
    let gates = support::gates(given);
    let [checkpoint, persist] =
        ["LeaseCheckpoint", "LeaseCheckpointPersist"].map(|gate| gate_enabled(&gates, gate));
    if checkpoint && !persist {
        let msg = "Detected that checkpointing is enabled without persistence. Consider enabling feature gate \
                   LeaseCheckpointPersist";
        notes.push(Note::new(Level::Warn, msg));
    }
    if persist && !checkpoint {
        return Err(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
                .to_owned(),
        );
    }
    for name in ["experimental-compact-hash-check-time", "compact-hash-check-time"] {
        let span = given.span(name);
        if span <= GoDuration::default() {
            return Err(format!("--{name} must be >0 (set to {span})"));
        }
    }
    Ok(())
}

fn check_tls_versions(given: &Given) -> Result<(), String> {
    let (min, max) = (given.text("tls-min-version"), given.text("tls-max-version"));
    for version in [min, max] {
        if !["", "TLS1.2", "TLS1.3"].contains(&version) {
            return Err(format!("unexpected TLS version {version:?} (must be one of: TLS1.2, TLS1.3)"));
        }
    }
    if !max.is_empty() && min > max {
        return Err(format!("min version ({min}) is greater than max version ({max})"));
    }
    match min == "TLS1.3" && !given.text("cipher-suites").is_empty() {
        true => Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned()),
        false => Ok(()),
    }
}

/// On a command line a listener that is set wants its advertised URL set; a file may leave it out.
fn advertise_client_is_missing(given: &Given) -> bool {
    given.config_file.is_none()
        && given.is_set("listen-client-urls")
        && !given.is_set("advertise-client-urls")
}

/// An empty list leaves etcd's default in force.
pub(super) fn urls_or_default(given: &Given, name: &'static str) -> Vec<Url> {
    match given.urls(name) {
        urls if urls.is_empty() => Given::default().urls(name),
        urls => urls,
    }
}

pub(super) fn advertise_client_urls(given: &Given) -> Vec<Url> {
    match advertise_client_is_missing(given) {
        true => Vec::new(),
        false => urls_or_default(given, "advertise-client-urls"),
    }
}

/// What peers are told: as given, or for a listener on 0.0.0.0 the host's own address in place of localhost.
pub(super) fn advertise_peer_urls(
    given: &Given,
    listen: &[Url],
    host: &Host,
    notes: &mut Vec<Note>,
) -> Vec<Url> {
    const NAME: &str = "initial-advertise-peer-urls";
    let urls = urls_or_default(given, NAME);
    let Some(address) = host.default_address else { return urls };
    let is_default = urls == Given::default().urls(NAME);
    match listen.first() {
        Some(first) if is_default && first.host() == "0.0.0.0" => {
            let address = address.to_string();
            let shown = if address.contains(':') { format!("[{address}]") } else { address.clone() };
            notes.push(Note::new(Level::Info, "detected default host for advertise").with("host", address));
            vec![Url::parse(&format!("http://{shown}:{}", first.port())).expect("an address and a port")]
        }
        _ => urls,
    }
}

/// `--initial-cluster`; its default is withdrawn when discovery shall find the members.
fn initial_cluster_text(given: &Given) -> &str {
    let discovers = ["discovery", "discovery-srv", "discovery-srv-name", "discovery-endpoints"];
    match !given.is_set("initial-cluster") && discovers.iter().any(|name| !given.text(name).is_empty()) {
        true => "",
        false => given.text("initial-cluster"),
    }
}

/// `--initial-cluster`, where a name alone stands for this member with its advertised URLs.
pub(super) fn initial_cluster(given: &Given, advertise_peer: &[Url]) -> String {
    let (name, text) = (given.text("name"), initial_cluster_text(given));
    if name == DEFAULT_NAME || text != Given::default().text("initial-cluster") {
        return text.to_owned();
    }
    let name = if name.is_empty() { DEFAULT_NAME } else { name };
    advertise_peer.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}

/// A listener that shall speak TLS needs what TLS needs, and that is not built yet.
pub(super) fn plain_listeners(given: &Given) -> Result<(), String> {
    let secure = |name: &'static str| given.urls(name).into_iter().find(|url| url.scheme().is_secure());
    if let Some(url) = secure("listen-peer-urls") {
        return Err(format!(
            "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
            url.address()
        ));
    }
    if let Some(url) = secure("listen-client-urls").or_else(|| secure("listen-client-http-urls")) {
        return Err(format!(
            "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
        ));
    }
    match secure("listen-metrics-urls") {
        Some(_) => {
            Err("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
                .to_owned())
        }
        None => Ok(()),
    }
}

/// Hours or revisions without a unit, a duration with one.
pub(super) fn auto_compaction(given: &Given) -> Result<AutoCompaction, String> {
    const HOUR_NANOS: i64 = 3_600_000_000_000;
    let text = match given.text("auto-compaction-retention") {
        "" => "0",
        text => text,
    };
    let is_revision = given.text("auto-compaction-mode") == "revision";
    // Atoi: plain decimal digits, unlike the numbers of flags.
    let plain = text.parse::<i64>().ok().filter(|count| *count >= 0);
    let amount = match plain {
        Some(count) if is_revision => count,
        Some(hours) => hours.saturating_mul(HOUR_NANOS),
        None => {
            let span = GoDuration::parse(text);
            span.map_err(|why| format!("error parsing CompactionRetention: {why}"))?.nanos()
        }
    };
    Ok(match u64::try_from(amount) {
        Err(_) | Ok(0) => AutoCompaction::Off,
        Ok(revisions) if is_revision => AutoCompaction::Revision(revisions),
        Ok(nanos) => AutoCompaction::Periodic(Duration::from_nanos(nanos)),
    })
}
