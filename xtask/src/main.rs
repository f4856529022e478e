//! The project's own commands: what CI runs, the rules that a machine can check, and short names for the rigs in
//! `tests/` and `benches/`. `cargo xtask` alone lists them.

mod ci;
mod step;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use step::Step;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  ci [--full]         all that a change must pass; --full (or CI=true) adds the runs that need Go and real etcd
  tidy                the house rules that a machine can check
  sim [...]           a member in a simulated world, under every kind of fault; sim -h lists its options
  diff [...]          real etcd and the server call by call; diff -h lists its options
  process WHAT [...]  the server as a process; process -h lists what there is to check
  borrowed SUITE      kubernetes, etcd-common or envtest: suites of others, which need Go; see tests/README.md
  bench [--quick]     the server and real etcd by turns on one disk; --restart: first reads and memory; -h lists more";

/// In `tests/borrowed`.
const SUITES: [&str; 3] = ["kubernetes", "etcd-common", "envtest"];

fn main() -> ExitCode {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("ci") => ci::run(rest),
        Some("tidy") => tidy::run(),
        Some("sim") => simulate(rest),
        Some("diff") => subject(rest, &[]) && rig("diff", "kontiki-tests", "differential", rest).run(),
        Some("process") => subject(rest, &[]) && rig("process", "kontiki-tests", "process", rest).run(),
        Some("borrowed") => borrowed(rest),
        Some("bench") => {
            subject(rest, &["--release"])
                && rig("bench", "kontiki-benches", "compare", rest).arg("--release").run()
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One of the suites in `tests/borrowed`, by its script.
fn borrowed(args: &[String]) -> bool {
    let Some((suite, rest)) = args.split_first().filter(|(suite, _)| SUITES.contains(&suite.as_str())) else {
        eprintln!("xtask borrowed: which of {}?", SUITES.join(", "));
        return false;
    };
    let script = format!("tests/borrowed/{suite}/run.sh");
    let step = rest.iter().fold(Step::new("borrowed", "bash", [script.as_str()]), |step, arg| step.arg(arg));
    // A path or --reference names another server.
    (!rest.is_empty() || subject(rest, &["--release"])) && step.run()
}

/// The simulator, with the mistakes that it must find compiled in if it is to hunt them.
fn simulate(args: &[String]) -> bool {
    let hunts = args.iter().any(|arg| arg == "--bugs");
    let sim = rig("sim", "kontiki-sim", "sim", args);
    if hunts { sim.arg("--features").arg("seeded-bugs").run() } else { sim.run() }
}

/// Builds the server unless another one is named.
fn subject(args: &[String], profile: &[&str]) -> bool {
    let named = args.iter().any(|arg| arg == "--subject") || std::env::var_os("KONTIKI_BIN").is_some();
    let build = ["build", "--package", "kontiki"].into_iter().chain(profile.iter().copied());
    named || Step::cargo("build", build).run()
}

/// A program of one of the rigs, with its own arguments.
fn rig(name: &'static str, package: &str, program: &str, args: &[String]) -> Step {
    Step::cargo(name, ["run", "--quiet", "--package", package, "--bin", program]).rest(args)
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ is inside the workspace").to_path_buf()
}
