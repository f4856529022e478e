//! One command of a longer run, timed.

use std::process::Command;
use std::time::Instant;

use crate::root;

/// A command with a name.
pub struct Step {
    name: &'static str,
    program: String,
    args: Vec<String>,
    /// What follows `--`.
    rest: Vec<String>,
    env: Vec<(&'static str, String)>,
}

impl Step {
    /// `program` with `args`, in the root of the repository.
    pub fn new<'a>(name: &'static str, program: &str, args: impl IntoIterator<Item = &'a str>) -> Step {
        let args = args.into_iter().map(str::to_owned).collect();
        Step { name, program: program.to_owned(), args, rest: Vec::new(), env: Vec::new() }
    }

    /// The cargo that runs us.
    pub fn cargo<'a>(name: &'static str, args: impl IntoIterator<Item = &'a str>) -> Step {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        Step::new(name, &cargo, args)
    }

    /// One argument more, before `--`.
    pub fn arg(mut self, arg: &str) -> Step {
        self.args.push(arg.to_owned());
        self
    }

    /// What follows `--`.
    pub fn rest(mut self, rest: &[String]) -> Step {
        self.rest = rest.to_vec();
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &'static str, value: &str) -> Step {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Runs it; true if it succeeded. Says what it did and how long that took.
    pub fn run(self) -> bool {
        let start = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(root()).envs(self.env);
        if !self.rest.is_empty() {
            command.arg("--").args(&self.rest);
        }
        let outcome = match command.status() {
            Ok(status) if status.success() => "ok".to_owned(),
            Ok(status) => format!("FAILED with {status}"),
            Err(error) => format!("FAILED to start {}: {error}", self.program),
        };
        println!("xtask: {:12} {:7.1} s  {outcome}", self.name, start.elapsed().as_secs_f64());
        outcome == "ok"
    }
}
