//! Calls by the version that the client's library says it is, and by whether they stream: etcd's
//! `etcd_server_client_requests_total`.

use crate::api::route::Kind;

/// Versions that have a row of their own. Clients choose what they say, and must not fill memory with it.
const ROWS_MAX: usize = 32;
/// Longest version that gets a row.
const VERSION_LEN_MAX: usize = 32;

/// What etcd calls the version of a client that says none.
const UNKNOWN: &str = "unknown";
/// All others.
const OTHER: &str = "other";

/// Calls of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What the client says.
    pub version: String,
    /// Unary calls.
    pub unary: u64,
    /// Calls that stream, in either direction.
    pub streams: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Versions {
    rows: Vec<Row>,
    /// The row of the last call: usually of the next one too.
    last: usize,
}

impl Versions {
    /// Counts a call.
    pub fn count(&mut self, version: Option<&str>, kind: Kind) {
        let version = version.unwrap_or(UNKNOWN);
        if self.rows.get(self.last).is_none_or(|row| row.version != version) {
            self.last = self.find(version);
        }
        let row = &mut self.rows[self.last];
        match kind {
            Kind::Unary => row.unary += 1,
            Kind::ServerStream | Kind::BidiStream => row.streams += 1,
        }
    }

    /// The counts so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn find(&mut self, version: &str) -> usize {
        let at = |rows: &[Row], version: &str| rows.iter().position(|row| row.version == version);
        let is_new = at(&self.rows, version).is_none();
        let has_room = version.len() <= VERSION_LEN_MAX && self.rows.len() < ROWS_MAX;
        let version = if is_new && !has_room { OTHER } else { version };
        at(&self.rows, version).unwrap_or_else(|| {
            self.rows.push(Row { version: version.to_owned(), unary: 0, streams: 0 });
            self.rows.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_up_to_a_bound() {
        let mut versions = Versions::default();
        for _ in 0..2 {
            versions.count(Some("3.6"), Kind::Unary);
            versions.count(None, Kind::Unary);
            versions.count(Some("3.6"), Kind::BidiStream);
            versions.count(Some(&"x".repeat(VERSION_LEN_MAX + 1)), Kind::ServerStream);
        }
        let row = |version: &str, unary, streams| Row { version: version.to_owned(), unary, streams };
        assert_eq!(versions.rows(), [row("3.6", 2, 2), row(UNKNOWN, 2, 0), row(OTHER, 0, 2)]);
        for n in 0..2 * ROWS_MAX {
            versions.count(Some(&n.to_string()), Kind::Unary);
        }
        assert_eq!(versions.rows().len(), ROWS_MAX);
        assert_eq!(versions.rows().iter().map(|row| row.unary).sum::<u64>(), 4 + 2 * ROWS_MAX as u64);
    }
}
