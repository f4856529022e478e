//! What a change must pass: the quick checks everywhere, and with Go at hand the runs against real etcd.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::step::Step;
use crate::{rig, root, simulate, tidy};

/// Seeds are fixed in CI: a change must not fail for what another change brought.
const GENERATED_CALLS: &str = "3000";

/// What a server may run on; each must keep what it acknowledged.
const DRIVERS: [&str; 2] = ["io_uring", "portable"];

/// Beyond those of `cargo test`.
const SEEDS: &str = "200..1200";

/// Runs of several members, each twice.
const CLUSTERS: &str = "0..1000";

/// Runs all steps up to the first that fails.
pub fn run(args: &[String]) -> bool {
    if let Some(unknown) = args.iter().find(|arg| *arg != "--full") {
        eprintln!("xtask ci: unknown argument {unknown}");
        return false;
    }
    let full = args.iter().any(|arg| arg == "--full") || std::env::var_os("CI").is_some();
    let start = Instant::now();
    let good = quick() && (!full || against_etcd());
    println!(
        "xtask: ci {} after {:.1} s",
        if good { "passed" } else { "FAILED" },
        start.elapsed().as_secs_f64()
    );
    good
}

/// Needs Rust and a C compiler, nothing else.
fn quick() -> bool {
    let all = ["--workspace", "--all-targets"];
    tidy::run()
        && Step::cargo("fmt", ["fmt", "--all", "--check"]).run()
        && Step::cargo("clippy", ["clippy", "--quiet"].into_iter().chain(all))
            .rest(&["-D".to_owned(), "warnings".to_owned()])
            .run()
        && Step::cargo("doc", ["doc", "--quiet", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .run()
        && Step::cargo("test", ["test", "--workspace"]).run()
        && sim("seeds", &["--seeds", SEEDS])
        && sim("clusters", &["--cluster", CLUSTERS])
        && sim("faults", &["--faults"])
        && sim("bugs", &["--bugs"])
}

fn sim(name: &'static str, args: &[&str]) -> bool {
    println!("xtask: sim, {name}");
    simulate(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
}

/// Needs Go, for real etcd and for the Go client.
fn against_etcd() -> bool {
    let diff = |what: &str, more: &[&str]| {
        let args = [what].iter().chain(more).map(|&arg| arg.to_owned()).collect::<Vec<_>>();
        rig("diff", "kontiki-tests", "differential", &args).run()
    };
    let etcd = root().join("tests/borrowed/bin/etcd36/etcd").display().to_string();
    let ready = Step::new("get etcd", "bash", ["tests/borrowed/get-etcd.sh"]).run()
        && Step::new("get h2spec", "bash", ["tests/borrowed/get-h2spec.sh"]).run()
        && Step::cargo("build", ["build", "--package", "kontiki"]).run()
        // The judge is judged first: etcd must equal etcd.
        && diff("cases", &["--subject", &etcd]);
    if !ready || !serves() {
        return ready;
    }
    let process = |args: &[&str]| {
        let args = args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
        rig("process", "kontiki-tests", "process", &args).run()
    };
    diff("cases", &[])
        && diff("generated", &["--cases", GENERATED_CALLS])
        && ["flags", "h2spec", "floods", "snapshot", "leases"].into_iter().all(|check| process(&[check]))
        && process(&["refused"])
        && DRIVERS.into_iter().all(|driver| {
            let checks = [
                "ports",
                "kubernetes",
                "hostile",
                "kill9",
                "copies",
                "power",
                "stall",
                "watch",
                "reclaim",
                "lists",
                "cgroup",
                "race",
            ];
            checks.into_iter().all(|check| process(&[check, "--driver", driver]))
        })
        // Those of other languages need package managers and what they fetch: tests/README.md.
        && Step::new("clients", "bash", ["tests/clients/run.sh", "target/debug/kontiki", "go", "etcdctl"]).run()
        && Step::new("etcd-common", "bash", ["tests/borrowed/etcd-common/run.sh", "target/debug/kontiki"])
            .run()
}

/// Whether the program built here is a server yet.
fn serves() -> bool {
    let program: PathBuf = root().join("target/debug/kontiki");
    let output = Command::new(&program).arg("--version").output();
    let known = output.is_ok_and(|output| output.stdout.starts_with(b"etcd Version: "));
    if !known {
        println!("xtask: {} is no server yet; the runs that need one are left out", program.display());
    }
    known
}
