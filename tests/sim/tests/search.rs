//! The judge is judged: on small histories its verdict must be that of a search through all orders.
//!
//! The judge never searches, because every answer carries a revision; `search` does nothing else (Wing and Gong's
//! algorithm, as in porcupine) and knows nothing of revisions but that a store counts them. Histories are made by clients
//! of a correct store that are told the truth, and most have one mistake in them then. Whether that makes them wrong is
//! left to the two: both must say the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::disk::pcg::Pcg;
use engine::request::CompareResult;
use sim::call::{Compare, Keys, Kv, Op, Range, Reply, Request, Target, Txn};
use sim::dump::Dump;
use sim::judge::Judge;
use sim::model::Change;

const HISTORIES: u64 = 20_000;
const CALLS_MAX: u64 = 8;
const CLIENTS: u64 = 4;

/// A store of two keys, one call after the other.
#[derive(Clone, Debug, Default)]
struct Store {
    kvs: BTreeMap<Bytes, Kv>,
    /// From revision 2 on.
    changes: Vec<Vec<Change>>,
}

impl Store {
    fn revision(&self) -> i64 {
        1 + self.changes.len() as i64
    }

    fn execute(&mut self, request: &Request) -> Reply {
        let Request::Op(op) = request else { unreachable!("{request:?} is not made here") };
        let Op::Txn(txn) = op else { return self.op(op) };
        let succeeded = txn.compare.iter().all(|compare| {
            let created = self.kvs.get(&compare.keys.key).map_or(0, |kv| kv.created);
            compare.target == Target::Create(created)
        });
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let reply = self.op(&branch[0]);
        Reply::Txn { revision: self.revision(), succeeded, ops: vec![reply] }
    }

    fn op(&mut self, op: &Op) -> Reply {
        match op {
            Op::Put { key, value, prev_kv, .. } => {
                let before = self.kvs.get(key).cloned();
                let modified = self.revision() + 1;
                let (created, version) = before.as_ref().map_or((modified, 0), |kv| (kv.created, kv.version));
                let (key, value) = (key.clone(), value.clone());
                let kv = Kv { key: key.clone(), value, created, modified, version: version + 1, lease: 0 };
                self.kvs.insert(key.clone(), kv.clone());
                self.changes.push(vec![Change { key, kv: Some(kv) }]);
                Reply::Put { revision: modified, prev: before.filter(|_| *prev_kv) }
            }
            Op::Delete { keys, prev_kv } => {
                let found = self.kvs.remove(&keys.key);
                let gone = found.iter().map(|kv| Change { key: kv.key.clone(), kv: None });
                let gone: Vec<Change> = gone.collect();
                let deleted = gone.len() as i64;
                self.changes.extend(found.is_some().then_some(gone));
                let prev = found.into_iter().filter(|_| *prev_kv).collect();
                Reply::Delete { revision: self.revision(), deleted, prev }
            }
            Op::Range(range) => {
                let kvs: Vec<Kv> =
                    self.kvs.values().filter(|kv| range.keys.contains(&kv.key)).cloned().collect();
                Reply::Range { revision: self.revision(), count: kvs.len() as i64, kvs, more: false }
            }
            Op::Txn(_) => unreachable!("no transaction within another"),
        }
    }

    fn dump(&self) -> Dump {
        let changes = (2..).zip(self.changes.iter().cloned()).collect();
        Dump { revision: self.revision(), compacted: -1, changes, ..Dump::default() }
    }
}

/// What happens, in order.
#[derive(Clone, Debug)]
enum Event {
    Begin(usize),
    End(usize, Reply),
    /// The one member dies: whoever waits hears nothing any more, and has its effect by now or never.
    Crash,
}

#[derive(Clone, Debug, Default)]
struct History {
    requests: Vec<Request>,
    events: Vec<Event>,
    dump: Dump,
    /// A member that dies takes no call with it.
    of_group: bool,
}

