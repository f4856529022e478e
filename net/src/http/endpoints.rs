//! Health, version and metrics: what is asked and what is answered, without a socket.
//!
//! Texts, codes and headers are those of etcd 3.6 (`server/etcdserver/api/etcdhttp`, `server/embed/serve.go`), recorded
//! from a running server. What is left out: the redirect Go's router gives for unclean paths, and everything below
//! `/v3/`.
//!
//! | path | what it tells |
//! |---|---|
//! | `/health` | no alarm, a leader, a linearizable read; alarms and the last two can be left out |
//! | `/livez` | this member answers reads from its own state |
//! | `/readyz` | it also answers linearizable reads, is no learner, and no CORRUPT alarm is active |
//! | `/livez/<check>`, `/readyz/<check>` | one of these checks |
//! | `/version`, `/metrics`, `/debug/vars` | as named |
//!
//! A linearizable read takes a while, so an answer that needs one comes in two steps: `Reply::NeedsRead`, and
//! `Pending::resume` with how the read went.

use std::borrow::Cow;

use engine::error::ApiError;
use engine::request::AlarmKind;

use super::access::Access;
use super::checks::{Checks, Outcome, Rest};
use super::query;

/// What the answers are made from.
pub trait Probe {
    /// Kinds of the active alarms of all members, in ascending order of member.
    fn alarms(&self) -> Vec<AlarmKind>;

    /// Whether this member knows a leader.
    fn has_leader(&self) -> bool;

    /// Whether this member is a learner.
    fn is_learner(&self) -> bool;

    /// Whether a read from this member's own state works.
    fn serializable_read(&self) -> Result<(), ApiError>;

    /// For `/version`.
    fn versions(&self) -> Versions;

    /// The page of `/metrics`, in Prometheus' text format 0.0.4.
    fn metrics(&self) -> String;

    /// The JSON object of `/debug/vars`.
    fn debug_vars(&self) -> String;

    /// Hears of each check of `/livez` or `/readyz` that ran, by the path's name, its own, and whether it passed.
    fn on_checked(&self, _kind: &'static str, _name: &'static str, _passed: bool) {}
}

/// The versions `/version` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The etcd version this server answers as: `3.6.16`.
    pub server: String,
    /// The cluster's version, once decided: `3.6.0`.
    pub cluster: Option<String>,
    /// Version of the stored data, once known: `3.6.0`.
    pub storage: Option<String>,
}

/// What a listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// Everything, to those who may ask.
    Client(Access),
    /// Health and metrics alone (`--listen-metrics-urls`).
    Metrics,
}

/// The parts of a request that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`, …
    pub method: &'a str,
    /// Path without the query.
    pub path: &'a str,
    /// What follows the `?`, or nothing.
    pub query: &'a str,
    /// The `Host` header, or nothing.
    pub host: &'a str,
    /// The `Origin` header, or nothing.
    pub origin: &'a str,
}

/// A finished answer. A body is present for `HEAD` too; the connection leaves it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines, without `Date` and `Content-Length`.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: String,
}

/// An answer, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer.
    Done(Response),
    /// A linearizable read must be done first.
    NeedsRead(Pending),
}

/// An answer that waits for a linearizable read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    cors: Option<String>,
    then: Then,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    Health,
    Checks(Rest),
}

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

impl Port {
    /// Answers a request.
    pub fn respond(&self, request: &Request<'_>, probe: &impl Probe) -> Reply {
        let Port::Client(access) = self else { return route(request, probe, false) };
        if let Err(response) = access.check_host(request.host) {
            return Reply::Done(response);
        }
        let cors = access.cors(request.origin);
        if request.method == "OPTIONS" {
            return Reply::Done(Response::new(200, String::new()).with_cors(cors));
        }
        match route(request, probe, true) {
            Reply::Done(response) => Reply::Done(response.with_cors(cors)),
            Reply::NeedsRead(pending) => Reply::NeedsRead(Pending { cors, ..pending }),
        }
    }
}

fn route(request: &Request<'_>, probe: &impl Probe, client: bool) -> Reply {
    if request.path == "/metrics" {
        return Reply::Done(Response::new(200, probe.metrics()).with("Content-Type", METRICS));
    }
    let respond = match request.path {
        "/health" => health,
        "/version" if client => version,
        "/debug/vars" if client => debug_vars,
        _ => match Checks::find(request.path) {
            Some(checks) if request.method == "GET" => return run(checks, request.query, probe),
            Some(_) => return Reply::Done(method_not_allowed()),
            None => return Reply::Done(Response::text(404, "404 page not found")),
        },
    };
    if request.method == "GET" { respond(request, probe) } else { Reply::Done(method_not_allowed()) }
}

