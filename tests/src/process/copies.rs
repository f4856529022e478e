//! `cp -r` of the data directory while the server writes to it: the copy opens, and every write acknowledged
//! before the copy began is in it.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::differential::build::range;
use crate::proto::etcdserverpb as pb;
use crate::random::Random;
use crate::scratch::Scratch;
use crate::server::{Binary, Server, Site};

use super::load::{Acknowledged, Load, Written};
use super::model::Model;
use super::{Failure, Verdict, ensure};

const CLIENTS: u64 = 2;
const PAUSE_MS_MAX: u64 = 400;

/// Takes `count` copies under load, one after the other, each from a load of its own.
pub fn run(binary: &Binary, count: u64, seed: u64) -> Verdict {
    let mut random = Random::new(seed);
    let server = Server::start(binary, &[])?;
    let mut model = Model::default();
    for round in 0..count {
        let load = Load::start(server.client(), CLIENTS, round);
        thread::sleep(Duration::from_millis(50 + random.below(PAUSE_MS_MAX)));
        let before = revision(&mut Client::open(server.client())?)?;
        let copy = copy(&server)?;
        enter(&mut model, load.stop())?;
        open(binary, copy, &model, before)
            .inspect_err(|_| println!("copies: copy {round} of seed {seed}"))?;
    }
    Ok(format!("{count} copies opened, {} revisions", model.newest()))
}

fn copy(server: &Server) -> Result<Scratch, Failure> {
    let scratch = Scratch::new("copy")?;
    let status = Command::new("cp").arg("-r").arg(server.site().data_dir()).arg(scratch.path()).output()?;
    // A file that went away while cp ran is a warning of cp, and part of what this is about.
    ensure(status.status.code().is_some(), || format!("cp: {status:?}"))?;
    Ok(scratch)
}

fn enter(model: &mut Model, written: Vec<Written>) -> Result<(), Failure> {
    for client in written {
        let answered = client.wrong.is_none() && client.unknown.is_empty();
        ensure(answered, || format!("a running server left writes unanswered: {client:?}"))?;
        for Acknowledged { revision, write, .. } in client.acknowledged {
            model.record(revision, write.changes).map_err(Failure::Wrong)?;
        }
    }
    Ok(())
}

/// Opens the copy; it must be at `before` or later and hold what the model holds there.
fn open(binary: &Binary, copy: Scratch, model: &Model, before: i64) -> Result<(), Failure> {
    let server = Server::start_at(binary, Site::around(copy)?, &[]).map_err(|(error, mut site)| {
        Failure::Wrong(format!("the copy in {} does not open: {error}", site.scratch().keep().display()))
    })?;
    let mut client = Client::open(server.client())?;
    let now = revision(&mut client)?;
    ensure(now >= before, || {
        format!("revision {before} was acknowledged before the copy began, it is at {now}")
    })?;
    let found = client.range(&range("load/", "load0"))?;
    let found = found.map_err(|status| Failure::Wrong(format!("{status:?}")))?.kvs;
    let expected = model.at(now).into_values().collect::<Vec<_>>();
    ensure(found == expected, || format!("the copy at revision {now} is not the original at that revision"))
}

fn revision(client: &mut Client) -> Result<i64, Failure> {
    let request = pb::RangeRequest { limit: 1, ..range("load/", "load0") };
    let response = client.range(&request)?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
    Ok(response.header.unwrap_or_default().revision)
}
