//! The API's messages, generated from `proto/*.proto`. They are this crate's own: a judge that shared the
//! server's schema would share its mistakes.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/protos.rs"));
