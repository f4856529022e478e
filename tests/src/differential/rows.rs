//! `tests/differential/rows.toml`: every fact about the wire that a case must stand for, by id, and
//! `known.toml`: the differences that are there on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

use crate::scratch::workspace;

/// One fact.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What cases call it.
    pub id: String,
    /// The fact, in a few words.
    pub text: String,
    /// The milestone that it waits for; without one it is in scope.
    pub later: Option<String>,
}

/// One difference that is there on purpose.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    row: String,
    reason: String,
}

/// All facts and known differences.
#[derive(Clone, Debug)]
pub struct Rows {
    rows: BTreeMap<String, Row>,
    known: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RowsFile {
    row: Vec<Row>,
}

#[derive(Deserialize)]
struct KnownFile {
    #[serde(default)]
    known: Vec<Known>,
}

impl Rows {
    /// Reads both files of this repository.
    pub fn load() -> io::Result<Rows> {
        let folder = workspace().join("tests/differential");
        let rows: RowsFile = read(&folder.join("rows.toml"))?;
        let known: KnownFile = read(&folder.join("known.toml"))?;
        let mut by_id = BTreeMap::new();
        for row in rows.row {
            if let Some(twice) = by_id.insert(row.id.clone(), row) {
                return Err(invalid(format!("rows.toml: {} is there twice", twice.id)));
            }
        }
        if let Some(stray) = known.known.iter().find(|known| !by_id.contains_key(&known.row)) {
            return Err(invalid(format!("known.toml: no row is called {}", stray.row)));
        }
        let known = known.known.into_iter().map(|known| (known.row, known.reason)).collect();
        Ok(Rows { rows: by_id, known })
    }

    /// How many rows are in scope.
    pub fn in_scope(&self) -> usize {
        self.rows.values().filter(|row| row.later.is_none()).count()
    }

    /// How many rows wait for each later milestone.
    pub fn waiting(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for later in self.rows.values().filter_map(|row| row.later.as_deref()) {
            *counts.entry(later).or_default() += 1;
        }
        counts
    }

    /// Rows in scope that are not among `covered`.
    pub fn without_case<'a>(&'a self, covered: &BTreeSet<&str>) -> Vec<&'a Row> {
        self.rows.values().filter(|row| row.later.is_none() && !covered.contains(row.id.as_str())).collect()
    }

    /// Ids among `covered` that no row has.
    pub fn unknown<'a>(&self, covered: &BTreeSet<&'a str>) -> Vec<&'a str> {
        covered.iter().copied().filter(|&id| !self.rows.contains_key(id)).collect()
    }

    /// Why a difference in a case of `rows` is there on purpose, if it is.
    pub fn reason(&self, rows: &[String]) -> Option<&str> {
        rows.iter().find_map(|row| self.known.get(row)).map(String::as_str)
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<T> {
    let text = fs::read_to_string(path)?;
    toml::from_str(&text).map_err(|error| invalid(format!("{}: {error}", path.display())))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::super::cases::covered_rows;
    use super::*;

    #[test]
    fn every_row_in_scope_has_a_case_and_every_case_a_row() {
        let rows = Rows::load().unwrap();
        let covered = covered_rows();
        let missing = rows.without_case(&covered);
        assert!(missing.is_empty(), "rows without a case: {missing:#?}");
        assert_eq!(rows.unknown(&covered), [""; 0], "cases name rows that are not in rows.toml");
    }
}