fn any_request(pcg: &mut Pcg, nth: usize) -> Request {
    let key = Bytes::from_static([b"a", b"b"][pcg.below(2) as usize]);
    let value = Bytes::from(nth.to_string());
    let put = Op::Put { key: key.clone(), value, prev_kv: pcg.one_in(2), ignore_value: false, lease: 0 };
    let get = Op::Range(Range::of(Keys::one(key.clone()), 0));
    Request::Op(match pcg.below(8) {
        0..=2 => put,
        3 => Op::Delete { keys: Keys::one(key), prev_kv: pcg.one_in(2) },
        4 => get,
        5 | 6 => Op::Range(Range::of(Keys::all(), 0)),
        _ => {
            let (keys, result) = (Keys::one(key), CompareResult::Equal);
            let compare = vec![Compare { keys, result, target: Target::Create(0) }];
            Op::Txn(Txn { compare, success: vec![put], failure: vec![get] })
        }
    })
}

/// What a correct store and its clients may do.
fn right(pcg: &mut Pcg) -> History {
    let mut history = History { of_group: pcg.one_in(2), ..History::default() };
    let mut store = Store::default();
    // Begun, with the answer once it has its effect.
    let mut open: Vec<(usize, Option<Reply>)> = Vec::new();
    let calls = 1 + pcg.below(CALLS_MAX);
    while (history.requests.len() as u64) < calls || (!open.is_empty() && !pcg.one_in(8)) {
        let more = (history.requests.len() as u64) < calls && (open.len() as u64) < CLIENTS;
        if more && (open.is_empty() || pcg.one_in(3)) {
            let nth = history.requests.len();
            history.requests.push(any_request(pcg, nth));
            history.events.push(Event::Begin(nth));
            open.push((nth, None));
            continue;
        }
        if pcg.one_in(16) {
            history.events.push(Event::Crash);
            match history.of_group {
                // Others may have it, and bring it about later.
                true => drop(open.pop()),
                false => open.clear(),
            }
            continue;
        }
        let at = pcg.below(open.len() as u64) as usize;
        match open[at].1.take() {
            None => open[at].1 = Some(store.execute(&history.requests[open[at].0])),
            Some(reply) => history.events.push(Event::End(open.remove(at).0, reply)),
        }
    }
    history.dump = store.dump();
    history
}

/// One mistake, if there is room for it.
fn spoil(pcg: &mut Pcg, history: &mut History) {
    let ends: Vec<usize> =
        (0..history.events.len()).filter(|at| matches!(history.events[*at], Event::End(..))).collect();
    if ends.is_empty() {
        return;
    }
    let some = |pcg: &mut Pcg, ends: &[usize]| ends[pcg.below(ends.len() as u64) as usize];
    let at = some(pcg, &ends);
    match pcg.below(7) {
        // The answer of another call.
        0 => {
            let Event::End(_, other) = history.events[some(pcg, &ends)].clone() else { unreachable!() };
            let Event::End(_, reply) = &mut history.events[at] else { unreachable!() };
            *reply = other;
        }
        // Another revision, and what it would have seen there.
        1 | 2 => {
            let Event::End(call, reply) = &mut history.events[at] else { unreachable!() };
            let upto = pcg.below(history.dump.revision as u64) as i64 + 1;
            let mut store = Store::default();
            for change in history.dump.changes.range(..=upto).flat_map(|(_, changes)| changes) {
                match &change.kv {
                    Some(kv) => drop(store.kvs.insert(change.key.clone(), kv.clone())),
                    None => drop(store.kvs.remove(&change.key)),
                }
                store.changes.push(vec![change.clone()]);
            }
            *reply = store.execute(&history.requests[*call]);
        }
        // It ran at another time. What a crash ended has no other.
        3 | 4 if history.of_group || !history.events.iter().any(|event| matches!(event, Event::Crash)) => {
            let to = pcg.below(history.events.len() as u64) as usize;
            let event = history.events.remove(at);
            history.events.insert(to, event);
            let Event::End(call, _) = history.events[to] else { unreachable!() };
            let begin =
                history.events.iter().position(|event| matches!(event, Event::Begin(nth) if *nth == call));
            let begin = history.events.remove(begin.expect("it began"));
            let end =
                history.events.iter().position(|event| matches!(event, Event::End(nth, _) if *nth == call));
            let end = end.expect("it ended");
            history.events.insert(pcg.below(end as u64 + 1) as usize, begin);
        }
        // The newest revision is lost.
        3..=5 => {
            if history.dump.changes.remove(&history.dump.revision).is_some() {
                history.dump.revision -= 1;
            }
        }
        // Two revisions change places, but for their numbers.
        _ => {
            let last = history.dump.revision;
            if last > 2 {
                let first = history.dump.changes.remove(&(last - 1)).expect("it is stored");
                let second = history.dump.changes.insert(last, first).expect("it is stored");
                history.dump.changes.insert(last - 1, second);
            }
        }
    }
}

