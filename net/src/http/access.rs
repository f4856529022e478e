//! Who may ask: the `Host` header against DNS rebinding, the `Origin` header for browsers.

use super::endpoints::Response;
use crate::quote::quote;

/// Who may ask a client port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `--host-whitelist`: names a `Host` header may hold; empty or with a `*`, any.
    pub hosts: Vec<String>,
    /// Whether the port speaks TLS: then any host is allowed.
    pub tls: bool,
    /// `--cors`: origins that browsers may ask from; empty or with a `*`, any.
    pub origins: Vec<String>,
}

impl Access {
    /// Refuses a `Host` header that names none of ours.
    pub(super) fn check_host(&self, host: &str) -> Result<(), Response> {
        let host = hostname(host);
        if self.tls || allowed(&self.hosts, host) { Ok(()) } else { Err(misdirected(host)) }
    }

    /// The origin to allow, if any.
    pub(super) fn cors(&self, origin: &str) -> Option<String> {
        if allowed(&self.origins, "*") {
            Some("*".into())
        } else {
            allowed(&self.origins, origin).then(|| origin.into())
        }
    }
}

fn allowed(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == "*" || entry == name)
}

/// The host without its port, and an IPv6 address without its brackets if a port follows.
fn hostname(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if name.starts_with('[') && name.ends_with(']') => &name[1..name.len() - 1],
        Some((name, _)) if !name.contains([':', '[', ']']) => name,
        _ => host,
    }
}

/// The answer to a page of a foreign site that made a browser ask us (CVE-2018-5702).
fn misdirected(host: &str) -> Response {
    let host = quote(host.as_bytes());
    let text = format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {host}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).
"
    );
    Response::text(421, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_checked_without_tls() {
        let access = |tls| Access { hosts: vec!["localhost".into(), "::1".into()], tls, ..Access::default() };
        for host in ["localhost", "localhost:99", "[::1]:80", "::1"] {
            assert_eq!(access(false).check_host(host), Ok(()), "{host}");
        }
        // Lengths as recorded from etcd.
        for (host, len) in [("evil.com", 370), ("evil.com:80", 370), ("[::1]", 367), ("", 362), (":80", 362)]
        {
            let response = access(false).check_host(host).unwrap_err();
            assert_eq!((response.status, response.body.len()), (421, len), "{}", response.body);
            assert_eq!(access(true).check_host(host), Ok(()));
        }
        for host in ["127.0.0.1", "localhost:1:2", "LOCALHOST"] {
            assert!(access(false).check_host(host).is_err(), "{host}");
        }
        let any = Access { hosts: vec!["*".into()], ..Access::default() };
        assert_eq!(any.check_host("evil.com"), Ok(()));
        assert_eq!(Access::default().check_host("evil.com"), Ok(()));
    }

    #[test]
    fn origins_are_named_only_if_allowed() {
        let check = |origins: &[&str], origin, expected: Option<&str>| {
            let origins = origins.iter().map(|origin| origin.to_string()).collect();
            let access = Access { origins, ..Access::default() };
            assert_eq!(access.cors(origin).as_deref(), expected);
        };
        check(&[], "", Some("*"));
        check(&["*"], "http://a", Some("*"));
        check(&["http://a"], "http://a", Some("http://a"));
        check(&["http://a"], "http://b", None);
        check(&["http://a"], "", None);
    }
}
