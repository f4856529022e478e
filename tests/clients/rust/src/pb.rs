//! The stubs that `build.rs` makes, in modules that stand to each other like the packages of `net/proto`.

#![allow(dead_code, clippy::all, reason = "made by a tool, and of all the API the checks use a part")]

pub mod authpb {
    tonic::include_proto!("authpb");
}
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
