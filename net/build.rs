//! Compiles `proto/` with `protox`, a protobuf compiler in Rust, so that building needs no `protoc`.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost_build::Config;

const ENTRY_FILES: [&str; 4] = ["rpc.proto", "lock.proto", "election.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(ENTRY_FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    // `bytes` fields share the receive buffer instead of copying; maps are ordered, so that answers are too.
    Config::new().bytes(["."]).btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}
