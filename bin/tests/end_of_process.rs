//! How a process ends, on a signal and on a fatal line, seen from its parent.
//!
//! The child is this test program again, told by a variable what to do.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use kontiki::logging::{Logger, Options};
use kontiki::signals::Signals;
use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "KONTIKI_TEST_ROLE";

/// In the child: logs a fatal line, or waits for a signal and then ends by it or hangs. In the parent's run
/// of all tests: nothing.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if role == "fatal" {
        let log = Logger::open(&Options::default()).unwrap();
        (0..100).for_each(|n| log.info("before", &[("n", &n)]));
        log.fatal("discovery failed", &[("error", &"no")]);
    }
    let signals = Signals::install().unwrap();
    println!("\nready");
    let signal = signals.wait().unwrap();
    println!("\ncaught");
    match role.as_str() {
        "ends" => signal.end_process(),
        _ => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
    }
}

struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

fn child_as(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(ROLE, role);
    command
}

impl Running {
    fn start(role: &str) -> Running {
        let mut child = child_as(role).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running { child, lines };
        running.await_line("ready");
        running
    }

    fn await_line(&mut self, wanted: &str) {
        let mut line = String::new();
        while line.trim() != wanted {
            line.clear();
            assert_ne!(
                self.lines.read_line(&mut line).unwrap(),
                0,
                "the child ended before it said {wanted}"
            );
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

#[test]
fn the_end_is_by_the_same_signal() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2)] {
        let running = Running::start("ends");
        running.signal(signal);
        assert_eq!(running.end().signal(), Some(number));
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut running = Running::start("hangs");
    running.signal(Signal::TERM);
    running.await_line("caught");
    running.signal(Signal::INT);
    assert_eq!(running.end().signal(), Some(2));
}

#[test]
fn a_fatal_line_is_out_before_the_end() {
    let output = child_as("fatal").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), 101);
    assert!(
        lines[100].contains("\"level\":\"fatal\"") && lines[100].ends_with("\"error\":\"no\"}"),
        "{}",
        lines[100]
    );
}
