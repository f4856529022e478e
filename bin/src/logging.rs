//! Log lines as etcd writes them, without ever making the caller wait.
//!
//! A line is one JSON object (or one tab-separated console line) with etcd's keys: `level`, `ts`, `caller`,
//! `msg`, then the fields. The caller renders it and hands it to a bounded queue; a thread of its own writes
//! it out, so a stalled terminal or disk stalls no core. When the queue is full the line is dropped and
//! counted, and the count is reported as soon as there is room. Lines are written as soon as the thread sees
//! them: nothing waits in a buffer.
//!
//! ```text
//!  core ── render ──► queue (QUEUE_LINES_MAX) ──► writer thread ──► stderr, stdout, files
//!                        │ full: dropped += 1
//! ```
//!
//! Differences from etcd's zap, on purpose: no sampling of equal messages (the queue is the bound), no stack
//! traces. A [`Logger`] is passed to whoever logs; there is no global one.

mod event;
mod outputs;

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

pub use event::{Event, Format, Level, Value};
pub use outputs::Output;
use outputs::Sink;

/// Lines that may wait for the writer thread. At a usual 300 bytes a line this is about 1 MiB.
const QUEUE_LINES_MAX: usize = 4096;

/// Bytes the writer gathers into one write when lines come faster than the output takes them.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// How long a flush waits for a stuck output before it gives up.
const FLUSH_WAIT: Duration = Duration::from_secs(5);
const FLUSH_RETRY: Duration = Duration::from_millis(1);

/// What to log and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Least level that is written.
    pub level: Level,
    /// Form of the lines.
    pub format: Format,
    /// Where they go; none discards them.
    pub outputs: Vec<Output>,
}

impl Default for Options {
    /// JSON from info up on stderr: what etcd does before it has read its flags.
    fn default() -> Options {
        Options { level: Level::Info, format: Format::Json, outputs: vec![Output::Stderr] }
    }
}

/// A handle to log with. Cheap to clone, and usable from any thread.
#[derive(Clone, Debug)]
pub struct Logger {
    level: Level,
    format: Format,
    name: Option<&'static str>,
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when everything queued before it is written.
    Flush(SyncSender<()>),
}

impl Logger {
    /// Opens the outputs and starts the writer thread, which ends when the last handle is gone.
    ///
    /// Fails when a log file cannot be opened, with a sentence naming it.
    pub fn open(options: &Options) -> Result<Logger, String> {
        let sinks = options.outputs.iter().map(Sink::open).collect::<Result<Vec<_>, _>>()?;
        let (queue, lines) = sync_channel(QUEUE_LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { format: options.format, lines, sinks, dropped: Arc::clone(&dropped) };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| format!("cannot start the log thread: {error}"))?;
        Ok(Logger { level: options.level, format: options.format, name: None, queue, dropped })
    }

    /// The same logger under a name: etcd's `logger` key, for example `raft`.
    pub fn named(&self, name: &'static str) -> Logger {
        Logger { name: Some(name), ..self.clone() }
    }

    /// Whether lines of `level` are written at all.
    pub fn enabled(&self, level: Level) -> bool {
        level >= self.level
    }

    /// Logs at debug level. Fields are `("key", &value)` pairs in the order they shall appear.
    #[track_caller]
    pub fn debug(&self, msg: &str, fields: &[(&str, &dyn Value)]) {
        self.log(Level::Debug, msg, fields);
    }

    /// Logs at info level.
    #[track_caller]
    pub fn info(&self, msg: &str, fields: &[(&str, &dyn Value)]) {
        self.log(Level::Info, msg, fields);
    }

    /// Logs at warn level.
    #[track_caller]
    pub fn warn(&self, msg: &str, fields: &[(&str, &dyn Value)]) {
        self.log(Level::Warn, msg, fields);
    }

    /// Logs at error level: a person must look.
    #[track_caller]
    pub fn error(&self, msg: &str, fields: &[(&str, &dyn Value)]) {
        self.log(Level::Error, msg, fields);
    }

    /// Logs at fatal level, waits until the line is out and ends the process with status 1.
    #[track_caller]
    pub fn fatal(&self, msg: &str, fields: &[(&str, &dyn Value)]) -> ! {
        self.log(Level::Fatal, msg, fields);
        self.flush();
        std::process::exit(1)
    }

