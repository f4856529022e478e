//! Values as given, read back by type.
//!
//! Values are kept as text and were checked when they were set, so reading one back cannot fail; a name
//! without a row is our own mistake.

use std::collections::BTreeMap;

use super::answer::Note;
use super::gates;
use super::kind::{self, Kind};
use super::table::{self, Flag};
use crate::duration::GoDuration;
use crate::url::Url;

/// Values as given: each of its flag's type, defaults for the rest.
#[derive(Clone, Debug, Default)]
pub struct Given {
    set: BTreeMap<&'static str, String>,
    /// Path of the configuration file, when one was read.
    pub config_file: Option<String>,
    /// What there is to log about how the values were found.
    pub notes: Vec<Note>,
}

impl Given {
    /// Sets `flag` after its type has agreed.
    pub(super) fn put(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        flag.kind.check(text)?;
        let text = match (flag.kind, self.set.get(flag.name)) {
            // Go's feature gates add up when the flag is repeated.
            (Kind::Gates, Some(before)) => format!("{before},{text}"),
            _ => text.to_owned(),
        };
        self.set.insert(flag.name, text);
        Ok(())
    }

    /// Whether a flag, a variable or the file set `name`.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// The value as text; the default when nothing set it.
    pub fn text(&self, name: &str) -> &str {
        match self.set.get(name) {
            Some(text) => text,
            None => table::find(name).unwrap_or_else(|| panic!("flag {name} has no row")).default,
        }
    }

    /// Whether the value differs from the default in meaning, not in spelling.
    pub fn is_changed(&self, flag: &Flag) -> bool {
        let Some(text) = self.set.get(flag.name) else { return false };
        match flag.kind {
            Kind::Bool => kind::parse_bool(text) != kind::parse_bool(flag.default),
            Kind::Int => kind::parse_int(text) != kind::parse_int(flag.default),
            Kind::Uint | Kind::Uint32 => {
                kind::parse_uint(text, u64::MAX) != kind::parse_uint(flag.default, u64::MAX)
            }
            Kind::Span => GoDuration::parse(text) != GoDuration::parse(flag.default),
            _ => text != flag.default,
        }
    }

    /// A boolean flag's value.
    pub fn bool(&self, name: &str) -> bool {
        kind::parse_bool(self.text(name)).expect("checked when set")
    }

    /// A signed flag's value.
    pub fn int(&self, name: &str) -> i64 {
        kind::parse_int(self.text(name)).expect("checked when set")
    }

    /// An unsigned flag's value.
    pub fn uint(&self, name: &str) -> u64 {
        kind::parse_uint(self.text(name), u64::MAX).expect("checked when set")
    }

    /// A duration flag's value.
    pub fn span(&self, name: &str) -> GoDuration {
        GoDuration::parse(self.text(name)).expect("checked when set")
    }

    /// A URL flag's value; an empty text is no URLs.
    pub fn urls(&self, name: &str) -> Vec<Url> {
        match self.text(name) {
            "" => Vec::new(),
            text => Url::parse_list(text).expect("checked when set"),
        }
    }

    /// A list flag's values, in order; an empty text is none.
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.text(name) {
            "" => Vec::new(),
            text => text.split(',').map(str::to_owned).collect(),
        }
    }

    /// A list flag's values, sorted, each once.
    pub fn names(&self, name: &str) -> Vec<String> {
        let mut names = self.list(name);
        names.sort();
        names.dedup();
        names
    }

    /// The feature gates that `--feature-gates` names.
    pub fn gates(&self) -> BTreeMap<&'static str, bool> {
        gates::parse(self.text("feature-gates")).expect("checked when set")
    }
}
