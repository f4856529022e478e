//! Two servers side by side: every call goes to both, the reference first, and what differs is written down.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Binary, Server, StartError};
use crate::wire::{Answer, Conn, Request};

use super::call::{Call, Names, Outcome, RawOutcome};
use super::http1::{HttpAnswer, http1};
use super::terse::terse;

/// Something that differs, or that a fact says and the reference does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rows of the case that was running, empty for generated calls.
    pub rows: Vec<String>,
    /// Which call of the case, from 1.
    pub step: usize,
    /// What was sent.
    pub call: String,
    /// What differs, line by line.
    pub difference: String,
}

impl Finding {
    /// Both findings as one.
    pub fn and(self, other: Finding) -> Finding {
        Finding { difference: format!("{}\n{}", self.difference, other.difference), ..self }
    }
}

/// One of the two.
#[derive(Debug)]
struct Side {
    binary: Binary,
    server: Server,
    conn: Conn,
    names: Names,
    /// A call of this case got no answer; the case's other calls are not worth the wait.
    hung: bool,
}

impl Side {
    fn start(binary: &Binary, flags: &[&str]) -> Result<Side, StartError> {
        let mut binary = binary.clone();
        binary.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        let server = Server::start(&binary, &[])?;
        let conn = Conn::open(server.client())?;
        let names = Names::new(server.client(), server.site().peer());
        Ok(Side { binary, server, conn, names, hung: false })
    }

    fn restart(&mut self) -> Result<(), StartError> {
        // etcd waits for its clients before it ends.
        self.conn.close()?;
        self.server.restart(&self.binary)?;
        self.conn = Conn::open(self.server.client())?;
        Ok(())
    }

    fn is_settled(&self) -> io::Result<bool> {
        let answer = http1(self.server.client(), "GET", "/version", &[])?;
        let versions = serde_json::from_str::<serde_json::Value>(&answer.body).unwrap_or_default();
        Ok(versions["storage"].is_string() && versions["storage"] == versions["etcdcluster"])
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        if self.hung {
            return Err(io::Error::other("not asked: an earlier call of this case got no answer"));
        }
        let result = self.conn.exchange(request);
        self.hung = matches!(&result, Err(error) if is_timeout(error.kind()));
        if !matches!(&result, Ok(Answer { end: crate::wire::End::Stream | crate::wire::End::Reset(_), .. })) {
            // Whatever broke it, the next call deserves a connection of its own.
            self.conn = Conn::open(self.server.client())?;
        }
        result
    }

    fn call(&mut self, call: &Call) -> Outcome {
        match self.exchange(&call.request(self.names.own())) {
            Ok(answer) => Outcome::read(call, &answer, &mut self.names),
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }
}

/// The two servers.
#[derive(Debug)]
pub struct Pair {
    /// The reference, then the subject.
    sides: [Side; 2],
    rows: Vec<String>,
    step: usize,
    findings: Vec<Finding>,
}

impl Pair {
    /// Starts both with `flags`, each in a new directory.
    pub fn start(reference: &Binary, subject: &Binary, flags: &[&str]) -> Result<Pair, StartError> {
        let reference = Side::start(reference, flags)?;
        let subject = Side::start(subject, flags)?;
        Ok(Pair { sides: [reference, subject], rows: Vec::new(), step: 0, findings: Vec::new() })
    }

