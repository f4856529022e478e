//! http.md section 2: the HTTP/1.1 paths beside gRPC on the client port, without the JSON gateway.

use super::super::http1::HttpAnswer;
use super::Case;

pub const CASES: &[Case] = &[
    Case {
        rows: &["http/2/version", "http/1/port-sharing", "http/2/cors"],
        run: |p| {
            let answer = p.http_with("GET", "/version", &[], canonical_json);
            let fits = answer.is_ok_and(|answer| answer.status.ends_with("200 OK"));
            p.expect(fits, "/version answers 200");
            let _ = p.http_with("GET", "/version?x=1", &[], canonical_json);
            for method in ["POST", "PUT", "DELETE", "HEAD"] {
                let _ = p.http_with(method, "/version", &[], |answer| {
                    if method == "HEAD" {
                        canonical_json(answer);
                    }
                });
            }
        },
    },
    Case {
        rows: &["http/2/health"],
        run: |p| {
            for path in
                ["/health", "/health?serializable=true", "/health?exclude=NOSPACE", "/health?exclude=x"]
            {
                let _ = p.http("GET", path);
            }
            for method in ["POST", "PUT", "DELETE", "HEAD"] {
                let _ = p.http(method, "/health");
            }
        },
    },
    Case {
        rows: &["http/2/livez", "http/2/readyz", "http/2/single-check"],
        run: |p| {
            for path in [
                "/livez",
                "/livez?verbose",
                "/livez?exclude=serializable_read",
                "/livez?verbose&exclude=serializable_read",
                "/livez/serializable_read",
                "/livez/serializable_read?verbose",
                "/livez/nope",
                "/livez/",
                "/livez?exclude=unknown",
                "/readyz",
                "/readyz?verbose",
                "/readyz?exclude=data_corruption&verbose",
                "/readyz/data_corruption",
                "/readyz/serializable_read",
                "/readyz/linearizable_read",
                "/readyz/non_learner",
                "/readyz/nope",
                "/readyz/",
            ] {
                let _ = p.http_with("GET", path, &[], sort_lines);
            }
            for method in ["POST", "HEAD"] {
                let _ = p.http(method, "/livez");
                let _ = p.http(method, "/readyz");
            }
        },
    },
    Case {
        rows: &["http/2/metrics"],
        run: |p| {
            for method in ["GET", "HEAD", "POST"] {
                let _ = p.http_with(method, "/metrics", &[], |answer| answer.body.clear());
            }
        },
    },
    Case {
        rows: &["http/2/not-found"],
        run: |p| {
            for path in [
                "/",
                "/v2/keys",
                "/v2/keys/a",
                "/v3alpha/kv/range",
                "/nope",
                "/healthz",
                "/Health",
                "/health/",
            ] {
                let _ = p.http("GET", path);
                let _ = p.http("POST", path);
            }
            let _ = p.http("GET", "/debug/pprof/");
            let _ = p.http("HEAD", "/nope");
        },
    },
    Case {
        rows: &["http/2/options"],
        run: |p| {
            for path in ["/", "/version", "/health", "/metrics", "/nope"] {
                let _ = p.http("OPTIONS", path);
            }
        },
    },
    Case {
        rows: &["http/2/cors"],
        run: |p| {
            for origin in ["http://example.org", "null"] {
                let _ = p.http_with("GET", "/health", &[("Origin", origin)], |_| {});
                let _ = p.http_with("OPTIONS", "/health", &[("Origin", origin)], |_| {});
            }
            let _ = p.http_with("GET", "/health", &[("Host", "some.where")], |_| {});
        },
    },
];

/// Spacing in JSON varies from build to build on purpose.
fn canonical_json(answer: &mut HttpAnswer) {
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&answer.body) {
        answer.body = value.to_string();
    }
}

/// The order of the checks is random in etcd.
pub fn sort_lines(answer: &mut HttpAnswer) {
    let mut lines = answer.body.split_inclusive('\n').collect::<Vec<_>>();
    lines.sort_unstable();
    answer.body = lines.concat();
}
