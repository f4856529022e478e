//! Samples of all cores, and Prometheus' text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The content type etcd answers a scrape with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows.
    Counter,
    /// Comes and goes.
    Gauge,
    /// Counts by range.
    Histogram,
}

/// All series of one name.
#[derive(Clone, Debug)]
pub struct Family {
    kind: Kind,
    help: &'static str,
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    suffix: &'static str,
    labels: String,
    value: f64,
}

impl Family {
    /// Adds the series `<name><suffix>{labels}`.
    pub(super) fn push(&mut self, suffix: &'static str, labels: String, value: f64) {
        self.samples.push(Sample { suffix, labels, value });
    }
}

/// What was counted, at one moment. May leave its core.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    families: BTreeMap<&'static str, Family>,
}

impl Snapshot {
    /// The family `name`, made if there is none.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut Family {
        self.families.entry(name).or_insert_with(|| Family { kind, help, samples: Vec::new() })
    }

    /// Adds what another core counted: equal series add up, others stand beside.
    pub fn merge(&mut self, other: Snapshot) {
        for (name, theirs) in other.families {
            let ours = self.family(name, theirs.kind, theirs.help);
            // Cores list their series in the same order, so the next one is usually the one.
            let mut next = 0;
            for sample in theirs.samples {
                let same = |ours: &Sample| ours.suffix == sample.suffix && ours.labels == sample.labels;
                let len = ours.samples.len();
                let found = (0..len).map(|step| (next + step) % len).find(|at| same(&ours.samples[*at]));
                match found {
                    Some(at) => {
                        ours.samples[at].value += sample.value;
                        next = at + 1;
                    }
                    None => ours.samples.push(sample),
                }
            }
        }
    }

    /// The text of a scrape. Families without a series are left out.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(64 * 1024);
        for (name, family) in self.families.iter().filter(|(_, family)| !family.samples.is_empty()) {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let _ = write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n", family.help);
            for sample in &family.samples {
                out.push_str(name);
                out.push_str(sample.suffix);
                if !sample.labels.is_empty() {
                    let _ = write!(out, "{{{}}}", sample.labels);
                }
                let _ = writeln!(out, " {}", go_float(sample.value));
            }
        }
        out
    }
}

/// A number as Go's `strconv.FormatFloat(x, 'g', -1, 64)` writes it, which is what scrapers have always seen.
pub(super) fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("Rust writes an exponent with {:e}");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by Go.
    #[test]
    fn numbers_look_as_in_go() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.5, "0.5"),
            (123456.0, "123456"),
            (999999.0, "999999"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (2147483648.0, "2.147483648e+09"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (0.00001, "1e-05"),
            (1e22, "1e+22"),
            (0.023153096, "0.023153096"),
            (u64::MAX as f64, "1.8446744073709552e+19"),
            (100000.5, "100000.5"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }

    #[test]
    fn text_format() {
        let mut snapshot = Snapshot::default();
        snapshot.family("b_total", Kind::Counter, "Bees.").push("", "x=\"1\"".to_owned(), 2.0);
        snapshot.family("a", Kind::Gauge, "As.").push("", String::new(), 1.5);
        snapshot.family("empty", Kind::Gauge, "None.");
        assert_eq!(
            snapshot.render(),
            "# HELP a As.\n# TYPE a gauge\na 1.5\n# HELP b_total Bees.\n# TYPE b_total counter\nb_total{x=\"1\"} 2\n"
        );
    }

    #[test]
    fn merging_adds_equal_series_only() {
        let one = |labels: &str, value| {
            let mut snapshot = Snapshot::default();
            snapshot.family("m", Kind::Counter, "h").push("", labels.to_owned(), value);
            snapshot
        };
        let mut sum = one("a", 1.0);
        sum.merge(one("b", 2.0));
        sum.merge(one("a", 4.0));
        assert_eq!(sum.render(), "# HELP m h\n# TYPE m counter\nm{a} 5\nm{b} 2\n");
    }
}
