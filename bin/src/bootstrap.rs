//! The first start of a member: who it is, and which cluster it makes.
//!
//! Ids are hashes, so that the members of a new cluster agree on them without speaking: the formulas and the
//! checks of `--initial-cluster` are etcd's (`membership/cluster.go`, `membership/member.go`,
//! `config/config.go`). A restart reads its identity from the data directory and comes nowhere near this
//! file.
//!
//! Not here yet: clusters of several members, and joining one. Both are refused, because a member that began
//! alone where it was told to have peers would be a second cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use sha1::{Digest, Sha1};

use crate::config::{ClusterState, Config};
use crate::flags::{Failure, Note};
use crate::logging::Level;
use crate::url::{self, Scheme, Url};

/// What a fresh member is and what its cluster consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Id of the cluster.
    pub cluster_id: u64,
    /// Id of this member.
    pub member_id: u64,
    /// All members, ascending by id.
    pub members: Vec<Member>,
}

/// A member as `--initial-cluster` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Id.
    pub id: u64,
    /// Name.
    pub name: String,
    /// Peer URLs, sorted.
    pub peer_urls: Vec<Url>,
}

/// Looks a host name up: its addresses, or why there are none.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Result<Vec<IpAddr>, String>;

/// Works out a fresh member's identity from a checked configuration. On failure, the lines to end with.
///
/// `resolve` is asked only when the texts of peer URLs differ and one of them names a host; it may block.
pub fn plan(config: &Config, resolve: Resolve<'_>) -> Result<Bootstrap, Failure> {
    let fail = |error: String| Failure::start(Vec::new(), error);
    let cluster = parse_cluster(&config.initial_cluster)
        .map_err(|error| fail(format!("error setting up initial cluster: {error}")))?;
    let Some(own) = cluster.get(config.name.as_str()) else {
        let error =
            format!("couldn't find local name {:?} in the initial cluster configuration", config.name);
        return Err(fail(error));
    };
    if config.initial_cluster_state == ClusterState::New {
        advertise_matches(config, own, resolve)?;
    }
    if has_duplicate_url(&cluster) {
        return Err(fail(format!("initial cluster {} has duplicate url", cluster_text(&cluster))));
    }
    if config.initial_cluster_state == ClusterState::Existing {
        return Err(fail(refusal("--initial-cluster-state=existing", "joining a cluster is not built yet")));
    }
    if cluster.len() > 1 {
        let count = cluster.len();
        let why = format!("it names {count} members, and clusters of several members are not built yet");
        return Err(fail(refusal("--initial-cluster", &why)));
    }
    Ok(bootstrap(&config.name, cluster, &config.initial_cluster_token))
}

fn refusal(flag: &str, why: &str) -> String {
    format!("{flag} is not supported: {why}")
}

fn bootstrap(name: &str, cluster: BTreeMap<String, Vec<Url>>, token: &str) -> Bootstrap {
    let mut members: Vec<Member> = cluster
        .into_iter()
        .map(|(name, peer_urls)| Member { id: member_id(&peer_urls, token), name, peer_urls })
        .collect();
    members.sort_by_key(|member| member.id);
    let member_id = members.iter().find(|member| member.name == name).expect("looked up before").id;
    Bootstrap { cluster_id: cluster_id(&members), member_id, members }
}

/// First 8 bytes of SHA-1 over the sorted peer URLs and the token, without separators. The name does not
/// count.
pub fn member_id(peer_urls: &[Url], token: &str) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(Url::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(token);
    first_8(hash)
}

/// First 8 bytes of SHA-1 over the ascending member ids, 8 bytes each, big-endian.
fn cluster_id(members: &[Member]) -> u64 {
    debug_assert!(members.is_sorted_by_key(|member| member.id), "members out of order: {members:?}");
    let mut hash = Sha1::new();
    members.iter().for_each(|member| hash.update(member.id.to_be_bytes()));
    first_8(hash)
}

fn first_8(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    u64::from_be_bytes(*digest.first_chunk().expect("a SHA-1 digest has 20 bytes"))
}

/// `name=url,name=url2,other=url`: the URLs of each name, sorted.
fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<Url>>, String> {
    let mut cluster: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        cluster.entry(name.to_owned()).or_default().push(Url::parse(url)?);
    }
    cluster.values_mut().for_each(|urls| urls.sort());
    Ok(cluster)
}

fn cluster_text(cluster: &BTreeMap<String, Vec<Url>>) -> String {
    let mut pairs: Vec<String> =
        cluster.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}"))).collect();
    pairs.sort();
    pairs.join(",")
}

