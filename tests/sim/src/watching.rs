//! Watch streams: the product's [`Watchers`] in the place of `net`'s, and clients that create, cancel, read, stop
//! reading, and come again after every crash.

use std::time::{Duration, Instant};

use engine::disk::pcg::Pcg;
use engine::mvcc::Cold;
use engine::mvcc::walk::Budget;
use engine::replica::{CallId, Fatal, Replica};
use engine::types::Revision;
use engine::watch::{self, Batch, Create, Filter, Message, Next, Options, Poll, StreamId, Watchers};

use crate::judge::kv_of;
use crate::model::{Change, Model};
use crate::watchers::{Told, Watcher, any_keys};
use bytes::Bytes;

/// The call of watchers that wait for something cold; they look again at every turn.
pub const COLD: CallId = CallId((u64::MAX >> 1) - 1);

const STREAMS: usize = 3;
const WATCHERS_MAX: usize = 12;

/// All watch clients of a run, and the product's part while a process lives.
#[derive(Clone, Debug)]
pub struct Watching {
    pcg: Pcg,
    clients: Vec<Client>,
    config: watch::Config,
}

/// The product's part.
#[derive(Debug)]
pub struct Serving {
    core: Watchers,
    streams: Vec<StreamId>,
    /// A batch that was given out, by stream.
    batches: Vec<Option<(Batch, Vec<Told>)>>,
}

impl Serving {
    /// The oldest revision that a watcher needs.
    pub fn oldest(&mut self, now: Instant) -> Option<Revision> {
        self.core.oldest(now)
    }
}

/// The client of one stream.
#[derive(Clone, Debug, Default)]
struct Client {
    reads: bool,
    /// Asked for in this life of the server and not answered yet.
    asked: Vec<Watcher>,
    watchers: Vec<(i64, Watcher)>,
}

impl Watching {
    /// For one seed.
    pub fn new(seed: u64) -> Watching {
        let mut pcg = Pcg::new(seed ^ 0x3a7c);
        let config = watch::Config {
            progress_interval: Duration::from_millis(1 + pcg.below(20)),
            queue_max: 1 + pcg.below(12) as usize,
            batch_revisions_max: 1 + pcg.below(5) as u32,
            // A stretch of simulated time is longer than a real client may stall.
            lag: watch::Limits { time_max: Duration::from_secs(3600), ..watch::Limits::default() },
        };
        Watching { pcg, clients: vec![Client { reads: true, ..Client::default() }; STREAMS], config }
    }

    /// The server has started: every client opens its stream and asks for what it has not seen.
    pub fn serve(&mut self, now: Instant, replica: &Replica) -> Serving {
        let mut core = Watchers::new(self.config);
        let streams: Vec<StreamId> = (0..STREAMS as u64).map(|n| core.open(now, n)).collect();
        for (client, &stream) in self.clients.iter_mut().zip(&streams) {
            let again = client.watchers.drain(..).map(|(_, watcher)| watcher);
            let asked: Vec<Watcher> =
                client.asked.drain(..).chain(again).filter(|watcher| !watcher.over).collect();
            for watcher in asked {
                ask(&mut core, stream, client, watcher, replica);
            }
        }
        Serving { core, streams, batches: vec![None; STREAMS] }
    }