/// The judge's verdict.
fn judge(history: &History) -> Result<(), String> {
    let mut judge = Judge::default();
    judge.of_group = history.of_group;
    let mut calls = vec![0; history.requests.len()];
    for event in &history.events {
        match event {
            Event::Begin(call) => calls[*call] = judge.begin(0, history.requests[*call].clone()),
            Event::End(call, reply) => judge.end(calls[*call], reply.clone()),
            Event::Crash => judge.crash(0),
        }
    }
    judge.crash(0);
    judge.settle(&history.dump)
}

/// A call as the search sees it.
struct Call<'a> {
    request: &'a Request,
    begun: usize,
    ended: usize,
    reply: Option<&'a Reply>,
}

fn search(history: &History) -> bool {
    let mut calls: Vec<Call> = Vec::new();
    let nth = |call: usize| {
        history.events.iter().position(|event| matches!(event, Event::Begin(nth) if *nth == call)).unwrap()
    };
    for (call, request) in history.requests.iter().enumerate() {
        let begun = nth(call);
        let mut found = Call { request, begun, ended: usize::MAX, reply: None };
        for (at, event) in history.events.iter().enumerate().skip(begun) {
            match event {
                Event::End(nth, reply) if *nth == call => (found.ended, found.reply) = (at, Some(reply)),
                Event::Crash if !history.of_group && found.ended == usize::MAX => found.ended = at,
                _ => {}
            }
        }
        calls.push(found);
    }
    go_on(&calls, 0, &Store::default(), &history.dump)
}

/// Whether the calls that are not in `done` can follow it. A call with an answer must, one without may.
fn go_on(calls: &[Call], done: u32, store: &Store, dump: &Dump) -> bool {
    let is_done = |nth: usize| done & 1 << nth != 0;
    let all_there = calls.iter().enumerate().all(|(nth, call)| is_done(nth) || call.reply.is_none());
    if all_there && store.dump().changes == dump.changes {
        return true;
    }
    (0..calls.len()).filter(|nth| !is_done(*nth)).any(|nth| {
        let call = &calls[nth];
        // Not before one that had ended when it began, nor behind one that began when it had ended.
        let in_time = calls.iter().enumerate().all(|(other, earlier)| match is_done(other) {
            true => earlier.begun < call.ended,
            false => other == nth || earlier.reply.is_none() || call.begun < earlier.ended,
        });
        let mut store = store.clone();
        in_time
            && call.reply.is_none_or(|told| store.clone().execute(call.request) == *told)
            && {
                store.execute(call.request);
                store.changes.iter().zip(2..).all(|(changes, at)| dump.changes.get(&at) == Some(changes))
            }
            && go_on(calls, done | 1 << nth, &store, dump)
    })
}

#[test]
fn the_judge_says_what_a_search_says() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let mut pcg = Pcg::new(seed);
        let mut history = right(&mut pcg);
        if pcg.one_in(3) {
            assert!(search(&history), "seed {seed}: a history of a correct store: {history:?}");
        } else {
            spoil(&mut pcg, &mut history);
        }
        let (found, judged) = (search(&history), judge(&history));
        assert_eq!(found, judged.is_ok(), "seed {seed}: the judge says {judged:?} of {history:?}");
        if found { good += 1 } else { bad += 1 }
    }
    assert!(good > HISTORIES / 4 && bad > HISTORIES / 4, "{good} right, {bad} wrong");
}