fn run(checks: Checks, query: &str, probe: &impl Probe) -> Reply {
    match checks.run(query, probe) {
        Outcome::Done(response) => Reply::Done(response),
        Outcome::NeedsRead(rest) => Reply::NeedsRead(Pending { cors: None, then: Then::Checks(rest) }),
    }
}

fn method_not_allowed() -> Response {
    Response::text(405, "Method Not Allowed").with("Allow", "GET")
}

fn version<P: Probe>(_: &Request<'_>, probe: &P) -> Reply {
    let Versions { server, cluster, storage } = probe.versions();
    let cluster = cluster.as_deref().unwrap_or("not_decided");
    let storage = storage.as_deref().unwrap_or("unknown");
    let body = format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#);
    Reply::Done(Response::new(200, body).with("Content-Type", "application/json"))
}

fn debug_vars<P: Probe>(_: &Request<'_>, probe: &P) -> Reply {
    Reply::Done(
        Response::new(200, probe.debug_vars()).with("Content-Type", "application/json; charset=utf-8"),
    )
}

fn health<P: Probe>(request: &Request<'_>, probe: &P) -> Reply {
    let alarm = probe
        .alarms()
        .into_iter()
        .map(alarm_name)
        .find(|name| !query::values(request.query, "exclude").any(|excluded| excluded == *name));
    if let Some(name) = alarm {
        return Reply::Done(unhealthy(&format!("ALARM {name}")));
    }
    if query::values(request.query, "serializable").next().as_deref() == Some("true") {
        return Reply::Done(health_after_read(probe.serializable_read()));
    }
    if !probe.has_leader() {
        return Reply::Done(unhealthy("RAFT NO LEADER"));
    }
    Reply::NeedsRead(Pending { cors: None, then: Then::Health })
}

fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
        AlarmKind::None => "UNKNOWN",
    }
}