fn has_duplicate_url(cluster: &BTreeMap<String, Vec<Url>>) -> bool {
    let mut urls: Vec<&Url> = cluster.values().flatten().collect();
    urls.sort();
    urls.windows(2).any(|pair| pair[0] == pair[1])
}

/// The URLs this member advertises must be those the cluster is told of: etcd's `advertiseMatchesCluster`.
fn advertise_matches(config: &Config, own: &[Url], resolve: Resolve<'_>) -> Result<(), Failure> {
    let advertised = &config.initial_advertise_peer_urls;
    let Err(why) = same_addresses(advertised, own, resolve) else { return Ok(()) };
    let name = &config.name;
    let missing = |from: &[Url], in_: &[Url]| -> Vec<Url> {
        from.iter().filter(|url| !in_.contains(url)).cloned().collect()
    };
    let not_advertised = missing(own, advertised);
    let not_in_cluster = missing(advertised, own);
    let own_text = advertised.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
    let error = if !not_advertised.is_empty() {
        let pairs: Vec<String> = not_advertised.iter().map(|url| format!("{name}={url}")).collect();
        format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({why})",
            pairs.join(","),
            url::join(advertised)
        )
    } else if !not_in_cluster.is_empty() {
        let urls = url::join(&not_in_cluster);
        format!("--initial-advertise-peer-urls has {urls} but missing from --initial-cluster={own_text}")
    } else {
        format!("failed to resolve {} to match --initial-cluster={own_text} ({why})", url::join(advertised))
    };
    Err(mismatch(config, error))
}

/// etcd looks for the word "include" in its error before it gives these hints, and its error no longer has
/// it; they are given here, where they help.
fn mismatch(config: &Config, error: String) -> Failure {
    let mut notes = Vec::new();
    let mut hint = |msg: &str| notes.push(Note::new(Level::Warn, msg));
    if config.initial_cluster_is_default {
        hint("forgot to set --initial-cluster?");
    }
    if url::join(&config.initial_advertise_peer_urls) == "http://localhost:2380" {
        hint("forgot to set --initial-advertise-peer-urls?");
    }
    Failure::start(notes, error)
}

/// Whether both lists name the same addresses once host names are looked up: etcd's `URLStringsEqual`.
fn same_addresses(advertised: &[Url], own: &[Url], resolve: Resolve<'_>) -> Result<(), String> {
    if advertised.len() != own.len() {
        return Err(format!("len([{}]) != len([{}])", quoted(advertised), quoted(own)));
    }
    if advertised == own {
        return Ok(());
    }
    let resolved = |urls: &[Url]| -> Result<Vec<String>, String> {
        let mut found = urls.iter().map(|url| resolved_text(url, resolve)).collect::<Result<Vec<_>, _>>()?;
        found.sort();
        Ok(found)
    };
    let (advertised, own) = (resolved(advertised)?, resolved(own)?);
    match advertised.iter().zip(&own).find(|(one, other)| one != other) {
        Some((one, other)) => Err(format!("resolved urls: {one:?} != {other:?}")),
        None => Ok(()),
    }
}

fn quoted(urls: &[Url]) -> String {
    urls.iter().map(|url| format!("{:?}", url.as_str())).collect::<Vec<_>>().join(" ")
}

/// The URL with its host looked up. `localhost` and sockets in the file system stay as they are, as in etcd.
fn resolved_text(url: &Url, resolve: Resolve<'_>) -> Result<String, String> {
    let (host, port) = (url.host(), url.port());
    let is_socket = matches!(url.scheme(), Scheme::Unix | Scheme::Unixs);
    if is_socket || host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return Ok(url.to_string());
    }
    let addresses = resolve(host).map_err(|why| format!("failed to resolve {:?} ({why})", url.as_str()))?;
    let address =
        addresses.first().ok_or_else(|| format!("failed to resolve {:?} (no address)", url.as_str()))?;
    let address = SocketAddr::new(*address, port.parse().unwrap_or(0));
    Ok(url.as_str().replacen(&format!("{host}:{port}"), &address.to_string(), 1))
}

/// A [`Resolve`] that asks the system. Blocks for as long as the system's resolver takes.
pub fn resolve_by_system(host: &str) -> Result<Vec<IpAddr>, String> {
    let addresses = (host, 0).to_socket_addrs().map_err(|error| format!("lookup {host}: {error}"))?;
    Ok(addresses.map(|address| address.ip()).collect())
}

