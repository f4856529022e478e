//! kill -9 under load, again and again on the same data: every acknowledged write is there at its revision, a
//! write without an answer is there once or not at all, and every readable revision is what the writes make it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::differential::build::range;
use crate::proto::etcdserverpb as pb;
use crate::random::Random;
use crate::server::{Binary, Server, Site};

use super::load::{Acknowledged, Load, Write, Written};
use super::model::Model;
use super::{Failure, Verdict, ensure};

const CLIENTS: u64 = 4;
/// How long the load runs before the kill, at most.
const LOAD_MS_MAX: u64 = 700;
/// A kill should hit a server at work.
const ACKNOWLEDGED_MIN: u64 = 20;
/// Old revisions read in full after each kill.
const SAMPLES: u64 = 6;
/// A log that starts shorter than a checkpoint's distance leave behind must not grow with their number.
const LOG_BYTES_MAX: u64 = 3 << 29;
const OUT_OF_RANGE: i32 = 11;
const NOSPACE: i32 = pb::AlarmType::Nospace as i32;

/// Runs `rounds` kills; `seed` chooses their moments.
pub fn run(binary: &Binary, rounds: u64, seed: u64) -> Verdict {
    let mut check = Check {
        random: Random::new(seed),
        model: Model::default(),
        hashes: BTreeMap::new(),
        compacted: 0,
        applied: 0,
        lost: 0,
    };
    let mut site = Site::new("kill9")?;
    for round in 0..rounds {
        match check.round(binary, site, round) {
            Ok(kept) => site = kept,
            Err(failure) => {
                println!("kill9: round {round} of seed {seed}");
                return Err(failure);
            }
        }
    }
    let newest = check.model.newest();
    Ok(format!(
        "{rounds} kills, {newest} revisions; of the writes without an answer {} were applied, {} were not",
        check.applied, check.lost
    ))
}

fn check_log_size(server: &Server) -> Result<(), Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(server.site().data_dir().join("log"))? {
        // A segment may be renamed meanwhile.
        bytes += entry?.metadata().map_or(0, |meta| meta.len());
    }
    ensure(bytes <= LOG_BYTES_MAX, || format!("the log takes {bytes} bytes"))
}

struct Check {
    random: Random,
    model: Model,
    /// Hashes as they were told, by compaction and revision.
    hashes: BTreeMap<(i64, i64), u32>,
    compacted: i64,
    applied: u64,
    lost: u64,
}

impl Check {
    fn round(&mut self, binary: &Binary, site: Site, round: u64) -> Result<Site, Failure> {
        let mut server = Server::start_at(binary, site, &[]).map_err(|(error, mut site)| {
            println!("kill9: data kept in {}", site.scratch().keep().display());
            error
        })?;
        let result = self.kill_and_check(binary, &mut server, round);
        if result.is_err() {
            let mut site = server.kill()?;
            println!("kill9: data kept in {}", site.scratch().keep().display());
            return Err(result.expect_err("checked"));
        }
        Ok(server.kill()?)
    }

    fn kill_and_check(&mut self, binary: &Binary, server: &mut Server, round: u64) -> Result<(), Failure> {
        let load = Load::start(server.client(), CLIENTS, round);
        thread::sleep(Duration::from_millis(self.random.below(LOAD_MS_MAX)));
        while load.acknowledged() < ACKNOWLEDGED_MIN && server.is_running() {
            thread::sleep(Duration::from_millis(2));
        }
        if round % 2 == 1 {
            self.compact(server)?;
        }
        let alarm = round % 5 == 4;
        let written = if alarm {
            // An alarm stops the writes, so they end first.
            let written = load.stop();
            set_alarm(server, pb::alarm_request::AlarmAction::Activate)?;
            server.kill_and_restart(binary)?;
            written
        } else {
            server.kill_and_restart(binary)?;
            load.stop()
        };
        self.check_alarm(server, alarm)?;
        check_log_size(server)?;
        let mut client = Client::open(server.client())?;
        self.account(&mut client, written)?;
        self.check_revisions(&mut client)?;
        self.check_hashes(&mut client)
    }

    /// A hash that was told once is told again after every kill.
    fn check_hashes(&mut self, client: &mut Client) -> Result<(), Failure> {
        let oldest = self.compacted.max(1);
        let newest = self.model.newest();
        self.hashes.retain(|(_, revision), _| *revision >= oldest);
        let mut asked: Vec<i64> = self.hashes.keys().map(|(_, revision)| *revision).collect();
        asked.extend((0..SAMPLES).map(|_| self.random.between(oldest, newest)));
        asked.push(newest);
        for revision in asked {
            let found = hash(client, revision)?;
            let of = (found.compact_revision, found.hash_revision);
            let told = *self.hashes.entry(of).or_insert(found.hash);
            ensure(told == found.hash, || {
                format!("the hash of {of:?} was {told}, now it is {}", found.hash)
            })?;
        }
        Ok(())
    }

