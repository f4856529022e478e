//! Power cuts. The server runs under load and records what it asks of its disk (`--kontiki-record-disk`); from the
//! recording, disks are rebuilt as a power cut at a random moment may have left them, and a server is started on each.
//!
//! The run has several lives: it is killed, started again on the same files, at last stopped in order. Clients finish
//! what they sent before each end, so every write of the run has its revision and the state at each revision is
//! known. Then, for a cut at time T: the server starts; it is at a revision at or above every one that was answered
//! before T; what it holds at that revision, and at older ones, is what the run held there (so that no write is
//! there in part, twice or in another one's place); compactions and alarms that were answered before T are in force.

mod drive;
mod recording;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::differential::build::range;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::random::Random;
use crate::scratch::Scratch;
use crate::server::{Binary, Server, Site};

use drive::Drive;
use recording::Event;

use super::kill9::set_alarm;
use super::load::Load;
use super::model::Model;
use super::{Failure, Verdict, ensure, monotonic_ns};

const CLIENTS: u64 = 4;
const LIVES: u64 = 3;
/// The life that raises an alarm.
const ALARM_LIFE: u64 = 1;
/// Load before and after the compaction in the middle of a life.
const LOAD_MS: u64 = 900;
/// A disk that ends in an alarm, a seal or a checkpoint is worth cutting as well.
const QUIET_MS: u64 = 150;
/// So many checkpoints that some are cut.
const CHECKPOINT_ENTRIES: &str = "--kontiki-checkpoint-entries=700";
/// Revisions behind the newest that a compaction keeps.
const KEPT: i64 = 300;
/// Old revisions read in full of each image.
const SAMPLES: u64 = 2;
const OUT_OF_RANGE: i32 = 11;
const NOSPACE: i32 = pb::AlarmType::Nospace as i32;

/// Cuts the power `images` times; `seed` chooses the moments and what is lost.
pub fn run(binary: &Binary, images: u64, seed: u64) -> Verdict {
    let mut random = Random::new(seed);
    let mut run = Run::record(binary)?;
    let checked = run.cut_often(binary, images, &mut random);
    if checked.is_err() {
        println!("power: seed {seed}; the run is kept in {}", run.site.scratch().keep().display());
    }
    checked
}

/// What happened, by the clock of clients and server.
struct Run {
    site: Site,
    lives: Vec<Vec<Event>>,
    /// Data directories as the killed processes left them.
    left: Vec<PathBuf>,
    model: Model,
    /// When the answer of each revision was here.
    answered: Vec<(u64, i64)>,
    compactions: Vec<Step<i64>>,
    /// NOSPACE raised, or lowered.
    alarms: Vec<Step<bool>>,
}

/// Something that was asked for at `begun` and answered at `ended`.
struct Step<T> {
    begun: u64,
    ended: u64,
    what: T,
}

impl Run {
    /// Runs the load through all lives.
    fn record(binary: &Binary) -> Result<Run, Failure> {
        let mut run = Run {
            site: Site::new("power")?,
            lives: Vec::new(),
            left: Vec::new(),
            model: Model::default(),
            answered: Vec::new(),
            compactions: Vec::new(),
            alarms: Vec::new(),
        };
        for life in 0..LIVES {
            run = run.live(binary, life)?;
        }
        let newest = run.model.newest();
        let gaps = run.model.gaps(newest);
        ensure(gaps.is_empty(), || format!("revisions {gaps:?} were answered to nobody"))?;
        Ok(run)
    }