    /// Waits until both have decided on their versions: etcd raises that of its storage only after a while.
    pub fn settle(&self) -> io::Result<()> {
        let deadline = Instant::now() + SETTLE_MAX;
        for side in &self.sides {
            while !side.is_settled()? && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Stops both in the ordinary way and starts them again on their data.
    pub fn restart(&mut self) {
        self.step += 1;
        for index in 0..2 {
            if let Err(error) = self.sides[index].restart() {
                self.note("restart", format!("{}: {error}", self.sides[index].binary.name));
            }
        }
    }

    /// Writes down a server that ended by itself, with its last words, and starts it again on its data, so that one
    /// crash does not hide what the other cases would find.
    pub fn revive(&mut self) {
        for index in 0..2 {
            let Side { binary, server, .. } = &mut self.sides[index];
            if server.is_running() {
                continue;
            }
            let log = server.log();
            let words = log[log.len().saturating_sub(LAST_WORDS)..].join("\n");
            let name = binary.name.clone();
            let revived = server.kill_and_restart(binary).map_err(|error| error.to_string());
            let revived = revived.and_then(|()| {
                self.sides[index].conn =
                    Conn::open(self.sides[index].server.client()).map_err(|e| e.to_string())?;
                Ok(())
            });
            self.note(
                "",
                format!("{name} ended by itself (started again: {revived:?}); its last words:\n{words}"),
            );
        }
    }

    /// From here on, findings belong to `rows`.
    pub fn begin(&mut self, rows: &[&str]) {
        self.sides.iter_mut().for_each(|side| side.hung = false);
        self.rows = rows.iter().map(|&row| row.to_owned()).collect();
        self.step = 0;
    }

    /// Whether nothing was found since the last [`Pair::take_findings`].
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// All findings so far; they are taken out.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Calls both and compares; gives the reference's outcome.
    pub fn call(&mut self, call: impl Into<Call>) -> Outcome {
        let call = call.into();
        self.step += 1;
        let [expected, found] = self.sides.each_mut().map(|side| side.call(&call));
        self.compare(&terse(&call), &expected, &found);
        if let Outcome::Broken(text) = &expected {
            // Two servers that break alike prove nothing.
            self.note(&terse(&call), format!("reference: {text}"));
        }
        expected
    }

    /// Calls both and compares; both must succeed.
    pub fn succeeds(&mut self, call: impl Into<Call>) -> Outcome {
        let call = call.into();
        let outcome = self.call(call.clone());
        if !matches!(outcome, Outcome::Reply { .. }) {
            self.note(&terse(&call), format!("reference: expected success, got {outcome:?}"));
        }
        outcome
    }

    /// Calls both and compares; both must answer exactly this error.
    pub fn fails(&mut self, call: impl Into<Call>, code: i32, message: &str) {
        let call = call.into();
        let outcome = self.call(call.clone());
        let fits =
            matches!(&outcome, Outcome::Error(status) if status.code == code && status.message == message);
        if !fits {
            self.note(&terse(&call), format!("reference: expected {code} {message:?}, got {outcome:?}"));
        }
    }

    /// Calls both; both must succeed, but what they answer may differ: for states that differ, as that of servers
    /// which were filled up to their own idea of a quota.
    pub fn succeeds_loosely(&mut self, call: impl Into<Call>) {
        let call = call.into();
        self.step += 1;
        let outcomes = self.sides.each_mut().map(|side| side.call(&call));
        if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Reply { .. })) {
            self.note(&terse(&call), format!("expected two successes, got {outcomes:?}"));
        }
    }

    /// On each server by itself: makes `call`, and then those that its outcome asks for. Nothing is compared.
    pub fn each(&mut self, call: Call, follow: impl Fn(Outcome) -> Vec<Call>) {
        self.step += 1;
        for side in &mut self.sides {
            for next in follow(side.call(&call)) {
                side.call(&next);
            }
        }
    }

    /// Repeats `call` on each server until it gives an error that `enough` accepts, at most `max` times.
    pub fn repeat_until(&mut self, call: impl Into<Call>, max: usize, enough: impl Fn(&Outcome) -> bool) {
        let call = call.into();
        self.step += 1;
        let reached = self.sides.each_mut().map(|side| (0..max).any(|_| enough(&side.call(&call))));
        if reached != [true; 2] {
            self.note(&terse(&call), format!("not within {max} calls: [reference, subject] {reached:?}"));
        }
    }

    /// Compares the SETTINGS that both have announced on their connections.
    pub fn settings(&mut self) {
        let [expected, found] = self.sides.each_ref().map(|side| side.conn.server_settings().to_vec());
        self.compare("SETTINGS", &expected, &found);
    }

    /// The store's revision, as both should say.
    pub fn revision(&mut self) -> i64 {
        self.succeeds(super::build::get("revision")).revision().unwrap_or_default()
    }

    /// Sends `request` as it is to both and compares all that comes back. Errors come out as text.
    pub fn raw(&mut self, request: &Request) -> Result<RawOutcome, String> {
        self.raw_with(request, |_| {})
    }

    /// The same, compared after `forgive`.
    pub fn raw_with(
        &mut self,
        request: &Request,
        forgive: impl Fn(&mut RawOutcome),
    ) -> Result<RawOutcome, String> {
        self.step += 1;
        let path = request.headers.iter().find(|(name, _)| name == ":path").map_or("", |(_, path)| path);
        let mut outcomes = self.sides.each_mut().map(|side| {
            let answer = side.exchange(request).map_err(|error| error.kind().to_string())?;
            let mut outcome = RawOutcome::read(path, answer, &mut side.names);
            forgive(&mut outcome);
            Ok::<_, String>(outcome)
        });
        let [expected, found] = &outcomes;
        let text = abbreviate(&format!("{:?} {}", request.headers, request.body.escape_ascii()));
        self.compare(&text, expected, found);
        std::mem::replace(&mut outcomes[0], Err(String::new()))
    }

