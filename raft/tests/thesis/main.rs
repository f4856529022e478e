//! One test for each rule of the thesis that a single member can show, in the order of its sections.
//!
//! Ongaro, "Consensus: Bridging Theory and Practice" (2014). Most tests drive member 1 alone and play the
//! others by hand; what needs several members uses the cluster in `harness/`.

#[macro_use]
#[path = "../harness/cases.rs"]
mod cases;
#[path = "../harness/mod.rs"]
mod harness;
mod player;

mod bounds;
mod elections;
mod membership;
mod reads;
mod recovering;
mod replication;
mod safety;
