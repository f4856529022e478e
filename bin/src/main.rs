//! `kontiki`: started with etcd's flags, the server.

use std::process::ExitCode;

use kontiki::config::{self, Loaded};
use kontiki::flags::Start;
use kontiki::logging::Logger;
use kontiki::{bootstrap, server};

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let (program, arguments) = arguments.split_first().map_or(("kontiki", &[][..]), |(p, a)| (p.as_str(), a));
    if arguments.first().is_some_and(|first| first == "utl") {
        return kontiki::utl::run(&arguments[1..]);
    }
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let start = Start { program, args: arguments, env: &environment, read_file: &|path| std::fs::read(path) };
    let host = config::Host { default_address: bootstrap::default_address() };
    match config::load(&start, &host) {
        Loaded::Answer(answer) => answer.print(),
        Loaded::Failed(failure, options) => match Logger::open(&options) {
            Ok(log) => {
                failure.log(&log);
                log.flush();
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Loaded::Serve(config) => server::run(*config),
    }
}
