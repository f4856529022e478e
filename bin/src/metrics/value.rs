//! Counters, gauges and histograms of one core: cells, no atomics.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::render::{Family, go_float};

/// Rows of one labelled metric, at most. Clients choose some labels, and must not fill memory with them.
const LABELLED_ROWS_MAX: usize = 128;

/// The label value of what came after the last row.
const OVERFLOW: &str = "other";

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    /// Takes a count over that somebody else keeps.
    pub fn set(&self, count: u64) {
        self.0.set(count);
    }

    /// The count so far.
    pub fn count(&self) -> u64 {
        self.0.get()
    }

    pub(super) fn sample(&self, to: &mut Family, labels: &str) {
        to.push("", labels.to_owned(), self.0.get() as f64);
    }
}

/// A number that comes and goes; absent until it is set.
#[derive(Debug, Default)]
pub struct Gauge(Cell<Option<f64>>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.set(Some(value));
    }

    /// Adds to it; an absent gauge counts as 0.
    pub fn add(&self, value: f64) {
        self.0.set(Some(self.0.get().unwrap_or(0.0) + value));
    }

    pub(super) fn sample(&self, to: &mut Family, labels: &str) {
        if let Some(value) = self.0.get() {
            to.push("", labels.to_owned(), value);
        }
    }
}

/// Exponential bucket bounds: `start`, `start * factor`, ..., `count` of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    /// Least bound.
    pub start: f64,
    /// Greater than 1.
    pub factor: f64,
    /// How many bounds, the infinite one not counted.
    pub count: usize,
}

impl Buckets {
    /// Multiplied step by step as Prometheus' Go client does, so that the bounds print alike.
    fn bounds(self) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(self.start), move |bound| Some(bound * self.factor)).take(self.count)
    }
}

/// How often a number fell into which range.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, ascending.
    bounds: Box<[f64]>,
    /// One more than there are bounds, for what is above them all.
    counts: Box<[Cell<u64>]>,
    sum: Cell<f64>,
}

impl Histogram {
    /// An empty one.
    pub fn new(buckets: Buckets) -> Histogram {
        Histogram::of(buckets.bounds())
    }

    /// An empty one with these upper bounds, ascending.
    pub(super) fn of(bounds: impl Iterator<Item = f64>) -> Histogram {
        let bounds: Box<[f64]> = bounds.collect();
        let counts = vec![Cell::new(0); bounds.len() + 1].into_boxed_slice();
        Histogram { bounds, counts, sum: Cell::new(0.0) }
    }

    /// Counts `value`: seconds, unless the metric's name says otherwise.
    pub fn observe(&self, value: f64) {
        let bucket = &self.counts[self.bounds.iter().take_while(|bound| **bound < value).count()];
        bucket.set(bucket.get() + 1);
        self.sum.set(self.sum.get() + value);
    }

    /// Counts a time span, in seconds.
    pub fn observe_duration(&self, span: std::time::Duration) {
        self.observe(span.as_secs_f64());
    }

    pub(super) fn sample(&self, to: &mut Family, labels: &str) {
        let mut total = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = self.bounds.iter().copied().map(go_float).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&self.counts) {
            total += count.get();
            to.push("_bucket", format!("{labels}{comma}le=\"{bound}\""), total as f64);
        }
        to.push("_sum", labels.to_owned(), self.sum.get());
        to.push("_count", labels.to_owned(), total as f64);
    }
}

/// A metric with a row for each combination of label values.
pub struct Labelled<M> {
    labels: &'static [&'static str],
    new: fn() -> M,
    rows: RefCell<BTreeMap<Vec<String>, Rc<M>>>,
}

impl<M> Labelled<M> {
    /// `labels` are names in alphabetical order.
    pub(super) fn new(labels: &'static [&'static str], new: fn() -> M) -> Labelled<M> {
        debug_assert!(labels.is_sorted(), "labels out of order: {labels:?}");
        Labelled { labels, new, rows: RefCell::new(BTreeMap::new()) }
    }

    /// The row of these values, one for each label. On a hot path keep it: finding it costs a search.
    ///
    /// After 128 rows, every new combination shares one whose labels all say `other`.
    pub fn row(&self, values: &[&str]) -> Rc<M> {
        assert_eq!(values.len(), self.labels.len(), "values {values:?} for labels {:?}", self.labels);
        let mut key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let mut rows = self.rows.borrow_mut();
        if !rows.contains_key(&key) && rows.len() >= LABELLED_ROWS_MAX {
            key = vec![OVERFLOW.to_owned(); values.len()];
        }
        Rc::clone(rows.entry(key).or_insert_with(|| Rc::new((self.new)())))
    }

    /// Every row with its labels as text.
    pub(super) fn each(&self, mut take: impl FnMut(&str, &M)) {
        for (values, row) in self.rows.borrow().iter() {
            let pairs: Vec<String> = self
                .labels
                .iter()
                .zip(values)
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            take(&pairs.join(","), row);
        }
    }
}

impl<M: fmt::Debug> fmt::Debug for Labelled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labelled").field("labels", &self.labels).field("rows", &self.rows).finish()
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::render::{Kind, Snapshot};
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(Buckets { start: 1.0, factor: 2.0, count: 3 });
        for value in [0.5, 1.0, 1.5, 4.0, 5.0] {
            histogram.observe(value);
        }
        let counts: Vec<u64> = histogram.counts.iter().map(Cell::get).collect();
        assert_eq!(counts, [2, 1, 1, 1]);
        assert_eq!(histogram.sum.get(), 12.0);
    }

    #[test]
    fn rows_are_bounded() {
        let labelled = Labelled::new(&["v"], Counter::default);
        for row in 0..LABELLED_ROWS_MAX + 50 {
            labelled.row(&[&row.to_string()]).inc();
        }
        assert_eq!(labelled.rows.borrow().len(), LABELLED_ROWS_MAX + 1);
        assert_eq!(labelled.row(&[OVERFLOW]).count(), 50);
        labelled.row(&["0"]).inc();
        assert_eq!(labelled.row(&["0"]).count(), 2);
    }

    #[test]
    fn label_values_are_escaped() {
        let labelled = Labelled::new(&["v"], Counter::default);
        labelled.row(&["a\"b\\c\nd"]).inc();
        let mut snapshot = Snapshot::default();
        labelled.each(|labels, row| row.sample(snapshot.family("m", Kind::Counter, "h"), labels));
        assert!(snapshot.render().contains("m{v=\"a\\\"b\\\\c\\nd\"} 1\n"));
    }
}