fn health_after_read(read: Result<(), ApiError>) -> Response {
    match read {
        Ok(()) => Response::new(200, r#"{"health":"true","reason":""}"#.into()).with("Content-Type", PLAIN),
        Err(error) => unhealthy(&format!("RANGE ERROR:{error}")),
    }
}

/// `reason` needs no escapes in JSON: it is one of ours.
fn unhealthy(reason: &str) -> Response {
    Response::text(503, &format!(r#"{{"health":"false","reason":"{reason}"}}"#))
}

impl Pending {
    /// Finishes the answer, now that the read succeeded or failed.
    pub fn resume(self, read: Result<(), ApiError>, probe: &impl Probe) -> Response {
        let response = match self.then {
            Then::Health => health_after_read(read),
            Then::Checks(rest) => rest.resume(read, probe),
        };
        response.with_cors(self.cors)
    }
}

impl Response {
    pub(super) fn new(status: u16, body: String) -> Response {
        Response { status, headers: Vec::new(), body }
    }

    /// Plain text and a line end, with the headers of Go's `http.Error`.
    pub(super) fn text(status: u16, text: &str) -> Response {
        Response::new(status, format!("{text}\n"))
            .with("Content-Type", PLAIN)
            .with("X-Content-Type-Options", "nosniff")
    }

    fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    fn with_cors(self, origin: Option<String>) -> Response {
        let Some(origin) = origin else { return self };
        self.with("Access-Control-Allow-Headers", "accept, content-type, authorization")
            .with("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
            .with("Access-Control-Allow-Origin", origin)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A healthy single member, unless changed.
    #[derive(Clone, Debug)]
    pub struct Fixed {
        pub alarms: Vec<AlarmKind>,
        pub has_leader: bool,
        pub is_learner: bool,
        pub serializable_read: Result<(), ApiError>,
        pub cluster: Option<String>,
    }

    impl Default for Fixed {
        fn default() -> Fixed {
            let cluster = Some("3.6.0".into());
            Fixed { alarms: vec![], has_leader: true, is_learner: false, serializable_read: Ok(()), cluster }
        }
    }

    impl Probe for Fixed {
        fn alarms(&self) -> Vec<AlarmKind> {
            self.alarms.clone()
        }

        fn has_leader(&self) -> bool {
            self.has_leader
        }

        fn is_learner(&self) -> bool {
            self.is_learner
        }

        fn serializable_read(&self) -> Result<(), ApiError> {
            self.serializable_read
        }

        fn versions(&self) -> Versions {
            Versions { server: "3.6.16".into(), cluster: self.cluster.clone(), storage: self.cluster.clone() }
        }

        fn metrics(&self) -> String {
            "a_metric 1\n".into()
        }

        fn debug_vars(&self) -> String {
            "{}\n".into()
        }
    }

    fn request<'a>(method: &'a str, target: &'a str) -> Request<'a> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request { method, path, query, host: "localhost:2379", origin: "" }
    }

    /// The answer, and whether it took a read, which ends with `read`.
    fn finish(reply: Reply, read: Result<(), ApiError>) -> (Response, bool) {
        match reply {
            Reply::Done(response) => (response, false),
            Reply::NeedsRead(pending) => (pending.resume(read, &Fixed::default()), true),
        }
    }

    fn client() -> Port {
        Port::Client(Access::default())
    }

    const OK: &str = "ok\n";
    const NOT_FOUND: &str = "404 page not found\n";
    const NOT_ALLOWED: &str = "Method Not Allowed\n";
    const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

    #[test]
    fn a_healthy_member() {
        let check = |target: &str, status: u16, body: &str, reads: bool| {
            let reply = client().respond(&request("GET", target), &Fixed::default());
            let (response, read) = finish(reply, Ok(()));
            assert_eq!((response.status, response.body.as_str(), read), (status, body, reads), "{target}");
        };
        let versions = r#"{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}"#;
        check("/version", 200, versions, false);
        check("/version?x", 200, versions, false);
        check("/health", 200, HEALTHY, true);
        check("/health?exclude=NOSPACE", 200, HEALTHY, true);
        check("/health?serializable=true", 200, HEALTHY, false);
        check("/health?serializable=false", 200, HEALTHY, true);
        check("/livez", 200, OK, false);
        check("/livez?verbose", 200, "[+]serializable_read ok\nok\n", false);
        check("/livez?exclude=serializable_read&verbose", 200, OK, false);
        check("/livez/serializable_read", 200, OK, false);
        check(
            "/livez/serializable_read?exclude=serializable_read&verbose",
            200,
            "[+]serializable_read ok\nok\n",
            false,
        );
        check("/readyz", 200, OK, true);
        check("/readyz?exclude=linearizable_read", 200, OK, false);
        check(
            "/readyz?verbose=false&exclude=nonsense",
            200,
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
            true,
        );
        check("/readyz/linearizable_read", 200, OK, true);
        check("/readyz/non_learner?verbose", 200, "[+]non_learner ok\nok\n", false);
        check("/metrics", 200, "a_metric 1\n", false);
        check("/debug/vars", 200, "{}\n", false);
        for target in [
            "/",
            "/foo",
            "/v2/keys",
            "/health/",
            "/version/",
            "/metrics/",
            "/livez/",
            "/livez/nope",
            "/debug/pprof/",
        ] {
            check(target, 404, NOT_FOUND, false);
        }
        check("/readyz/data_corruption/x", 404, NOT_FOUND, false);
        check("/livez/data_corruption", 404, NOT_FOUND, false);
    }

    #[test]
    fn an_unhealthy_member() {
        let check = |probe: &Fixed, read: Result<(), ApiError>, target: &str, status: u16, body: &str| {
            let (response, _) = finish(client().respond(&request("GET", target), probe), read);
            assert_eq!((response.status, response.body.as_str()), (status, body), "{target} {probe:?}");
        };
        let alarms = |alarms: &[AlarmKind]| Fixed { alarms: alarms.to_vec(), ..Fixed::default() };
        let full = alarms(&[AlarmKind::NoSpace]);
        let corrupt = alarms(&[AlarmKind::NoSpace, AlarmKind::Corrupt]);
        let unhealthy = |reason: &str| format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n");
        check(&full, Ok(()), "/health", 503, &unhealthy("ALARM NOSPACE"));
        check(&full, Ok(()), "/health?serializable=true", 503, &unhealthy("ALARM NOSPACE"));
        check(&full, Ok(()), "/health?exclude=NOSPACE", 200, HEALTHY);
        check(&full, Ok(()), "/readyz", 200, OK);
        check(&corrupt, Ok(()), "/health?exclude=NOSPACE", 503, &unhealthy("ALARM CORRUPT"));
        check(&corrupt, Ok(()), "/health?exclude=NOSPACE&exclude=CORRUPT", 200, HEALTHY);
        check(&corrupt, Ok(()), "/livez", 200, OK);
        check(
            &corrupt,
            Ok(()),
            "/readyz?exclude=serializable_read&exclude=non_learner",
            503,
            "[-]data_corruption failed: alarm activated: CORRUPT\n[+]linearizable_read ok\n\n",
        );

        let lost = Fixed { has_leader: false, ..Fixed::default() };
        check(&lost, Ok(()), "/health", 503, &unhealthy("RAFT NO LEADER"));
        check(&lost, Ok(()), "/health?serializable=true", 200, HEALTHY);
        let late = Err(ApiError::Timeout);
        check(
            &Fixed::default(),
            late,
            "/health",
            503,
            &unhealthy("RANGE ERROR:etcdserver: request timed out"),
        );
        check(
            &Fixed::default(),
            late,
            "/readyz/linearizable_read",
            503,
            "[-]linearizable_read failed: etcdserver: request timed out\n\n",
        );

        let learner = Fixed { is_learner: true, ..Fixed::default() };
        check(&learner, Ok(()), "/readyz?exclude=non_learner", 200, OK);
        check(
            &learner,
            Ok(()),
            "/readyz/non_learner",
            503,
            "[-]non_learner failed: not supported for learner\n\n",
        );
        let stopped = Fixed { serializable_read: Err(ApiError::Stopped), ..Fixed::default() };
        check(&stopped, Ok(()), "/livez", 503, "[-]serializable_read failed: etcdserver: server stopped\n\n");

        let young = Fixed { cluster: None, ..Fixed::default() };
        let versions = r#"{"etcdserver":"3.6.16","etcdcluster":"not_decided","storage":"unknown"}"#;
        check(&young, Ok(()), "/version", 200, versions);
    }

    #[test]
    fn methods_and_headers() {
        let check =
            |port: &Port, method: &str, target: &str, status: u16, body: &str, headers: &[(&str, &str)]| {
                let (response, _) = finish(port.respond(&request(method, target), &Fixed::default()), Ok(()));
                assert_eq!((response.status, response.body.as_str()), (status, body), "{method} {target}");
                let got: Vec<_> =
                    response.headers.iter().map(|(name, value)| (*name, value.as_ref())).collect();
                assert_eq!(got, headers, "{method} {target}");
            };
        let nosniff = ("X-Content-Type-Options", "nosniff");
        let plain = ("Content-Type", "text/plain; charset=utf-8");
        let allow = ("Allow", "GET");
        let cors = [
            ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
            ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
            ("Access-Control-Allow-Origin", "*"),
        ];
        let with_cors = |headers: &[(&'static str, &'static str)]| [headers, &cors].concat();
        let port = client();
        for target in ["/version", "/health", "/livez", "/readyz/non_learner", "/debug/vars"] {
            for method in ["POST", "PUT", "HEAD", "get"] {
                check(&port, method, target, 405, NOT_ALLOWED, &with_cors(&[plain, nosniff, allow]));
            }
        }
        for method in ["GET", "POST", "HEAD"] {
            check(&port, method, "/metrics", 200, "a_metric 1\n", &with_cors(&[("Content-Type", METRICS)]));
            check(&port, method, "/livez/nope", 404, NOT_FOUND, &with_cors(&[plain, nosniff]));
        }
        for target in ["/version", "/nope"] {
            check(&port, "OPTIONS", target, 200, "", &cors);
        }
        check(&port, "GET", "/health", 200, HEALTHY, &with_cors(&[plain]));
        check(&port, "GET", "/readyz", 200, OK, &with_cors(&[plain, nosniff]));

        check(&Port::Metrics, "GET", "/health", 200, HEALTHY, &[plain]);
        check(&Port::Metrics, "GET", "/metrics", 200, "a_metric 1\n", &[("Content-Type", METRICS)]);
        check(&Port::Metrics, "GET", "/version", 404, NOT_FOUND, &[plain, nosniff]);
        check(&Port::Metrics, "GET", "/debug/vars", 404, NOT_FOUND, &[plain, nosniff]);
        check(&Port::Metrics, "OPTIONS", "/health", 405, NOT_ALLOWED, &[plain, nosniff, allow]);
    }
}
