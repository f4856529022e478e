//! `process`: the server as a process, under kills, copies, races and odd command lines.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use kontiki_tests::process::{
    cgroup, copies, flags, floods, h2spec, hostile, kill9, kubernetes, leases, lists, memory, ports, power,
    race, reclaim, refused, snapshot, stall, start, watch,
};
use kontiki_tests::server::Binary;

/// What there is to check.
const CHECKS: [&str; 20] = [
    "reclaim",
    "lists",
    "cgroup",
    "kill9",
    "copies",
    "power",
    "stall",
    "watch",
    "leases",
    "snapshot",
    "start",
    "health",
    "race",
    "flags",
    "hostile",
    "h2spec",
    "floods",
    "refused",
    "ports",
    "kubernetes",
];

const USAGE: &str = "\
usage: process CHECK [options], where CHECK is one of
    kill9 copies power stall watch leases snapshot reclaim lists cgroup start health race flags hostile h2spec
    floods refused ports kubernetes
  --subject PATH   the server; default: $KONTIKI_BIN or the newest of target/{release,debug}/kontiki
  --driver NAME    the server's driver, io_uring or portable; default: its own choice, and both for health
  --count N        kills (5), copies (3), images of disks (40), transactions (30000), MiB of a snapshot (20), keys to
                   reclaim (200000), or leases (10000)
  --images N       the same for power
  --full           200 kills, 100 copies, 200 images, 1000000 transactions, 10000 watchers, 30 s of each flood, 1024 MiB,
                   2000000 keys, lists of 300000 objects, 4 GiB of values, 100000 leases
  --seed N         chooses the moments (1)
  --etcd           the subject is real etcd: leave out what we do differently on purpose";

/// Counts without and with `--full`.
const KILLS: [u64; 2] = [5, 200];
const COPIES: [u64; 2] = [3, 100];
const IMAGES: [u64; 2] = [40, 200];
const TRANSACTIONS: [u64; 2] = [30_000, 1_000_000];
const SNAPSHOT_MIB: [u64; 2] = [20, 1024];
const KEYS: [u64; 2] = [200_000, 2_000_000];
const LEASES: [u64; 2] = [10_000, 100_000];

const DRIVERS: [&str; 2] = ["io_uring", "portable"];

#[derive(Default)]
struct Options {
    check: String,
    subject: Option<String>,
    driver: Option<String>,
    count: Option<u64>,
    seed: Option<u64>,
    full: bool,
    etcd: bool,
}

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let launched = match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some((refused::LAUNCHER, rest)) => Some(refused::refuse_and_exec(rest)),
        Some((memory::LAUNCHER, rest)) => Some(memory::enter_and_exec(rest)),
        _ => None,
    };
    if let Some(error) = launched {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    let options = match parse(arguments.into_iter()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let subject = match &options.subject {
        Some(path) => Binary::at("subject", Path::new(path), "check the path"),
        None => Binary::subject(),
    };
    let mut subject = match subject {
        Ok(subject) => subject,
        Err(error) => {
            eprintln!("process: {error}");
            return ExitCode::from(2);
        }
    };
    subject.flags.extend(options.driver.iter().map(|driver| format!("--kontiki-driver={driver}")));
    let count = |counts: [u64; 2]| options.count.unwrap_or(counts[usize::from(options.full)]);
    let seed = options.seed.unwrap_or(1);
    let start = Instant::now();
    let verdict = match options.check.as_str() {
        "kill9" => kill9::run(&subject, count(KILLS), seed),
        "copies" => copies::run(&subject, count(COPIES), seed),
        "power" => power::run(&subject, count(IMAGES), seed),
        "stall" => stall::run(&subject),
        "watch" => watch::run(&subject, if options.full { watch::Size::LONG } else { watch::Size::SHORT }),
        "snapshot" => snapshot::run(&subject, count(SNAPSHOT_MIB)),
        "leases" => leases::run(&subject, count(LEASES)),
        "start" => start::run(&subject),
        "health" => start::health(&subject, if options.driver.is_some() { &[] } else { &DRIVERS }),
        "hostile" => hostile::run(&subject),
        "h2spec" => h2spec::run(&subject),
        "floods" => floods::run(&subject, options.full),
        "kubernetes" => kubernetes::run(&subject),
        "ports" => ports::run(&subject),
        "refused" => refused::run(&subject),
        "race" => race::run(&subject, count(TRANSACTIONS)),
        "reclaim" => reclaim::run(&subject, count(KEYS)),
        "lists" => lists::run(&subject, if options.full { lists::Size::LONG } else { lists::Size::SHORT }),
        "cgroup" => {
            cgroup::run(&subject, if options.full { cgroup::Size::LONG } else { cgroup::Size::SHORT })
        }
        _ => flags::run(&subject, options.etcd),
    };
    let seconds = start.elapsed().as_secs_f64();
    match verdict {
        Ok(numbers) => {
            println!("{}: passed in {seconds:.1} s: {numbers}", options.check);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}: FAILED after {seconds:.1} s: {failure}", options.check);
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is not a number"));
        match arg.as_str() {
            check if CHECKS.contains(&check) => options.check = arg,
            "--driver" => options.driver = Some(value()?),
            "--subject" => options.subject = Some(value()?),
            "--count" | "--images" => options.count = Some(number(value()?)?),
            "--seed" => options.seed = Some(number(value()?)?),
            "--full" => options.full = true,
            "--etcd" => options.etcd = true,
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    if options.check.is_empty() { Err("which check?".to_owned()) } else { Ok(options) }
}