    fn live(mut self, binary: &Binary, life: u64) -> Result<Run, Failure> {
        let scratch = self.site.scratch().path().to_path_buf();
        let recording = scratch.join(format!("{life}.recording"));
        let flag = format!("--kontiki-record-disk={}", recording.display());
        let server = Server::start_at(binary, self.site, &[&flag, CHECKPOINT_ENTRIES]).map_err(
            |(error, mut site)| {
                println!("power: data kept in {}", site.scratch().keep().display());
                error
            },
        )?;
        let load = Load::start(server.client(), CLIENTS, life);
        thread::sleep(Duration::from_millis(LOAD_MS));
        self.compactions.push(compact(&server)?);
        thread::sleep(Duration::from_millis(LOAD_MS));
        for client in load.stop() {
            let finished = client.wrong.is_none() && client.unknown.is_empty();
            ensure(finished, || format!("a running server left writes unanswered: {:?}", client.wrong))?;
            for answer in client.acknowledged {
                self.answered.push((answer.at, answer.revision));
                self.model.record(answer.revision, answer.write.changes).map_err(Failure::Wrong)?;
            }
        }
        if life == ALARM_LIFE {
            for (action, on) in [(AlarmAction::Activate, true), (AlarmAction::Deactivate, false)] {
                let begun = monotonic_ns();
                set_alarm(&server, action)?;
                self.alarms.push(Step { begun, ended: monotonic_ns(), what: on });
                thread::sleep(Duration::from_millis(QUIET_MS));
            }
        }
        self.site = if life + 1 == LIVES { server.terminate()?.1 } else { server.kill()? };
        // A write to the log may outlive its process.
        thread::sleep(Duration::from_millis(QUIET_MS));
        self.lives.push(recording::parse(&fs::read(&recording)?)?);
        let left = scratch.join(format!("{life}.left"));
        drive::write_tree(&drive::read_tree(&self.site.data_dir())?, &left)?;
        self.left.push(left);
        Ok(self)
    }

    /// Goes through the recording once, and cuts the power at moments on the way.
    fn cut_often(&mut self, binary: &Binary, images: u64, random: &mut Random) -> Verdict {
        self.answered.sort_unstable();
        let mut moments = self.moments(images, random).into_iter().enumerate().peekable();
        let mut drive = Drive::new(self.first_files()?);
        let mut lost = 0;
        for (life, events) in self.lives.iter().enumerate() {
            for event in events {
                while let Some((number, at)) = moments.next_if(|(_, at)| *at < event.at) {
                    lost += self.cut(binary, &drive, at, random).inspect_err(|_| {
                        println!(
                            "power: image {number}, cut in life {life} before {event_at}",
                            event_at = event.at
                        );
                    })?;
                }
                drive.handle(event);
            }
            drive.settle(&self.left[life])?.map_err(Failure::Wrong)?;
        }
        for (_, at) in moments {
            lost += self.cut(binary, &drive, at, random)?;
        }
        let operations = self.lives.iter().map(Vec::len).sum::<usize>() / 2;
        Ok(format!(
            "{images} images of a run of {operations} disk operations and {} revisions; \
             {lost} writes under way were on the images as well",
            self.model.newest()
        ))
    }

    /// Ascending: half of them at any time, half right behind an event, where something has just changed.
    fn moments(&self, images: u64, random: &mut Random) -> Vec<u64> {
        let events = self.lives.concat();
        let (first, last) = (events[0].at, events[events.len() - 1].at);
        let mut moments: Vec<u64> = (0..images)
            .map(|_| match random.percent(50) {
                true => first + random.below(last - first),
                false => random.pick(&events).at,
            })
            .collect();
        moments.sort_unstable();
        moments
    }

    /// What was there before the recording began: who the member is.
    fn first_files(&self) -> Result<drive::Image, Failure> {
        let read = |name: &str| fs::read(self.left[0].join(name));
        Ok([("member".to_owned(), read("member")?), ("identity.new".to_owned(), read("identity")?)].into())
    }

    /// One image, from the disk to the verdict. Returns how many writes it holds that nobody had been told of.
    fn cut(&self, binary: &Binary, drive: &Drive, at: u64, random: &mut Random) -> Result<u64, Failure> {
        let site = Site::around(Scratch::new("image")?)?;
        let image = drive.cut(random);
        drive::write_tree(&image, &site.data_dir())?;
        let (checked, mut site) = match Server::start_at(binary, site, &[]) {
            Ok(server) => (self.check(&server, at, random), server.kill()?),
            Err((error, site)) => (Err(Failure::Wrong(format!("the image does not open: {error}"))), site),
        };
        if checked.is_err() {
            // The server has changed its copy; this is the disk as the cut left it.
            drive::write_tree(&image, &site.scratch().path().join("before"))?;
            println!("power: the image is kept in {}", site.scratch().keep().display());
        }
        checked
    }

