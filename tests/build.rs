//! Turns the server's `.proto` files into Rust, with no protoc needed.

use std::error::Error;

const FILES: [&str; 6] =
    ["rpc.proto", "kv.proto", "auth.proto", "lock.proto", "election.proto", "health.proto"];

const PROTO: &str = "../net/proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let files = protox::compile(FILES, [PROTO])?;
    // Bytes print as text, byte vectors as numbers: reports are for people.
    prost_build::Config::new().bytes(["."]).include_file("protos.rs").compile_fds(files)?;
    Ok(())
}
