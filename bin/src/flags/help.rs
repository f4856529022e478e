//! What `--help` and a mistake print.
//!
//! The shape is etcd's, because tools read it: each flag on standard output as `  --name 'default'` with its
//! help below, the usage on standard error. The words are ours.

use super::table::{Flag, SECTIONS, Support};
use super::{Answer, gates};

const USAGE: &str = "\
Usage:

  kontiki [flags]
    Start a server.

  kontiki --version
    Print the version.

  kontiki -h | --help
    Print this help.

  kontiki --config-file FILE
    Start a server as FILE says; all other flags and variables are ignored.
";

/// The answer to `--help`.
pub(super) fn answer() -> Answer {
    let mut stdout = String::new();
    for (title, flags) in SECTIONS {
        let shown: Vec<String> = flags.iter().filter_map(describe).collect();
        if !shown.is_empty() {
            stdout.push_str(&format!("\n{title}:\n{}", shown.concat()));
        }
    }
    Answer { stdout, stderr: format!("{USAGE}\n"), code: 0 }
}

/// The answer to a command line that cannot be read.
pub(super) fn complaint(complaint: &str) -> Answer {
    Answer { stdout: String::new(), stderr: format!("{complaint}\n{USAGE}\n"), code: 2 }
}

fn describe(flag: &Flag) -> Option<String> {
    let status = match flag.support {
        Support::Historic | Support::TestAid => return None,
        Support::Works => String::new(),
        Support::Inert(why) => format!("    No effect: {why}.\n"),
        Support::NotBuilt(what) => format!("    Not built yet: {what}.\n"),
        Support::Refused(why) => format!("    Refused: {why}.\n"),
        Support::SpelledNow(now) => format!("    Use --{now}.\n"),
        Support::GateNow(gate) => format!("    Use --feature-gates={gate}=true|false.\n"),
    };
    let options = if flag.name == "feature-gates" { gate_options() } else { String::new() };
    Some(format!("  --{} '{}'\n    {}\n{options}{status}", flag.name, flag.default, flag.help))
}

fn gate_options() -> String {
    let options = gates::GATES.iter().map(|gate| {
        format!("    {}=true|false ({} - default={})\n", gate.name, gate.stage.name(), gate.default)
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn every_flag_stands_on_a_line_of_its_own() {
        let answer = answer();
        for flag in table::rows() {
            let line = format!("  --{} '{}'", flag.name, flag.default);
            let shown = answer.stdout.lines().any(|l| l == line);
            assert_eq!(shown, !matches!(flag.support, Support::Historic | Support::TestAid), "{line}");
        }
        // The line that Kubernetes' envtest looks for.
        assert!(answer.stdout.lines().any(|l| l.trim_start().starts_with("--unsafe-no-fsync ")));
        assert!(answer.stderr.starts_with("Usage:\n"));
        assert_eq!(answer.code, 0);
    }

    #[test]
    fn a_mistake_prints_the_complaint_and_the_usage() {
        let answer = complaint("flag provided but not defined: -x");
        assert!(answer.stderr.starts_with("flag provided but not defined: -x\nUsage:\n"));
        assert_eq!((answer.stdout.as_str(), answer.code), ("", 2));
    }
}
