//! What is said about a measurement: a table, and JSON.

use std::io::Write;

use serde::Serialize;

use super::check::Check;
use super::timing::Timing;
use crate::cli::args::BenchArgs;
use crate::cli::console::print;
use crate::cli::describe;
use crate::cli::device::Device;
use crate::cli::failure::Failure;
use crate::cli::json::print_json;

/// All that was found out.
#[derive(Serialize)]
pub struct Report {
    /// Version of the program.
    pub impasto: &'static str,
    /// As `--device` has it.
    pub device: String,
    pub device_name: Option<String>,
    /// Of the values on the device.
    pub precision: impasto::kernel::Precision,
    /// Name of the network.
    pub weights: &'static str,
    pub checksum: String,
    /// On the CPU.
    pub threads: usize,
    pub check: Option<Check>,
    /// Why there is no check.
    pub check_skipped: Option<&'static str>,
    pub times: Vec<Timing>,
}

impl Report {
    /// Prints the report, and writes it to the file that the arguments name.
    pub fn write(&self, args: &BenchArgs) -> Result<(), Failure> {
        match args.prints_json() {
            true => print_json(self)?,
            false => print(&self.table()),
        }
        if let Some(path) = args.json_file() {
            let text = serde_json::to_string_pretty(self).map_err(Failure::other)?;
            impasto::atomic::write(path, |file| writeln!(file, "{text}")).map_err(|error| {
                let path = path.display();
                Failure::other(format!("{path}: cannot write the result: {error}"))
            })?;
        }
        Ok(())
    }

    fn table(&self) -> String {
        [self.facts(), self.check_table(), self.times_table()].join("\n")
    }

    fn facts(&self) -> String {
        let device = match &self.device_name {
            None => self.device.clone(),
            Some(name) => format!("{} ({name})", self.device),
        };
        let weights = format!("{} (checksum {})", self.weights, self.checksum);
        let lines = [
            ("impasto", self.impasto.to_string()),
            ("device", device),
            ("precision", self.precision.to_string()),
            ("weights", weights),
            ("threads", self.threads.to_string()),
        ];
        describe::table(&lines.map(|(key, value)| (key.to_string(), value)))
    }

    fn check_table(&self) -> String {
        let Some(check) = &self.check else {
            let reason = self.check_skipped.unwrap_or("left out");
            return format!("comparison with the CPU: {reason}\n");
        };
        let mut table = row(["size", "compared with the CPU", "error", "accepted", ""]);
        for comparison in check.comparisons() {
            let limit = comparison.limit.map(|limit| format!("{limit:.1e}"));
            let verdict = match comparison.limit {
                None => "",
                Some(_) if comparison.is_accepted() => "ok",
                Some(_) => "off",
            };
            table += &row([
                &size(comparison.size),
                &comparison.what,
                &format!("{:.1e}", comparison.error),
                limit.as_deref().unwrap_or_default(),
                verdict,
            ]);
        }
        if self.device == Device::Cpu.to_string() {
            table += "This device is the CPU engine itself: all this says is that it repeats its results.\n";
        }
        table
    }

    fn times_table(&self) -> String {
        let header = [
            "size",
            "first s",
            "median s",
            "min s",
            "per s",
            "step s",
            "memory MB",
            "loss",
        ];
        let mut table = times_row(header);
        for timing in &self.times {
            let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
            let memory = timing.device_bytes.or(timing.resident_bytes).map(megabytes);
            table += &times_row([
                &size([timing.width, timing.height]),
                &format!("{:.4}", timing.first_s),
                &format!("{:.4}", timing.median_s),
                &format!("{:.4}", timing.min_s),
                &format!("{:.2}", 1.0 / timing.median_s),
                &format!("{:.4}", timing.step_median_s),
                memory.as_deref().unwrap_or("unknown"),
                &format!("{:.6e}", timing.loss),
            ]);
        }
        table
    }
}

fn size([width, height]: [usize; 2]) -> String {
    format!("{width}×{height}")
}

fn row([size, what, error, accepted, verdict]: [&str; 5]) -> String {
    let line = format!("{size:10} {what:42} {error:>8} {accepted:>9}  {verdict}");
    format!("{}\n", line.trim_end())
}

fn times_row([size, first, median, least, rate, step, memory, loss]: [&str; 8]) -> String {
    format!(
        "{size:10} {first:>9} {median:>9} {least:>9} {rate:>9} {step:>9} {memory:>10} {loss:>13}\n"
    )
}
