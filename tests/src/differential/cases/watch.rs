//! watch.md: the Watch stream.

use crate::proto::etcdserverpb as pb;
use crate::watch::{watch_key, watch_range};
use pb::WatchCreateRequest as Create;

use super::super::build::{compact, del, del_range, op, put, txn};
use super::super::watching::Watching;
use super::Case;

pub const CASES: &[Case] = &[
    Case {
        rows: &[
            "watch/2/start-zero",
            "watch/3/live",
            "watch/3/events",
            "kv/1/tombstone-event",
            "watch/1/created-first",
            "kv/11/watch",
        ],
        run: |p| {
            p.succeeds(put("wl/a", "before"));
            let mut w = Watching::open(p);
            let created = w.create(watch_range("wl/", "wl0"));
            w.pair().expect(created.created && created.watch_id == 0, "the first id is 0");
            w.pair().succeeds(put("wl/a", "1"));
            w.pair().succeeds(put("other", "1"));
            w.pair().succeeds(put("wl/b", ""));
            w.pair().succeeds(del("wl/a"));
            let heard = w.hear(3);
            let revision = |response: &pb::WatchResponse| response.header.map_or(0, |header| header.revision);
            let own = heard
                .iter()
                .all(|heard| heard.events[0].kv.as_ref().unwrap().mod_revision == revision(heard));
            w.pair().expect(own, "the header has the event's revision");
            w.silence();
        },
    },
    Case {
        rows: &["watch/3/one-response", "watch/4/same-revision", "kv/1/sub-revision"],
        run: |p| {
            p.succeeds(put("wo/b", "old"));
            let mut w = Watching::open(p);
            w.create(Create { prev_kv: true, ..watch_range("wo/", "wo0") });
            w.create(Create { filters: vec![1], ..watch_range("wo/", "wo0") });
            let ops = [op(put("wo/z", "1")), op(put("wo/a", "2")), op(del_range("wo/b", "wo/c"))];
            w.pair().succeeds(txn([], ops, []));
            w.hear(2);
            // A nested transaction may put what its parent's delete removes, and the other way round.
            let nested = op(txn([], [op(put("wo/n", "1"))], []));
            w.pair().succeeds(txn([], [nested, op(del_range("wo/n", "\0"))], []));
            w.hear(2);
            w.silence();
        },
    },
    Case {
        rows: &["watch/1/cancel", "watch/1/cancel-unknown", "watch/2/id-picked"],
        run: |p| {
            let mut w = Watching::open(p);
            w.create(watch_key("wx"));
            w.create(watch_key("wx"));
            w.cancel(7);
            w.cancel(0);
            let heard = w.hear(1);
            w.pair().expect(heard.first().is_some_and(|heard| heard.canceled), "canceled");
            w.cancel(0);
            w.pair().succeeds(put("wx", "1"));
            w.hear(1);
            let third = w.create(watch_key("wx"));
            w.pair().expect(third.watch_id == 2, "0 is not picked again");
            w.silence();
        },
    },
    Case {
        rows: &["watch/2/id-chosen", "watch/2/id-duplicate", "watch/2/refused-stays-open"],
        run: |p| {
            let mut w = Watching::open(p);
            for watch_id in [-7, 1, 0, 0, 1, -7, i64::MAX, -1] {
                w.create(Create { watch_id, ..watch_key("wi") });
            }
            w.pair().succeeds(put("wi", "1"));
            w.hear(6);
            w.cancel(1);
            w.hear(1);
            w.create(Create { watch_id: 1, ..watch_key("wi") });
        },
    },
    Case {
        rows: &["watch/2/empty-range", "watch/2/start-negative", "watch/2/refused-stays-open"],
        run: |p| {
            let mut w = Watching::open(p);
            let refused = w.create(watch_range("b", "a"));
            w.pair().expect(refused.cancel_reason == "mvcc: watcher range is empty", "the reason");
            w.create(watch_range("b", "b"));
            w.create(watch_range("", "\0\0"));
            for start_revision in [-1, i64::MIN] {
                w.create(Create { start_revision, ..watch_key("a") });
                w.create(Create { start_revision, watch_id: 5, ..watch_range("b", "a") });
            }
            w.create(Create { watch_id: 5, ..watch_key("a") });
            w.create(Create { watch_id: 5, ..watch_range("b", "a") });
            w.silence();
        },
    },
    Case {
        rows: &["watch/2/empty-key", "watch/2/range-end"],
        run: |p| {
            let mut w = Watching::open(p);
            w.create(watch_key(""));
            w.create(watch_range("", "\0"));
            w.create(watch_range("we/b", "\0"));
            w.create(watch_range("we/b", "we/c"));
            w.create(watch_key("we/b"));
            w.pair().succeeds(put("\0", "smallest"));
            w.hear(2);
            for (key, count) in [("we/a", 1), ("we/b", 4), ("we/bb", 3), ("we/c", 2)] {
                w.pair().succeeds(put(key, "1"));
                w.hear(count);
            }
            w.silence();
        },
    },
    Case {
        rows: &["watch/2/start-past", "watch/2/start-future"],
        run: |p| {
            for value in ["1", "2", "3", "4"] {
                p.succeeds(put("wp", value));
            }
            p.succeeds(del("wp"));
            let now = p.revision();
            let mut w = Watching::open(p);
            for start_revision in [now, now - 1, now - 3, now + 1, now + 3] {
                w.create(Create { start_revision, ..watch_key("wp") });
                if start_revision <= now {
                    w.hear(1);
                }
            }
            w.create(Create { start_revision: i64::MAX, ..watch_key("wp") });
            for (value, count) in [("5", 4), ("6", 4), ("7", 5)] {
                w.pair().succeeds(put("wp", value));
                w.hear(count);
            }
            w.silence();
        },
    },
    Case {
        rows: &["watch/2/filters"],
        run: |p| {
            let mut w = Watching::open(p);
            for filters in [vec![0], vec![1], vec![0, 1], vec![7], vec![-1, 1, 1]] {
                w.create(Create { filters, ..watch_key("wf") });
            }
            w.pair().succeeds(put("wf", "1"));
            w.hear(3);
            w.pair().succeeds(del("wf"));
            w.hear(2);
            w.silence();
        },
    },
    Case {
        rows: &["watch/4/prev-kv"],
        run: |p| {
            let mut w = Watching::open(p);
            w.create(Create { prev_kv: true, ..watch_key("wv") });
            for step in 0..6 {
                match step {
                    2 | 4 => w.pair().succeeds(del("wv")),
                    _ => w.pair().succeeds(put("wv", step.to_string())),
                };
                w.hear(1);
            }
            let now = w.pair().revision();
            w.create(Create { prev_kv: true, start_revision: now - 5, ..watch_key("wv") });
            w.hear(1);
        },
    },
    Case {
        rows: &[
            "watch/2/start-compacted",
            "watch/4/compacted",
            "watch/5/compaction",
            "kv/7/effect-watch",
            "kv/7/tombstone-kept",
            "kv/7/watchers",
        ],
        run: |p| {
            for value in ["1", "2", "3"] {
                p.succeeds(put("wc", value));
            }
            p.succeeds(del("wc"));
            let at = p.revision();
            p.succeeds(put("wc", "4"));
            let mut w = Watching::open(p);
            w.create(Create { prev_kv: true, ..watch_key("wc") });
            w.pair().succeeds(compact(at));
            w.create(Create { prev_kv: true, start_revision: at, ..watch_key("wc") });
            w.hear(1);
            for start_revision in [at - 1, 1] {
                w.create(Create { start_revision, ..watch_key("wc") });
                let heard = w.hear(1);
                let told = heard.first().is_some_and(|heard| heard.canceled && heard.compact_revision == at);
                w.pair().expect(told, "cancelled with the compaction revision");
            }
            // Its id is in use until the client cancels it too.
            w.create(Create { watch_id: 2, ..watch_key("wc") });
            w.cancel(2);
            w.hear(1);
            w.cancel(2);
            w.pair().succeeds(put("wc", "5"));
            w.hear(2);
            w.silence();
        },
    },
    Case {
        rows: &["watch/3/catch-up"],
        run: |p| {
            let first = p.revision() + 1;
            for number in 0..2501 {
                p.succeeds(put("wb", number.to_string()));
            }
            let mut w = Watching::open(p);
            w.create(Create { start_revision: first, ..watch_range("wb", "wc") });
            let heard = w.hear(3);
            let counts: Vec<usize> = heard.iter().map(|heard| heard.events.len()).collect();
            w.pair().expect(counts == [1000, 1000, 501], "1000 revisions a response");
            w.create(Create { start_revision: first, ..watch_key("wb") });
            w.hear(3);
        },
    },
    Case {
        rows: &["watch/6/manual", "watch/6/manual-future", "watch/6/manual-none"],
        run: |p| {
            let mut w = Watching::open(p);
            w.progress();
            w.silence();
            w.create(watch_key("wm"));
            w.create(watch_key("wm/other"));
            w.progress();
            let heard = w.hear(1);
            w.pair().expect(heard.first().is_some_and(|heard| heard.watch_id == -1), "id -1");
            w.pair().succeeds(put("elsewhere", "1"));
            w.progress();
            w.hear(1);
            let next = w.pair().revision() + 1;
            w.create(Create { start_revision: next, ..watch_key("wm") });
            w.progress();
            w.silence();
            w.pair().succeeds(put("elsewhere", "1"));
            w.progress();
            w.hear(1);
        },
    },
    Case {
        rows: &["watch/1/empty-request", "watch/1/half-close"],
        run: |p| {
            let mut w = Watching::open(p);
            w.say_bytes(b"");
            w.say_bytes(b"\x22\x01\x00");
            w.create(watch_key("wh"));
            // A member with nothing in it is a request with default fields.
            w.say_bytes(b"\x12\x00");
            w.hear(1);
            w.say_bytes(b"\x0a\x00");
            w.hear(1);
            w.create(watch_key("wh"));
            w.half_close();
            w.pair().succeeds(put("wh", "1"));
            w.hear(1);
        },
    },
    Case {
        rows: &["watch/1/malformed"],
        run: |p| {
            for bytes in [&b"\x0a\x05"[..], b"\x08\x01", b"\x0a\x02\x0a\x05"] {
                let mut w = Watching::open(p);
                w.create(watch_key("wz"));
                w.say_bytes(bytes);
                w.ends();
            }
        },
    },
    Case {
        rows: &["watch/7/fragment", "watch/7/whole"],
        run: |p| {
            let value = "x".repeat(1 << 20);
            let first = p.revision() + 1;
            for _ in 0..4 {
                p.succeeds(put("wg", value.clone()));
            }
            let mut w = Watching::open(p);
            w.create(Create { start_revision: first, ..watch_key("wg") });
            w.hear(1);
            w.create(Create { start_revision: first, fragment: true, ..watch_key("wg") });
            w.hear(4);
            w.create(Create { start_revision: first, fragment: true, prev_kv: true, ..watch_key("wg") });
            w.hear(4);
            w.pair().succeeds(put("wg", value));
            w.hear(3);
        },
    },
];

/// Cases that want news of progress each second.
pub const NOTIFIED: &[Case] = &[Case {
    rows: &["watch/6/notify"],
    run: |p| {
        let mut w = Watching::open(p);
        w.create(Create { progress_notify: true, ..watch_key("wn") });
        w.create(watch_key("wn"));
        let heard = w.hear(1);
        let idle = heard.first().is_some_and(|heard| heard.watch_id == 0 && heard.events.is_empty());
        w.pair().expect(idle, "news without events");
        w.pair().succeeds(put("elsewhere", "1"));
        w.hear(1);
        w.pair().succeeds(put("wn", "1"));
        w.hear(2);
    },
}];
