//! `differential`: real etcd and the server under test, call by call.

use std::path::PathBuf;
use std::process::ExitCode;

use kontiki_tests::differential::{Rows, run_cases, run_generated};
use kontiki_tests::server::Binary;

const USAGE: &str = "\
usage: differential [cases|generated] [options]     (both when neither is named)
  --reference PATH   real etcd; default: etcd in $ETCD_DIR or tests/borrowed/bin/etcd36
  --subject PATH     the server under test; default: $KONTIKI_BIN or the newest of target/{release,debug}/kontiki
  --only PREFIX      only cases with a row that starts so
  --seed N           seed of the generated calls (1)
  --cases N          how many of them (3000)";

struct Options {
    cases: bool,
    generated: bool,
    only: Option<String>,
    seed: u64,
    count: usize,
    reference: Option<PathBuf>,
    subject: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        cases: false,
        generated: false,
        only: None,
        seed: 1,
        count: 3_000,
        reference: None,
        subject: None,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "cases" => options.cases = true,
            "generated" => options.generated = true,
            "--only" => options.only = Some(value()?),
            "--seed" => options.seed = number(&value()?)?,
            "--cases" => options.count = number(&value()?)? as usize,
            "--reference" => options.reference = Some(value()?.into()),
            "--subject" => options.subject = Some(value()?.into()),
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    if !options.cases && !options.generated {
        (options.cases, options.generated) = (true, true);
    }
    Ok(options)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let given =
        |name, path: &Option<PathBuf>| path.as_ref().map(|path| Binary::at(name, path, "check the path"));
    let reference = given("reference", &options.reference).unwrap_or_else(Binary::etcd)?;
    let subject = given("subject", &options.subject).unwrap_or_else(Binary::subject)?;
    let mut good = true;
    if options.cases {
        let report = run_cases(&reference, &subject, options.only.as_deref())?;
        good &= report.print(&Rows::load()?, options.only.is_none());
    }
    if options.generated {
        good &= run_generated(&reference, &subject, options.seed, options.count)?.print();
    }
    Ok(good)
}
