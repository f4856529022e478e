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
  diff [...]          real etcd and the server call by call; see diff --help
  process WHAT [...]  kill9, copies, race or flags: the server as a process
  bench [--quick]     the server and real etcd by turns on one disk";

fn main() -> ExitCode {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("ci") => ci::run(rest),
        Some("tidy") => tidy::run(),
        Some("diff") => rig("diff", "kontiki-tests", "differential", rest).run(),
        Some("process") => rig("process", "kontiki-tests", "process", rest).run(),
        Some("bench") => rig("bench", "kontiki-benches", "compare", rest).arg("--release").run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A program of one of the rigs, with its own arguments.
fn rig(name: &'static str, package: &str, program: &str, args: &[String]) -> Step {
    Step::cargo(name, ["run", "--quiet", "--package", package, "--bin", program]).rest(args)
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ is inside the workspace").to_path_buf()
}