    /// Sends one HTTP/1.1 request to both client ports and compares after `forgive`.
    pub fn http_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        forgive: impl Fn(&mut HttpAnswer),
    ) -> Result<HttpAnswer, String> {
        self.step += 1;
        let mut answers = self.sides.each_ref().map(|side| {
            let mut answer =
                http1(side.server.client(), method, path, headers).map_err(|error| error.to_string())?;
            forgive(&mut answer);
            Ok::<_, String>(answer)
        });
        let [expected, found] = &answers;
        self.compare(&format!("{method} {path} {headers:?}"), expected, found);
        std::mem::replace(&mut answers[0], Err(String::new()))
    }

    /// The same with nothing forgiven.
    pub fn http(&mut self, method: &str, path: &str) -> Result<HttpAnswer, String> {
        self.http_with(method, path, &[], |_| {})
    }

    /// Writes down that the reference does not do what the row says.
    pub fn expect(&mut self, fact: bool, text: &str) {
        if !fact {
            self.note("fact", format!("reference: {text}"));
        }
    }

    /// Client addresses, the reference's first.
    pub fn addresses(&self) -> [std::net::SocketAddr; 2] {
        self.sides.each_ref().map(|side| side.server.client())
    }

    /// One message of a stream that one side sent.
    pub fn outcome(&mut self, side: usize, call: &Call, bytes: &[u8]) -> Outcome {
        Outcome::of_message(call, bytes, &mut self.sides[side].names)
    }

    /// Compares what streams of both brought.
    pub fn compare_stream<T: std::fmt::Debug + PartialEq>(&mut self, what: &str, expected: &T, found: &T) {
        self.step += 1;
        self.compare(what, expected, found);
    }

    fn compare<T: std::fmt::Debug + PartialEq>(&mut self, call: &str, expected: &T, found: &T) {
        if expected != found {
            self.note(call, first_differences(&format!("{expected:#?}"), &format!("{found:#?}")));
        }
    }

    fn note(&mut self, call: &str, difference: String) {
        let call = abbreviate(call);
        self.findings.push(Finding { rows: self.rows.clone(), step: self.step, call, difference });
    }
}

const SETTLE_MAX: Duration = Duration::from_secs(8);
const LAST_WORDS: usize = 6;
const LINES_MAX: usize = 8;
const TEXT_MAX: usize = 600;

/// Which of the two a socket's timeout gives differs between systems.
fn is_timeout(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// The lines that differ between two pretty-printed values, with the fields they are in.
fn first_differences(expected: &str, found: &str) -> String {
    let expected = expected.lines().collect::<Vec<_>>();
    let found = found.lines().collect::<Vec<_>>();
    let differs = |&at: &usize| expected.get(at) != found.get(at);
    let longest = expected.len().max(found.len());
    let line = |lines: &[&str], at: usize| abbreviate(lines.get(at).map_or("(end)", |line| line.trim()));
    let mut out = Vec::new();
    for at in (0..longest).filter(differs).take(LINES_MAX) {
        let field = enclosing(&expected, at);
        out.push(format!("{field}: reference {}, subject {}", line(&expected, at), line(&found, at)));
    }
    out.join("\n")
}

/// The path of fields around line `at` of a pretty-printed value.
fn enclosing(lines: &[&str], at: usize) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut path = Vec::new();
    let Some(line) = lines.get(at) else { return "(end)".into() };
    let mut level = indent(line);
    for line in lines[..at].iter().rev() {
        if indent(line) < level {
            level = indent(line);
            path.push(line.trim().trim_end_matches(['{', '[', '(', ' ', ':']));
        }
    }
    path.reverse();
    path.join(".")
}

fn abbreviate(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_their_field() {
        let a = "Reply {\n    header: Some(\n        revision: 1,\n    ),\n    count: 2,\n}";
        let b = a.replace("revision: 1", "revision: 2");
        assert_eq!(
            first_differences(a, &b),
            "Reply.header: Some: reference revision: 1,, subject revision: 2,"
        );
        assert_eq!(first_differences(a, a), "");
    }
}