    /// Logs at `level`; the caller's file and line are the line's `caller`.
    #[track_caller]
    pub fn log(&self, level: Level, msg: &str, fields: &[(&str, &dyn Value)]) {
        if self.enabled(level) {
            self.push(Event { level, logger: self.name, caller: Location::caller(), msg, fields });
        }
    }

    fn push(&self, event: Event<'_>) {
        let line = event.render(self.format, &jiff::Zoned::now());
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every line logged before is written, for at most five seconds.
    ///
    /// For the end of the process; a running core must not call it.
    pub fn flush(&self) {
        // A stuck output must not keep the process from ending: neither step may wait for ever.
        let deadline = Instant::now() + FLUSH_WAIT;
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() > deadline {
                return;
            }
            message = back;
            std::thread::sleep(FLUSH_RETRY);
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The thread's side of the queue.
struct Writer {
    format: Format,
    lines: Receiver<Message>,
    sinks: Vec<Sink>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(WRITE_BYTES_MAX);
        while let Ok(first) = self.lines.recv() {
            let mut flushes = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => batch.extend_from_slice(&line),
                    Message::Flush(done) => flushes.push(done),
                }
                let has_room = batch.len() < WRITE_BYTES_MAX;
                next = if has_room { self.lines.try_recv().ok() } else { None };
            }
            self.write(&mut batch);
            for done in flushes {
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let fields: &[(&str, &dyn Value)] = &[("dropped-lines", &dropped)];
            let msg = "log lines were dropped because the log output is too slow";
            let event = Event { level: Level::Warn, logger: None, caller: Location::caller(), msg, fields };
            batch.extend_from_slice(&event.render(self.format, &jiff::Zoned::now()));
        }
        for sink in &mut self.sinks {
            sink.write(batch);
        }
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn file_logger(level: Level) -> (Logger, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let outputs = vec![Output::File(file.path().to_owned())];
        (Logger::open(&Options { level, format: Format::Json, outputs }).unwrap(), file)
    }

    #[test]
    fn a_line_has_the_keys_of_etcd() {
        let (log, file) = file_logger(Level::Info);
        log.named("raft").info("closing etcd server", &[("name", &"a"), ("count", &3u64), ("on", &true)]);
        log.flush();
        let line = &lines_of(file.path())[0];
        assert_eq!(line["level"], "info");
        assert_eq!(line["logger"], "raft");
        assert_eq!(line["msg"], "closing etcd server");
        assert_eq!((&line["name"], &line["count"], &line["on"]), (&"a".into(), &3.into(), &true.into()));
        let caller = line["caller"].as_str().unwrap();
        assert!(caller.starts_with("bin/logging.rs:"), "{caller}");
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        let (log, file) = file_logger(Level::Warn);
        log.debug("a", &[]);
        log.info("b", &[]);
        log.warn("c", &[]);
        log.error("d", &[]);
        log.flush();
        let messages: Vec<_> = lines_of(file.path()).iter().map(|line| line["msg"].clone()).collect();
        assert_eq!(messages, ["c", "d"]);
    }

    #[test]
    fn a_full_queue_drops_and_reports() {
        let (queue, lines) = sync_channel(2);
        let dropped = Arc::new(AtomicU64::new(0));
        let file = tempfile::NamedTempFile::new().unwrap();
        let sinks = vec![Sink::open(&Output::File(file.path().to_owned())).unwrap()];
        let writer = Writer { format: Format::Json, lines, sinks, dropped: Arc::clone(&dropped) };
        let log = Logger { level: Level::Info, format: Format::Json, name: None, queue, dropped };
        for _ in 0..5 {
            log.info("line", &[]);
        }
        drop(log);
        writer.run();
        let lines = lines_of(file.path());
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["dropped-lines"], 3);
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let (log, file) = file_logger(Level::Info);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let log = log.clone();
                scope.spawn(move || (0..200).for_each(|n| log.info("line", &[("n", &n)])));
            }
        });
        log.flush();
        assert_eq!(lines_of(file.path()).len(), 800);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let outputs = vec![Output::File("/nonexistent/x.log".into())];
        let error = Logger::open(&Options { outputs, ..Options::default() }).unwrap_err();
        assert!(error.contains("/nonexistent/x.log"), "{error}");
    }
}
