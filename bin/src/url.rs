//! Listen and advertise URLs, with the rules and the error texts of etcd's `types.NewURLs`.
//!
//! Not a general URL parser: four schemes, an authority, and no path for the http ones. What Go's `net/url`
//! would refuse before etcd looks at it is refused here with Go's sentence, because operators search for
//! those.

use std::fmt;

/// How to reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP without TLS.
    Http,
    /// TCP with TLS.
    Https,
    /// A socket in the file system, without TLS.
    Unix,
    /// A socket in the file system, with TLS.
    Unixs,
}

impl Scheme {
    /// Whether a listener of this scheme speaks TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

/// One URL; its text form is what clients and peers are told and what member ids are hashed from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// `scheme://authority[/path]`. First, so that the derived order is that of the text, as in etcd.
    text: String,
    scheme: Scheme,
    /// Byte range of the authority within `text`.
    authority: (usize, usize),
}

impl Url {
    /// Reads one URL; surrounding blanks are dropped. The error is etcd's sentence.
    pub fn parse(input: &str) -> Result<Url, String> {
        let input = input.trim();
        let (scheme, rest) = split_scheme(input)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {input}")),
        };
        let after = rest.strip_prefix("//").unwrap_or("");
        let authority_len = after.find(['/', '?', '#']).unwrap_or(after.len());
        let host = after[..authority_len].rsplit('@').next().unwrap_or("");
        check_authority(input, host)?;
        if matches!(scheme, Scheme::Http | Scheme::Https) {
            split_host_port(host)
                .map_err(|_| format!("URL address does not have the form \"host:port\": {input}"))?;
            if after[authority_len..].starts_with('/') {
                return Err(format!("URL must not contain a path: {input}"));
            }
        }
        let text = format!("{}://{after}", scheme.name());
        let end = scheme.name().len() + 3 + authority_len;
        Ok(Url { authority: (end - host.len(), end), text, scheme })
    }

    /// Reads a comma-separated list: sorted, each URL once. The first bad one is the error.
    pub fn parse_list(list: &str) -> Result<Vec<Url>, String> {
        let mut urls = list.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The text, as clients see it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `host:port`; for a unix socket its path.
    pub fn address(&self) -> &str {
        match self.scheme {
            Scheme::Http | Scheme::Https => self.authority(),
            // etcd joins host and path: `unix://a/b` and `unix:///a/b` both name files.
            Scheme::Unix | Scheme::Unixs => &self.text[self.authority.0..],
        }
    }

    /// Host name or address without port and brackets; empty for a unix socket.
    pub fn host(&self) -> &str {
        split_host_port(self.authority()).map_or("", |(host, _)| host)
    }

    /// Port as written; empty when there is none.
    pub fn port(&self) -> &str {
        split_host_port(self.authority()).map_or("", |(_, port)| port)
    }

    fn authority(&self) -> &str {
        &self.text[self.authority.0..self.authority.1]
    }

    /// A listener binds addresses, not names (`localhost` excepted): etcd's `checkBindURLs`.
    pub fn check_bind(&self) -> Result<(), String> {
        if matches!(self.scheme, Scheme::Unix | Scheme::Unixs) {
            return Ok(());
        }
        let (host, _) = split_host_port(self.authority())?;
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        match host == "localhost" || is_address {
            true => Ok(()),
            false => Err(format!("expected IP in URL for binding ({self})")),
        }
    }

    /// An advertised URL needs a host and a port: etcd's `checkHostURLs`.
    pub fn check_host(&self) -> Result<(), String> {
        let (host, _) = split_host_port(self.authority())?;
        match host {
            "" => Err(format!("unexpected empty host ({self})")),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The texts joined with commas, as etcd prints lists of URLs.
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

/// What stands before the first colon, and what follows it, by the rules of Go's `url.Parse`.
fn split_scheme(input: &str) -> Result<(&str, &str), String> {
    let end = input.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(input.len());
    let starts_with_letter = input.starts_with(|c: char| c.is_ascii_alphabetic());
    if input.starts_with(':') {
        return Err(format!("parse {input:?}: missing protocol scheme"));
    }
    if starts_with_letter && input[end..].starts_with(':') {
        return Ok((&input[..end], &input[end + 1..]));
    }
    let first_segment = input.split('/').next().unwrap_or("");
    if first_segment.contains(':') {
        return Err(format!("parse {input:?}: first path segment in URL cannot contain colon"));
    }
    Ok(("", input))
}

/// A host has no escapes, and its port is digits or nothing.
fn check_authority(input: &str, host: &str) -> Result<(), String> {
    if let Some(escape) = host.find('%') {
        let escape: String = host[escape..].chars().take(3).collect();
        return Err(format!("parse {input:?}: invalid URL escape {escape:?}"));
    }
    let port = match (host.starts_with('['), host.rfind(']')) {
        (true, None) => return Err(format!("parse {input:?}: missing ']' in host")),
        (true, Some(end)) => &host[end + 1..],
        // The first colon: an address with more of them wants brackets.
        (false, _) => host.find(':').map_or("", |at| &host[at..]),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    match (port.is_empty() || port.starts_with(':')) && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(()),
        false => Err(format!("parse {input:?}: invalid port {port:?} after host")),
    }
}

/// Go's `net.SplitHostPort`, errors included.
fn split_host_port(address: &str) -> Result<(&str, &str), String> {
    let fail = |why: &str| match address {
        "" => Err(why.to_owned()),
        _ => Err(format!("address {address}: {why}")),
    };
    let Some(colon) = address.rfind(':') else { return fail("missing port in address") };
    let host = match address.strip_prefix('[') {
        Some(inner) => match inner.find(']') {
            None => return fail("missing ']' in address"),
            Some(end) if end + 2 == colon => &inner[..end],
            Some(end) if end + 2 < colon => return fail("too many colons in address"),
            Some(_) => return fail("missing port in address"),
        },
        None => &address[..colon],
    };
    if !address.starts_with('[') && host.contains(':') {
        return fail("too many colons in address");
    }
    Ok((host, &address[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_etcd_takes() {
        // (input, text, address, host, port)
        for (input, text, address, host, port) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379", "127.0.0.1:2379", "127.0.0.1", "2379"),
            (" HTTPS://a.b:1 ", "https://a.b:1", "a.b:1", "a.b", "1"),
            ("http://[::1]:2379", "http://[::1]:2379", "[::1]:2379", "::1", "2379"),
            ("http://:2379", "http://:2379", ":2379", "", "2379"),
            ("http://u:p@a:1", "http://u:p@a:1", "a:1", "a", "1"),
            ("unix://etcd.unix:1", "unix://etcd.unix:1", "etcd.unix:1", "etcd.unix", "1"),
            ("unix:///tmp/x", "unix:///tmp/x", "/tmp/x", "", ""),
            ("unixs://a/b:1", "unixs://a/b:1", "a/b:1", "", ""),
        ] {
            let url = Url::parse(input).unwrap();
            assert_eq!((url.as_str(), url.address(), url.host(), url.port()), (text, address, host, port));
        }
    }

    #[test]
    fn refuses_with_the_texts_of_etcd() {
        for (input, error) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://::1:2379", "parse \"http://::1:2379\": invalid port \"::1:2379\" after host"),
            ("http://[::1:2379", "parse \"http://[::1:2379\": missing ']' in host"),
            ("http://[::1]a:1", "parse \"http://[::1]a:1\": invalid port \"a:1\" after host"),
            ("http://%zz:1", "parse \"http://%zz:1\": invalid URL escape \"%zz\""),
            ("http://127.0.0.1:1/p", "URL must not contain a path: http://127.0.0.1:1/p"),
            ("http://127.0.0.1:1/", "URL must not contain a path: http://127.0.0.1:1/"),
            ("127.0.0.1:2379", "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"),
            ("://a:1", "parse \"://a:1\": missing protocol scheme"),
            ("http://a:b", "parse \"http://a:b\": invalid port \":b\" after host"),
        ] {
            assert_eq!(Url::parse(input), Err(error.to_owned()));
        }
    }

    #[test]
    fn lists_are_sorted_and_unique() {
        let urls = Url::parse_list("http://b:1, http://a:1,http://b:1").unwrap();
        assert_eq!(join(&urls), "http://a:1,http://b:1");
    }

    #[test]
    fn binding_needs_an_address() {
        for (input, error) in [
            ("http://localhost:1", None),
            ("http://0.0.0.0:1", None),
            ("http://[::]:1", None),
            ("unix://name:1", None),
            ("http://foo:1", Some("expected IP in URL for binding (http://foo:1)")),
            ("http://:2379", Some("expected IP in URL for binding (http://:2379)")),
        ] {
            assert_eq!(Url::parse(input).unwrap().check_bind().err().as_deref(), error);
        }
    }

    #[test]
    fn advertising_needs_a_host() {
        for (input, error) in [
            ("http://foo:1", None),
            ("unix://name:1", None),
            ("http://:2379", Some("unexpected empty host (http://:2379)")),
            ("unix:///tmp/x", Some("missing port in address")),
        ] {
            assert_eq!(Url::parse(input).unwrap().check_host().err().as_deref(), error);
        }
    }
}
