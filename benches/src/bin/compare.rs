//! `compare`: the server and real etcd by turns, with a report in `benches/results/`: rates and latencies, or restarts
//! and memory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use kontiki_benches::compare::{
    Options, RestartOptions, run_all, run_restarts, write_report, write_restarts,
};
use kontiki_tests::scratch::{scratch_root, workspace};
use kontiki_tests::server::{Binary, StartError};

const USAGE: &str = "\
usage: compare [options]
  --quick            2 s a scenario and 20000 keys instead of 20 s and 1000000
  --subject PATH     the server; default: $KONTIKI_BIN or the newest of target/{release,debug}/kontiki
  --reference PATH   real etcd; default: etcd in $ETCD37_DIR or tests/borrowed/bin/etcd37
  --rounds N         rounds (3)
  --seconds N        seconds a scenario
  --keys N           keys in the store
  --only TEXT        only scenarios whose name contains TEXT; may be given again
  --restart          instead: the first read and the memory after SIGTERM and after kill -9, cold caches (as root)
  --tail N           with --restart: puts between the last rest and the kill (200000: 64 MiB of log)
  --label TEXT       ends the names of the report's files
  --no-report        print, write no files
Data goes below $KONTIKI_TEST_DIR or target/tmp: put that on the disk that you ask about.";

struct Choice {
    options: Options,
    subject: Option<String>,
    reference: Option<String>,
    report: bool,
    restart: bool,
    tail: u64,
}

fn main() -> ExitCode {
    let choice = match parse(std::env::args().skip(1)) {
        Ok(choice) => choice,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&choice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Choice, String> {
    let options = Options {
        rounds: 3,
        duration: Duration::from_secs(20),
        keys: 1_000_000,
        value_len: 256,
        only: Vec::new(),
        label: None,
    };
    let mut choice =
        Choice { options, subject: None, reference: None, report: true, restart: false, tail: 200_000 };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
        match arg.as_str() {
            "--quick" => (choice.options.duration, choice.options.keys) = (Duration::from_secs(2), 20_000),
            "--subject" => choice.subject = Some(value()?),
            "--reference" => choice.reference = Some(value()?),
            "--rounds" => choice.options.rounds = number(value()?)? as usize,
            "--seconds" => choice.options.duration = Duration::from_secs(number(value()?)?),
            "--keys" => choice.options.keys = number(value()?)?,
            "--only" => choice.options.only.push(value()?),
            "--restart" => choice.restart = true,
            "--tail" => choice.tail = number(value()?)?,
            "--label" => choice.options.label = Some(value()?),
            "--no-report" => choice.report = false,
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    Ok(choice)
}

fn run(choice: &Choice) -> Result<(), Box<dyn std::error::Error>> {
    let servers = [subject(choice)?, reference(choice)?];
    if choice.restart {
        return run_restart(choice, &servers);
    }
    let results = run_all(&servers, &choice.options)?;
    if choice.report {
        let folder = workspace().join("benches/results");
        let page = write_report(&folder, &scratch_root(), &servers, &choice.options, &results)?;
        println!("report: {}", page.display());
    }
    Ok(())
}

fn run_restart(choice: &Choice, servers: &[Binary]) -> Result<(), Box<dyn std::error::Error>> {
    let Options { rounds, keys, value_len, ref label, .. } = choice.options;
    let options = RestartOptions { rounds, keys, value_len, tail: choice.tail };
    let restarts = run_restarts(servers, &options)?;
    if choice.report {
        let folder = workspace().join("benches/results");
        let page = write_restarts(&folder, &scratch_root(), servers, &options, label.as_deref(), &restarts)?;
        println!("report: {}", page.display());
    }
    Ok(())
}

fn subject(choice: &Choice) -> Result<Binary, StartError> {
    match &choice.subject {
        Some(path) => Binary::at("subject", Path::new(path), "check the path"),
        None => Binary::subject(),
    }
}

fn reference(choice: &Choice) -> Result<Binary, StartError> {
    let path = match &choice.reference {
        Some(path) => PathBuf::from(path),
        None => match std::env::var_os("ETCD37_DIR") {
            Some(dir) => PathBuf::from(dir).join("etcd"),
            None => workspace().join("tests/borrowed/bin/etcd37/etcd"),
        },
    };
    Binary::at("etcd", &path, "run tests/borrowed/get-etcd.sh, or set ETCD37_DIR")
}