    fn compact(&mut self, server: &Server) -> Result<(), Failure> {
        let at = (self.model.newest() - 50).max(self.compacted + 1);
        let mut client = Client::open(server.client())?;
        let physical = self.random.percent(50);
        if let Ok(_response) = client.compact(at, physical)? {
            self.compacted = at;
        }
        Ok(())
    }

    fn check_alarm(&self, server: &Server, expected: bool) -> Result<(), Failure> {
        let response = set_alarm(server, pb::alarm_request::AlarmAction::Get)?;
        let found = response.alarms.iter().any(|alarm| alarm.alarm == NOSPACE);
        ensure(found == expected, || format!("alarm before the kill: {expected}, after it: {found}"))?;
        if expected {
            set_alarm(server, pb::alarm_request::AlarmAction::Deactivate)?;
        }
        Ok(())
    }

    /// Enters all writes of a round into the model: the acknowledged ones, then what became of the others.
    fn account(&mut self, client: &mut Client, written: Vec<Written>) -> Result<(), Failure> {
        let mut unknown = Vec::new();
        for client_writes in written {
            if let Some(wrong) = client_writes.wrong {
                return Err(Failure::Wrong(wrong));
            }
            for Acknowledged { revision, write, .. } in client_writes.acknowledged {
                self.model.record(revision, write.changes).map_err(Failure::Wrong)?;
            }
            unknown.extend(client_writes.unknown);
        }
        for write in unknown {
            match applied_at(client, &write)? {
                Some(revision) => {
                    self.applied += 1;
                    self.model.record(revision, write.changes).map_err(Failure::Wrong)?;
                }
                None => self.lost += 1,
            }
        }
        let current =
            read(client, &pb::RangeRequest { limit: 1, ..all() })?.header.unwrap_or_default().revision;
        let gaps = self.model.gaps(current);
        ensure(gaps.is_empty(), || format!("revisions {gaps:?} were written by nobody, or twice"))?;
        let newest = self.model.newest();
        ensure(newest <= current, || format!("revision {newest} was acknowledged, the store is at {current}"))
    }

    /// Reads whole revisions, the newest and some older ones, and asks below the compaction.
    fn check_revisions(&mut self, client: &mut Client) -> Result<(), Failure> {
        if self.compacted > 1 {
            let old = client.range(&pb::RangeRequest { revision: self.compacted - 1, ..all() })?;
            ensure(old.as_ref().is_err_and(|status| status.code == OUT_OF_RANGE), || {
                format!("revision {} is readable below the compaction {}", self.compacted - 1, self.compacted)
            })?;
            self.model.forget_below(self.compacted);
        }
        let newest = self.model.newest();
        let oldest = self.compacted.max(1);
        for sample in 0..SAMPLES {
            let revision = if sample == 0 { newest } else { self.random.between(oldest, newest) };
            let found = read(client, &pb::RangeRequest { revision, ..all() })?.kvs;
            let expected = self.model.at(revision).into_values().collect::<Vec<_>>();
            ensure(found == expected, || {
                let at = found
                    .iter()
                    .zip(&expected)
                    .position(|(a, b)| a != b)
                    .unwrap_or(found.len().min(expected.len()));
                format!(
                    "revision {revision} of {newest}: pair {at} is {:?}, should be {:?} ({} pairs, should be {})",
                    found.get(at),
                    expected.get(at),
                    found.len(),
                    expected.len()
                )
            })?;
        }
        Ok(())
    }
}

fn hash(client: &mut Client, revision: i64) -> Result<pb::HashKvResponse, Failure> {
    client.hash_kv(revision)?.map_err(|status| Failure::Wrong(format!("HashKV at {revision} got {status:?}")))
}

fn all() -> pb::RangeRequest {
    range("load/", "load0")
}

fn read(client: &mut Client, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
    client.range(request)?.map_err(|status| Failure::Wrong(format!("{request:?} got {status:?}")))
}

/// Where an unanswered write is, found by its first value, which no other write has and no later one replaced.
fn applied_at(client: &mut Client, write: &Write) -> Result<Option<i64>, Failure> {
    let change = &write.changes[0];
    let request = pb::RangeRequest { key: change.key.clone(), ..pb::RangeRequest::default() };
    let kv = read(client, &request)?.kvs.into_iter().next();
    Ok(kv.filter(|kv| Some(&kv.value) == change.value.as_ref()).map(|kv| kv.mod_revision))
}

/// Asks for alarms, raises or lowers NOSPACE.
pub(super) fn set_alarm(
    server: &Server,
    action: pb::alarm_request::AlarmAction,
) -> Result<pb::AlarmResponse, Failure> {
    let mut client = Client::open(server.client())?;
    let status = client.status()?.map_err(|status| Failure::Wrong(format!("Status got {status:?}")))?;
    let member_id = status.header.unwrap_or_default().member_id;
    let request = pb::AlarmRequest { action: action as i32, member_id, alarm: NOSPACE };
    client.alarm(&request)?.map_err(|status| Failure::Wrong(format!("{request:?} got {status:?}")))
}
