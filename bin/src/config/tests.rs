//! Rows of what etcd 3.6.16 was seen to say, and what comes out of good input.

use super::*;
use crate::logging::{Format, Output};

fn loaded(line: &str, yaml: &str, env: &[(&str, &str)], host: &Host) -> Loaded {
    loaded_args(line.split_whitespace().map(str::to_owned).collect(), yaml, env, host)
}

fn loaded_args(args: Vec<String>, yaml: &str, env: &[(&str, &str)], host: &Host) -> Loaded {
    let env: Vec<(String, String)> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let read_file = |_: &str| Ok(yaml.as_bytes().to_vec());
    load(&Start { program: "kontiki", args: &args, env: &env, read_file: &read_file }, host)
}

fn config(line: &str) -> Config {
    match loaded(line, "", &[], &Host::default()) {
        Loaded::Serve(config) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

fn file_config(yaml: &str) -> Config {
    match loaded("--config-file=c.yml", yaml, &[], &Host::default()) {
        Loaded::Serve(config) => *config,
        other => panic!("{yaml}: {other:?}"),
    }
}

fn failure(line: &str) -> Failure {
    match loaded(line, "", &[], &Host::default()) {
        Loaded::Failed(failure, _) => failure,
        other => panic!("{line}: {other:?}"),
    }
}

fn messages(notes: &[Note]) -> Vec<&str> {
    notes.iter().map(|note| note.msg.as_str()).collect()
}

/// Each text was printed by etcd 3.6.16 as the error of `failed to verify flags`, with status 1.
#[test]
fn verification_speaks_as_etcd() {
    let cases: &[(&str, &str)] = &[
        (
            "--listen-client-urls=http://127.0.0.1:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-client-urls=",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-client-urls=http://foo:1 --advertise-client-urls=http://foo:1",
            "expected IP in URL for binding (http://foo:1)",
        ),
        ("--listen-peer-urls=http://name:2379", "expected IP in URL for binding (http://name:2379)"),
        (
            "--advertise-client-urls=http://:2379",
            "--advertise-client-urls \"http://:2379\" must be \"host:port\" (unexpected empty host (http://:2379))",
        ),
        (
            "--heartbeat-interval=500",
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]",
        ),
        (
            "--election-timeout=60000",
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        ("--heartbeat-interval=0", "--heartbeat-interval must be >0 (set to 0ms)"),
        ("--election-timeout=0", "--election-timeout must be >0 (set to 0ms)"),
        (
            "--discovery=a --initial-cluster=default=http://localhost:2380",
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        ("--discovery-token=a", "both --discovery-token and --discovery-endpoints must be set"),
        (
            "--discovery-fallback=proxy",
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        ("--auto-compaction-mode=x", "unknown auto-compaction-mode \"x\""),
        ("--auto-compaction-mode=", "undefined auto-compaction-mode"),
        (
            "--feature-gates=LeaseCheckpointPersist=true",
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            "--experimental-initial-corrupt-check --feature-gates=InitialCorruptCheck=true",
            "cannot specify both flags: --experimental-initial-corrupt-check=true and \
             --feature-gates=InitialCorruptCheck=true at the same time, please just use \
             --feature-gates=InitialCorruptCheck=true",
        ),
        (
            "--experimental-corrupt-check-time=1s --corrupt-check-time=1s",
            "cannot set --experimental-corrupt-check-time and --corrupt-check-time at the same time, please use \
             --corrupt-check-time only",
        ),
        (
            "--experimental-warning-unary-request-duration=1s --warning-unary-request-duration=1s",
            "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags are set. \
             Use only --warning-unary-request-duration",
        ),
        ("--compact-hash-check-time=0", "--compact-hash-check-time must be >0 (set to 0s)"),
        ("--logger=capnslog", "--logger=capnslog is removed in v3.5"),
        ("--log-outputs=", "open sink \"\": open : no such file or directory"),
        ("--logger=foo", "unknown logger option \"foo\""),
        ("--log-format=xml", "unknown log format: xml, supported values json, console"),
        ("--log-outputs=default,stderr", "multi logoutput for \"default\" is not supported yet"),
        (
            "--enable-log-rotation",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2",
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        ("--tls-min-version=TLS1.1", "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"),
        (
            "--tls-min-version=TLS1.3 --cipher-suites=A",
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            "--enable-distributed-tracing --experimental-distributed-tracing-sampling-rate=-1",
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
    ];
    for (line, error) in cases {
        let failure = failure(line);
        assert_eq!(failure.error(), *error, "{line}");
        assert_eq!(failure.last.level, Level::Warn, "{line}");
        assert!(messages(&failure.notes).contains(&"Running: "), "{line}");
    }
}

/// Each text was printed by etcd 3.6.16 as the error of the fatal `discovery failed`, with status 1.
#[test]
fn the_start_fails_as_etcds() {
    let cases: &[(&str, &str)] = &[
        (
            "--listen-client-urls=https://127.0.0.1:1 --advertise-client-urls=https://127.0.0.1:1",
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS \
             scheme",
        ),
        (
            "--listen-peer-urls=https://127.0.0.1:2",
            "cannot listen on TLS for 127.0.0.1:2: KeyFile and CertFile are not presented",
        ),
        (
            "--listen-metrics-urls=https://127.0.0.1:3",
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        (
            "--auto-compaction-retention=abc",
            "error parsing CompactionRetention: time: invalid duration \"abc\"",
        ),
        (
            "--auto-compaction-retention=-5 --auto-compaction-mode=revision",
            "error parsing CompactionRetention: time: missing unit in duration \"-5\"",
        ),
        (
            "--auto-compaction-retention=0x10",
            "error parsing CompactionRetention: time: unknown unit \"x\" in duration \"0x10\"",
        ),
    ];
    for (line, error) in cases {
        let failure = failure(line);
        assert_eq!((failure.error(), failure.last.level), (*error, Level::Fatal), "{line}");
        assert_eq!(failure.last.msg, "discovery failed");
    }
}

#[test]
fn less_safety_than_asked_for_is_refused() {
    for (line, flag) in [
        ("--cert-file=a", "--cert-file"),
        ("--client-cert-auth", "--client-cert-auth"),
        ("--auto-tls=true", "--auto-tls"),
        ("--peer-trusted-ca-file=a", "--peer-trusted-ca-file"),
        ("--client-crl-file=a", "--client-crl-file"),
        ("--peer-cert-allowed-cn=a", "--peer-cert-allowed-cn"),
        ("--auth-token=jwt,pub-key=a", "--auth-token=jwt"),
        ("--discovery=http://a", "--discovery"),
        ("--discovery-srv=a", "--discovery-srv"),
        ("--discovery-srv-name=a", "--discovery-srv-name"),
        ("--discovery-token=a --discovery-endpoints=b", "--discovery-token"),
        ("--force-new-cluster", "--force-new-cluster"),
        ("--corrupt-check-time=1m", "--corrupt-check-time"),
        ("--experimental-corrupt-check-time=1m", "--experimental-corrupt-check-time"),
    ] {
        let error = failure(line).error().to_owned();
        assert!(error.starts_with(&format!("{flag} is not supported: ")), "{line}: {error}");
    }
}

#[test]
fn defaults_of_refused_flags_are_fine() {
    config("--client-cert-auth=false --auth-token=simple --corrupt-check-time=0s --cert-file= --auto-tls=0");
}

/// kubeadm's manifests name them: a single member has no other to compare itself with.
#[test]
fn gates_that_compare_members_are_taken_by_a_single_one() {
    for line in [
        "--feature-gates=InitialCorruptCheck=true",
        "--experimental-initial-corrupt-check=true",
        "--experimental-compact-hash-check-enabled",
    ] {
        let config = config(line);
        let said = |note: &Note| note.msg.ends_with("=true has no effect on a cluster of one member");
        assert!(config.notes.iter().any(said), "{line}: {:?}", config.notes);
    }
}

/// Every row is taken at its default, and says nothing then but for what is deprecated.
#[test]
fn every_flag_is_taken_at_its_default() {
    for flag in flags::SECTIONS.iter().flat_map(|(_, flags)| flags.iter()) {
        if ["version", "config-file", "v2-deprecation", "listen-client-urls"].contains(&flag.name) {
            continue;
        }
        if flag.name == "experimental-warning-unary-request-duration" {
            continue;
        }
        let arg = format!("--{}={}", flag.name, flag.default);
        let Loaded::Serve(config) = loaded_args(vec![arg], "", &[], &Host::default()) else {
            panic!("{} at its default", flag.name);
        };
        let said: Vec<_> = messages(&config.notes).into_iter().filter(|msg| msg.starts_with("--")).collect();
        let is_deprecated = flag.name.starts_with("experimental-") || flag.name == "max-snapshots";
        assert_eq!(said.len(), usize::from(is_deprecated), "{}: {said:?}", flag.name);
    }
}

#[test]
fn what_changes_nothing_says_so() {
    for (line, level, note) in [
        ("--backend-batch-limit=7", Level::Info, "--backend-batch-limit has no effect: "),
        ("--strict-reconfig-check=false", Level::Info, "--strict-reconfig-check has no effect: "),
        ("--pre-vote=false", Level::Info, "--pre-vote has no effect: "),
        ("--enable-pprof", Level::Warn, "--enable-pprof is not built yet: "),
        ("--kontiki-record-disk=/r", Level::Warn, "--kontiki-record-disk is for tests; "),
        ("--experimental-memory-mlock", Level::Warn, "--experimental-memory-mlock is not built yet: "),
        ("--vv=3", Level::Info, "flag is no longer supported - ignoring"),
        (
            "--feature-gates=AllAlpha=true,LeaseCheckpoint=false,LeaseCheckpointPersist=false",
            Level::Info,
            "feature gate AllAlpha=true has no effect",
        ),
        (
            "--max-snapshots=3",
            Level::Warn,
            "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
        ),
        (
            "--v2-deprecation=gone",
            Level::Warn,
            "--v2-deprecation is deprecated and scheduled for removal in v3.8. The \
            default value is enforced, ignoring user input.",
        ),
        (
            "--experimental-compaction-batch-limit=3",
            Level::Warn,
            "--experimental-compaction-batch-limit is deprecated \
            in v3.6 and will be decommissioned in v3.7. Use '--compaction-batch-limit' instead.",
        ),
    ] {
        let notes = config(line).notes;
        assert!(notes.iter().any(|n| n.level == level && n.msg.starts_with(note)), "{line}: {notes:#?}");
    }
}

#[test]
fn the_order_of_lines_is_that_of_etcd() {
    let failure = failure("--max-snapshots=3 --listen-client-urls=http://127.0.0.1:1");
    assert_eq!(
        messages(&failure.notes),
        [
            "Running http and grpc server on single port. This is not recommended for production.",
            "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
            "Running: ",
            "failed to verify flags",
        ]
    );
    assert_eq!(failure.last.msg, "advertise client URLs are not set");
}

#[test]
fn a_level_that_is_none_panics_as_etcd() {
    for level in ["nope", "warning"] {
        match loaded(&format!("--log-level={level}"), "", &[], &Host::default()) {
            Loaded::Answer(answer) => {
                assert_eq!(answer.stderr, format!("panic: unrecognized level: \"{level}\"\n"));
                assert_eq!(answer.code, 2);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_bare_start_is_etcds_default() {
    let config = config("");
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("default", Some("default.etcd")));
    assert_eq!(config.initial_cluster, "default=http://localhost:2380");
    assert_eq!(crate::url::join(&config.listen_client_urls), "http://localhost:2379");
    assert_eq!(crate::url::join(&config.advertise_client_urls), "http://localhost:2379");
    assert_eq!((config.heartbeat.as_millis(), config.election.as_millis()), (100, 1000));
    assert_eq!(config.quota_backend_bytes, Some(2 << 30));
    assert_eq!(config.max_concurrent_streams, None);
    assert_eq!(config.keepalive.interval, Some(Duration::from_secs(7200)));
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(config.compaction_batch_limit, 1000);
    assert_eq!(config.auto_compaction, AutoCompaction::Off);
    assert_eq!((config.cors, config.host_whitelist), (Allowed::Any, Allowed::Any));
    assert_eq!(config.log, logging::Options::default());
    assert_eq!(config.log_mode, LogMode::Auto);
    assert_eq!(config.driver, None);
}

#[test]
fn values_are_worked_out() {
    let check = |line: &str, holds: fn(&Config) -> bool| assert!(holds(&config(line)), "{line}");
    check("--quota-backend-bytes=-1", |c| c.quota_backend_bytes.is_none());
    check("--quota-backend-bytes=16777216", |c| c.quota_backend_bytes == Some(16 << 20));
    check("--grpc-keepalive-interval=0s", |c| c.keepalive.interval.is_none());
    check("--max-concurrent-streams=8", |c| c.max_concurrent_streams == Some(8));
    check("--watch-progress-notify-interval=1ms", |c| c.watch_progress_notify_interval.as_millis() == 100);
    check("--auto-compaction-retention=2", |c| {
        c.auto_compaction == AutoCompaction::Periodic(Duration::from_secs(7200))
    });
    check("--auto-compaction-retention=5m", |c| {
        c.auto_compaction == AutoCompaction::Periodic(Duration::from_secs(300))
    });
    check("--auto-compaction-retention=7 --auto-compaction-mode=revision", |c| {
        c.auto_compaction == AutoCompaction::Revision(7)
    });
    check("--auto-compaction-retention=", |c| c.auto_compaction == AutoCompaction::Off);
    check("--host-whitelist=b,a,b", |c| c.host_whitelist == Allowed::Only(vec!["a".into(), "b".into()]));
    check("--host-whitelist=a,*", |c| c.host_whitelist == Allowed::Any);
    check("--cors=http://a:1", |c| c.cors.allows("http://a:1") && !c.cors.allows("http://b:1"));
    check("--listen-peer-urls=", |c| crate::url::join(&c.listen_peer_urls) == "http://localhost:2380");
    check("--warning-unary-request-duration=0s", |c| c.warning_unary_request_duration.as_millis() == 300);
    check("--wal-dir=/w", |c| c.wal_dir.as_deref() == Some("/w".as_ref()));
    check("--kontiki-log-mode=dsync", |c| c.log_mode == LogMode::Dsync);
    check("--kontiki-driver=portable", |c| c.driver == Some(Driver::Portable));
    check("--kontiki-driver=io_uring", |c| c.driver == Some(Driver::Ring));
    check("--experimental-snapshot-catchup-entries=9", |c| c.snapshot_catchup_entries == 9);
    check("--heartbeat-interval=10 --election-timeout=105", |c| c.election_ticks() == 10);
    check("--log-outputs=stdout,/a/b,stderr --log-format=console --log-level=DEBUG", |c| {
        c.log.outputs == [Output::Stderr, Output::Stdout, Output::File("/a/b".into())]
            && c.log.format == Format::Console
            && c.log.level == Level::Debug
    });
    check("--log-outputs=stdout,/dev/null", |c| c.log.outputs.is_empty());
    check("--experimental-txn-mode-write-with-shared-buffer=false", |c| {
        c.feature_gates.iter().any(|(gate, on)| gate.name == "TxnModeWriteWithSharedBuffer" && !on)
    });
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_start() {
    let failure = config("--log-outputs=/nonexistent/a.log").open_log().unwrap_err();
    assert_eq!(
        failure.error(),
        "open sink \"/nonexistent/a.log\": open /nonexistent/a.log: no such file or directory"
    );
    assert_eq!(messages(&failure.notes), ["Running: "]);
}

#[test]
fn the_start_shows_its_settings() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = format!("--snapshot-catchup-entries=1000 --log-outputs={}", file.path().display());
    let config = config(&line);
    let log = config.open_log().unwrap();
    config.log_start(&log, false);
    log.flush();
    let text = std::fs::read_to_string(file.path()).unwrap();
    // What etcd's own tests look for.
    for part in [
        "\"msg\":\"starting an etcd server\",\"etcd-version\":\"3.6.16\"",
        "\"snapshot-catchup-entries\":1000",
        "\"v2-deprecation\":\"write-only\"",
        "\"heartbeat-interval\":\"100ms\",\"election-timeout\":\"1s\"",
        "\"listen-client-urls\":[\"http://localhost:2379\"],\"listen-metrics-urls\":[],\"cors\":[\"*\"]",
        "\"quota-backend-bytes\":2147483648",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_name_alone_makes_a_cluster() {
    let config = config("--name=a --initial-advertise-peer-urls=http://127.0.0.1:3,http://127.0.0.1:2");
    assert_eq!(config.initial_cluster, "a=http://127.0.0.1:2,a=http://127.0.0.1:3");
    assert_eq!(config.data_dir.to_str(), Some("a.etcd"));
}

#[test]
fn a_listener_on_all_addresses_advertises_the_hosts_own() {
    let host = Host { default_address: Some("10.0.0.7".parse().unwrap()) };
    match loaded("--name=a --listen-peer-urls=http://0.0.0.0:3380", "", &[], &host) {
        Loaded::Serve(config) => {
            assert_eq!(config.initial_cluster, "a=http://10.0.0.7:3380");
            assert_eq!(crate::url::join(&config.initial_advertise_peer_urls), "http://10.0.0.7:3380");
            assert!(messages(&config.notes).contains(&"detected default host for advertise"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_may_leave_the_advertised_urls_out() {
    let config = file_config("name: a\nlisten-client-urls: http://127.0.0.1:5\nlog-outputs: [stdout]\n");
    assert_eq!(crate::url::join(&config.advertise_client_urls), "http://localhost:2379");
    assert_eq!(config.log.outputs, [Output::Stdout]);
    assert!(config.notes[1].msg.starts_with("loaded server configuration"));
}

#[test]
fn a_shadowed_variable_is_the_last_word() {
    match loaded("--name=bar", "", &[("ETCD_NAME", "foo")], &Host::default()) {
        Loaded::Failed(failure, _) => {
            assert_eq!(failure.last.level, Level::Fatal);
            assert!(!messages(&failure.notes).contains(&"Running: "));
        }
        other => panic!("{other:?}"),
    }
}
