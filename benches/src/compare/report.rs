//! Medians over the rounds, as a table for people and as CSV.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kontiki_tests::server::Binary;

use super::host;
use super::scenario::Options;

/// One scenario on one server in one round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Operations a second.
    pub rate: f64,
    /// Latencies, if the driver measures them.
    pub p50: Option<Duration>,
    /// See `p50`.
    pub p99: Option<Duration>,
    /// Server CPU an operation, in microseconds.
    pub cpu_us: f64,
    /// Disk flushes an operation.
    pub flushes: f64,
    /// Share of CPU time stolen by the hypervisor.
    pub steal: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:9.0}/s  p50 {} ms  p99 {} ms  {:7.2} us CPU  {:.4} flushes  {:4.1} % stolen",
            self.rate,
            ms(self.p50),
            ms(self.p99),
            self.cpu_us,
            self.flushes,
            self.steal * 100.0
        )
    }
}

fn ms(latency: Option<Duration>) -> String {
    latency.map_or_else(|| "-".into(), |latency| format!("{:.3}", latency.as_secs_f64() * 1e3))
}

/// All samples in the order of the runs.
#[derive(Debug, Default)]
pub struct Results {
    samples: Vec<(&'static str, String, Sample)>,
}

impl Results {
    /// Adds one.
    pub(super) fn add(&mut self, scenario: &'static str, server: &str, sample: Sample) {
        self.samples.push((scenario, server.to_owned(), sample));
    }

    /// The median of each number, for each scenario and server in the order of their first run.
    fn medians(&self) -> Vec<(&'static str, &str, Sample)> {
        let mut order: Vec<(&'static str, &str)> = Vec::new();
        for (scenario, server, _) in &self.samples {
            if !order.contains(&(*scenario, server.as_str())) {
                order.push((scenario, server));
            }
        }
        // Servers of a scenario side by side.
        let mut scenarios = order.iter().map(|(scenario, _)| *scenario).collect::<Vec<_>>();
        scenarios.dedup();
        order.sort_by_key(|(scenario, _)| scenarios.iter().position(|known| known == scenario));
        order
            .into_iter()
            .map(|(scenario, server)| (scenario, server, self.median(scenario, server)))
            .collect()
    }

    fn median(&self, scenario: &str, server: &str) -> Sample {
        let samples = self.samples.iter().filter(|(s, b, _)| *s == scenario && b == server);
        let samples = samples.map(|(_, _, sample)| *sample).collect::<Vec<_>>();
        let of = |number: fn(&Sample) -> f64| median(samples.iter().map(number).collect());
        let latency = |number: fn(&Sample) -> Option<Duration>| {
            let known =
                samples.iter().filter_map(number).map(|latency| latency.as_secs_f64()).collect::<Vec<_>>();
            (!known.is_empty()).then(|| Duration::from_secs_f64(median(known)))
        };
        Sample {
            rate: of(|sample| sample.rate),
            p50: latency(|sample| sample.p50),
            p99: latency(|sample| sample.p99),
            cpu_us: of(|sample| sample.cpu_us),
            flushes: of(|sample| sample.flushes),
            steal: of(|sample| sample.steal),
        }
    }
}

/// The upper one of an even number; 0 of none.
pub(super) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// Writes `<date>-<host>.md` and `.csv` into `folder`, with the label before the dot if there is one; gives the first
/// one's path.
pub fn write_report(
    folder: &Path,
    data: &Path,
    servers: &[Binary],
    options: &Options,
    results: &Results,
) -> io::Result<PathBuf> {
    let page = markdown(data, servers, options, results);
    write_pair(folder, options.label.as_deref(), &page, &csv(results))
}

/// Both files of a report.
pub(super) fn write_pair(folder: &Path, label: Option<&str>, page: &str, csv: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let label = label.map(|label| format!("-{label}")).unwrap_or_default();
    let stem = format!("{}-{}{label}", host::date(), host::name());
    let path = folder.join(format!("{stem}.md"));
    fs::write(&path, page)?;
    fs::write(folder.join(format!("{stem}.csv")), csv)?;
    Ok(path)
}

/// The title and where the numbers come from.
pub(super) fn heading(title: &str, data: &Path, servers: &[Binary]) -> String {
    let mut text = format!("# {title}, {}\n\n", host::date());
    for (name, value) in host::facts(data) {
        text += &format!("- {name}: {value}\n");
    }
    for server in servers {
        text += &format!("- {}: {}\n", server.name, host::version(&server.path));
    }
    text
}

fn markdown(data: &Path, servers: &[Binary], options: &Options, results: &Results) -> String {
    let mut text = heading("Servers by turns on one disk", data, servers);
    text += &format!(
        "- {} rounds, {} s a scenario, {} keys of 16 bytes, values of {} bytes; medians over the rounds\n\n",
        options.rounds,
        options.duration.as_secs_f64(),
        options.keys,
        options.value_len
    );
    text += "| scenario | server | ops/s | p50 ms | p99 ms | server CPU us/op | flushes/op | steal % |\n";
    text += "|---|---|---:|---:|---:|---:|---:|---:|\n";
    for (scenario, server, sample) in results.medians() {
        text += &format!(
            "| {scenario} | {server} | {:.0} | {} | {} | {:.2} | {:.4} | {:.1} |\n",
            sample.rate,
            ms(sample.p50),
            ms(sample.p99),
            sample.cpu_us,
            sample.flushes,
            sample.steal * 100.0
        );
    }
    text
}

fn csv(results: &Results) -> String {
    let mut text = "scenario,server,rate,p50_ms,p99_ms,cpu_us,flushes,steal\n".to_owned();
    for (scenario, server, sample) in &results.samples {
        let Sample { rate, p50, p99, cpu_us, flushes, steal } = sample;
        text += &format!(
            "\"{scenario}\",{server},{rate:.1},{},{},{cpu_us:.3},{flushes:.5},{steal:.4}\n",
            ms(*p50),
            ms(*p99)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_per_scenario_and_server() {
        let mut results = Results::default();
        for (server, rate) in [("a", 1.0), ("b", 10.0), ("a", 3.0), ("b", 30.0), ("a", 2.0), ("b", 20.0)] {
            results.add("put", server, Sample { rate, ..Sample::default() });
        }
        let medians = results.medians();
        let rates = medians.iter().map(|(_, server, sample)| (*server, sample.rate)).collect::<Vec<_>>();
        assert_eq!(rates, [("a", 2.0), ("b", 20.0)]);
        assert!(csv(&results).starts_with("scenario,server"));
        assert_eq!(csv(&results).lines().count(), 7);
    }
}
