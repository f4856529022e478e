//! Makes tonic's stubs of net/proto, without protoc.

use std::error::Error;

const PROTO: &str = "../../../net/proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let descriptors = protox::compile(["rpc.proto"], [PROTO])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