    fn check(&self, server: &Server, at: u64, random: &mut Random) -> Result<u64, Failure> {
        let mut client = Client::open(server.client())?;
        let answered = &self.answered[..self.answered.partition_point(|(time, _)| *time <= at)];
        let answered = answered.iter().map(|(_, revision)| *revision).max().unwrap_or(1);
        let now = revision(&mut client)?;
        ensure(now >= answered, || format!("revision {answered} was answered, the store is at {now}"))?;
        let newest = self.model.newest();
        ensure(now <= newest, || format!("the store is at {now}, the run ended at {newest}"))?;
        self.check_revisions(&mut client, at, now, random)?;
        self.check_alarm(server, at)?;
        let response =
            client.put(b"after", b"the cut")?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
        let next = response.header.unwrap_or_default().revision;
        ensure(next == now + 1, || format!("the first write after revision {now} got {next}"))?;
        Ok((now - answered) as u64)
    }

    fn check_revisions(
        &self,
        client: &mut Client,
        at: u64,
        now: i64,
        random: &mut Random,
    ) -> Result<(), Failure> {
        let asked = self.compactions.iter().filter(|step| step.begun <= at).map(|step| step.what).max();
        let done = self.compactions.iter().filter(|step| step.ended <= at).map(|step| step.what).max();
        if let Some(compacted) = done {
            let old = client.range(&pb::RangeRequest { revision: compacted - 1, ..all() })?;
            ensure(old.as_ref().is_err_and(|status| status.code == OUT_OF_RANGE), || {
                format!("revision {} is readable below the compaction {compacted}", compacted - 1)
            })?;
        }
        let oldest = asked.unwrap_or(1);
        for sample in 0..=SAMPLES {
            let revision = if sample == 0 { now } else { random.between(oldest.min(now), now) };
            let found = client.range(&pb::RangeRequest { revision, ..all() })?;
            let found =
                found.map_err(|status| Failure::Wrong(format!("revision {revision}: {status:?}")))?.kvs;
            let expected = self.model.at(revision).into_values().collect::<Vec<_>>();
            ensure(found == expected, || {
                let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
                format!(
                    "revision {revision} of {now} is not what the run held there: {} pairs, should be {}; the first \
                     that differs is {differs:?}",
                    found.len(),
                    expected.len()
                )
            })?;
        }
        Ok(())
    }

    /// Lowers it, too.
    fn check_alarm(&self, server: &Server, at: u64) -> Result<(), Failure> {
        let response = set_alarm(server, AlarmAction::Get)?;
        let found = response.alarms.iter().any(|alarm| alarm.alarm == NOSPACE);
        let last = |is: fn(&Step<bool>, u64) -> bool| {
            self.alarms.iter().rev().find(|step| is(step, at)).is_some_and(|step| step.what)
        };
        let (asked, done) = (last(|step, at| step.begun <= at), last(|step, at| step.ended <= at));
        ensure(found == asked || found == done, || {
            format!("alarm as answered before the cut: {done}, as asked for: {asked}, after it: {found}")
        })?;
        if found {
            set_alarm(server, AlarmAction::Deactivate)?;
        }
        Ok(())
    }
}

fn compact(server: &Server) -> Result<Step<i64>, Failure> {
    let mut client = Client::open(server.client())?;
    let at = revision(&mut client)? - KEPT;
    let begun = monotonic_ns();
    client.compact(at, false)?.map_err(|status| Failure::Wrong(format!("compaction at {at}: {status:?}")))?;
    Ok(Step { begun, ended: monotonic_ns(), what: at })
}

fn all() -> pb::RangeRequest {
    range("load/", "load0")
}

fn revision(client: &mut Client) -> Result<i64, Failure> {
    let response = client.range(&pb::RangeRequest { limit: 1, ..all() })?;
    let response = response.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
    Ok(response.header.unwrap_or_default().revision)
}