    /// After each turn of the replica. Errors: what a watcher may not be told.
    pub fn turn(
        &mut self,
        now: Instant,
        serving: &mut Serving,
        replica: &mut Replica,
    ) -> Result<Result<(), String>, Fatal> {
        let mut budget = Budget(1 + self.pcg.below(30) as u32);
        match serving.core.on_published(now, &replica.view(), &mut budget) {
            Ok(_) => {}
            Err(cold) => replica.fetch(&cold, COLD)?,
        }
        serving.core.handle_timeout(now);
        let nth = self.pcg.below(STREAMS as u64) as usize;
        match self.pcg.below(24) {
            0 => self.create(nth, serving, replica),
            1 if self.pcg.one_in(3) => self.cancel(nth, serving, replica),
            2 => serving.core.request_progress(serving.streams[nth], replica.view().revision),
            3 => self.clients[nth].reads = self.pcg.one_in(2),
            _ => {}
        }
        for nth in 0..STREAMS {
            if self.clients[nth].reads && self.pcg.one_in(2) {
                let max = self.pcg.below(4);
                for _ in 0..max {
                    match self.read(nth, serving, replica)? {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(what) => return Ok(Err(what)),
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    fn create(&mut self, nth: usize, serving: &mut Serving, replica: &Replica) {
        let client = &mut self.clients[nth];
        if client.watchers.len() + client.asked.len() < WATCHERS_MAX {
            let keys = any_keys(&mut self.pcg);
            let watcher = Watcher::new(&mut self.pcg, keys, replica.view().revision.0);
            ask(&mut serving.core, serving.streams[nth], client, watcher, replica);
        }
    }

    /// The client forgets the watcher at once: what is still told of it is nobody's.
    fn cancel(&mut self, nth: usize, serving: &mut Serving, replica: &Replica) {
        let client = &mut self.clients[nth];
        if !client.watchers.is_empty() {
            let which = self.pcg.below(client.watchers.len() as u64) as usize;
            let (id, _) = client.watchers.remove(which);
            serving.core.cancel(serving.streams[nth], id, replica.view().revision);
        }
    }

    /// One message of a stream; false if there is none now.
    fn read(
        &mut self,
        nth: usize,
        serving: &mut Serving,
        replica: &mut Replica,
    ) -> Result<Result<bool, String>, Fatal> {
        let mut budget = Budget(1 + self.pcg.below(30) as u32);
        let step = match &mut serving.batches[nth] {
            Some((batch, told)) => {
                let mut events = batch.events.clone();
                let next = events.next(&replica.view(), &mut budget).map(|next| match next {
                    Next::Event(event) => {
                        let record = event.record;
                        let kv = (!record.is_tombstone()).then(|| kv_of(&record.fields()));
                        let change = Change { key: Bytes::copy_from_slice(record.key()), kv };
                        let prev = event.prev.map(|prev| kv_of(&prev.fields()));
                        told.push(Told { revision: record.main().0, change, prev });
                        Ok(true)
                    }
                    Next::More => Ok(true),
                    Next::End => Ok(false),
                    Next::Lost => Err("what was to be told is lost".to_owned()),
                });
                match next {
                    Ok(Ok(true)) => {
                        batch.events = events;
                        return Ok(Ok(true));
                    }
                    Ok(Ok(false)) => {
                        let (batch, told) = serving.batches[nth].take().expect("just read");
                        return Ok(self.hear(nth, &batch, told).map(|()| true));
                    }
                    Ok(Err(what)) => return Ok(Err(what)),
                    Err(cold) => Err(cold),
                }
            }
            None => serving.core.poll(serving.streams[nth], &replica.view(), &mut budget),
        };
        match step {
            Ok(Poll::Message(Message::Events(batch))) => {
                serving.batches[nth] = Some((batch, Vec::new()));
                Ok(Ok(true))
            }
            Ok(Poll::Message(message)) => Ok(self.note(nth, &message).map(|()| true)),
            Ok(Poll::More) => Ok(Ok(true)),
            Ok(Poll::Idle) => Ok(Ok(false)),
            Err(cold) => self.wait(&cold, replica).map(Ok),
        }
    }

    fn wait(&mut self, cold: &Cold, replica: &mut Replica) -> Result<bool, Fatal> {
        replica.fetch(cold, COLD)?;
        Ok(false)
    }

    fn hear(&mut self, nth: usize, batch: &Batch, told: Vec<Told>) -> Result<(), String> {
        match self.clients[nth].watchers.iter_mut().find(|(id, _)| *id == batch.id) {
            Some((_, watcher)) => watcher.hear(batch.revision.0, told),
            None => Ok(()),
        }
    }

    fn note(&mut self, nth: usize, message: &Message) -> Result<(), String> {
        let client = &mut self.clients[nth];
        match *message {
            Message::Created { id, revision } => {
                let mut watcher = client.asked.remove(0);
                watcher.created(revision.0);
                client.watchers.push((id, watcher));
            }
            Message::Compacted { id, compacted } => {
                if let Some((_, watcher)) = client.watchers.iter_mut().find(|(known, _)| *known == id) {
                    watcher.cancelled(compacted.0)?;
                }
            }
            Message::Progress { id, revision } => {
                let concerned = |known: i64| id == watch::PROGRESS_OF_ALL || id == known;
                let watchers = client.watchers.iter_mut().filter(|(known, _)| concerned(*known));
                watchers.for_each(|(_, watcher)| watcher.progress(revision.0));
            }
            Message::Canceled { .. } => {}
            Message::Refused { why, .. } => return Err(format!("a watcher was refused: {why:?}")),
            Message::Events(_) => unreachable!("events are read apart"),
        }
        Ok(())
    }

    /// Has every client read all there is. True when nothing is left; then [`Watching::settle`] may ask for all.
    pub fn drain(
        &mut self,
        now: Instant,
        serving: &mut Serving,
        replica: &mut Replica,
    ) -> Result<Result<bool, String>, Fatal> {
        let mut idle = match serving.core.on_published(now, &replica.view(), &mut Budget::SLICE.clone()) {
            Ok(more) => !more,
            Err(cold) => self.wait(&cold, replica)?,
        };
        for nth in 0..STREAMS {
            while match self.read(nth, serving, replica)? {
                Ok(more) => more,
                Err(what) => return Ok(Err(what)),
            } {}
            idle &= serving.batches[nth].is_none();
        }
        let counts = serving.core.counts();
        Ok(Ok(idle && counts.behind == 0 && counts.queued == 0))
    }

    /// Compares what was told with what is stored. `all`: nothing is left to be told.
    pub fn settle(&mut self, model: &Model, compacted: i64, all: bool) -> Result<(), String> {
        for client in &mut self.clients {
            for (_, watcher) in &mut client.watchers {
                watcher.settle(model, compacted, all)?;
            }
            client.watchers.retain(|(_, watcher)| !watcher.over);
        }
        Ok(())
    }
}

fn ask(core: &mut Watchers, stream: StreamId, client: &mut Client, mut watcher: Watcher, replica: &Replica) {
    let view = replica.view();
    let [no_put, no_delete] = watcher.filters;
    let options = Options {
        filter: Filter { no_put, no_delete },
        prev_kv: watcher.prev_kv,
        fragment: false,
        progress_notify: watcher.progress_notify,
    };
    let keys = watcher.keys.as_engine();
    core.create(stream, &Create { keys, start: watcher.next, id: 0, options }, &view);
    watcher.compacted = view.compacted.0;
    watcher.doomed = watcher.next > 0 && Revision(watcher.next) < view.compacted;
    client.asked.push(watcher);
}