/// The address this host has towards the world, for [`Host`](crate::config::Host): that of its default route.
///
/// Asks the routing table by a UDP socket that sends nothing; the address it is pointed at is one of
/// documentation.
pub fn default_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket
        .local_addr()
        .ok()
        .map(|address| address.ip())
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Host, Loaded};
    use crate::flags::Start;

    fn planned(line: &str) -> Result<Bootstrap, Failure> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let read_file = |_: &str| Ok(Vec::new());
        let start = Start { program: "kontiki", args: &args, env: &[], read_file: &read_file };
        let Loaded::Serve(config) = config::load(&start, &Host::default()) else { panic!("{line}") };
        let resolve = |name: &str| match name {
            "a.example" => Ok(vec![IpAddr::from([10, 0, 0, 7])]),
            _ => Err(format!("lookup {name}: no such host")),
        };
        plan(&config, &resolve)
    }

    #[test]
    fn ids_are_those_of_etcd() {
        // Seen: one member at http://127.0.0.1:22001 with the default token.
        let urls = "--initial-advertise-peer-urls=http://127.0.0.1:22001";
        let one = planned(&format!("--name=a {urls}")).unwrap();
        assert_eq!((one.member_id, one.cluster_id), (0xbe2d219f31d83897, 0xbe8a890b9c0f3327));
        // A bare `etcd` logs these.
        let bare = planned("").unwrap();
        assert_eq!(format!("{:x}", bare.member_id), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", bare.cluster_id), "cdf818194e3a8c32");
    }

    #[test]
    fn names_do_not_count_and_tokens_do() {
        let urls = "--initial-advertise-peer-urls=http://127.0.0.1:1";
        let id = |line: &str| planned(&format!("{line} {urls}")).unwrap().member_id;
        assert_eq!(id("--name=a"), id("--name=b"));
        assert_ne!(id("--name=a"), id("--name=a --initial-cluster-token=t"));
    }

    #[test]
    fn members_are_in_order_of_their_ids() {
        let cluster =
            parse_cluster("a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3").unwrap();
        let plan = bootstrap("b", cluster, "t");
        assert!(plan.members.is_sorted_by_key(|member| member.id));
        assert_eq!(plan.members.iter().find(|member| member.name == "b").unwrap().id, plan.member_id);
    }

    /// The texts of etcd 3.6.16, seen.
    #[test]
    fn mistakes_are_told_in_etcds_words() {
        let cases: &[(&str, &str)] = &[
            (
                "--initial-cluster=a=http://127.0.0.1:31002",
                "couldn't find local name \"default\" in the initial cluster configuration",
            ),
            (
                "--initial-cluster=",
                "couldn't find local name \"default\" in the initial cluster configuration",
            ),
            (
                "--initial-cluster=default=http://127.0.0.1:31002",
                "--initial-cluster has default=http://127.0.0.1:31002 but missing from \
                 --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: \"http://localhost:2380\" != \
                 \"http://127.0.0.1:31002\")",
            ),
            (
                "--initial-advertise-peer-urls=http://127.0.0.1:31002",
                "--initial-cluster has default=http://localhost:2380 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:31002 (resolved urls: \"http://127.0.0.1:31002\" != \
                 \"http://localhost:2380\")",
            ),
            (
                "--initial-cluster=default=foo",
                "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: foo",
            ),
            (
                "--name=a --initial-advertise-peer-urls=http://127.0.0.1:1 \
                 --initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:1",
                "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
            ),
        ];
        for (line, error) in cases {
            let failure = planned(line).unwrap_err();
            assert_eq!((failure.error(), failure.last.level), (*error, Level::Fatal), "{line}");
        }
    }

    #[test]
    fn host_names_are_looked_up_except_localhost() {
        let advertise = "--initial-advertise-peer-urls=http://a.example:1";
        planned(&format!("{advertise} --initial-cluster=default=http://10.0.0.7:1")).unwrap();
        let failure =
            planned(&format!("{advertise} --initial-cluster=default=http://b.example:1")).unwrap_err();
        assert!(
            failure
                .error()
                .ends_with("(failed to resolve \"http://b.example:1\" (lookup b.example: no such host))")
        );
        assert!(planned("--initial-cluster=default=http://127.0.0.1:2380").is_err());
    }

    #[test]
    fn more_than_one_member_is_refused() {
        for (line, flag) in [
            (
                "--name=a --initial-advertise-peer-urls=http://127.0.0.1:1 \
                 --initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2",
                "--initial-cluster is not supported: it names 2 members",
            ),
            ("--initial-cluster-state=existing", "--initial-cluster-state=existing is not supported: "),
        ] {
            let failure = planned(line).unwrap_err();
            assert!(failure.error().starts_with(flag), "{line}: {}", failure.error());
        }
    }

    #[test]
    fn forgotten_flags_are_hinted_at() {
        let failure = planned("--initial-advertise-peer-urls=http://127.0.0.1:31002").unwrap_err();
        assert_eq!(failure.notes[0].msg, "forgot to set --initial-cluster?");
    }
}
