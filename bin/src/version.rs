//! Which etcd we stand in for, and which version of ours does it.
//!
//! Clients gate features on the etcd version (`/version`, `Status`, the first line of `--version`), so that
//! one is the reference's; ours stands in a line and a metric of its own.

/// The etcd release this server stands in for.
pub const ETCD: &str = "3.6.16";

/// The cluster version of that release.
pub const CLUSTER: &str = "3.6.0";

/// Our own release.
pub const KONTIKI: &str = env!("CARGO_PKG_VERSION");

/// The four lines of `--version`; tools read the first.
pub fn text() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let revision = option_env!("KONTIKI_GIT_SHA").unwrap_or("not recorded in this build");
    format!("etcd Version: {ETCD}\nGit SHA: {revision}\nKontiki Version: {KONTIKI}\nOS/Arch: linux/{arch}\n")
}
