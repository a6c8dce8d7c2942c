//! Progress of a download on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use impasto::pretrained::DownloadProgress;
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use super::console::say;
use super::failure::describe_error;

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows how far a download has come.
pub struct DownloadDisplay {
    bar: Option<ProgressBar>,
    last: Option<Instant>,
    quiet: bool,
    waiting: bool,
}

impl DownloadDisplay {
    /// A display that `quiet` silences.
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let template =
                "{bar:30.cyan/blue} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left {wide_msg}";
            let style = ProgressStyle::with_template(template);
            ProgressBar::no_length()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            last: None,
            quiet,
            waiting: false,
        }
    }

    /// Shows what the download reports.
    pub fn show(&mut self, progress: &DownloadProgress) {
        match progress {
            DownloadProgress::Fetching { done, total, .. } => match &self.bar {
                Some(bar) => {
                    if let Some(total) = total {
                        bar.set_length(*total);
                    }
                    if bar.position() == 0 {
                        // What an earlier call fetched says nothing of the speed.
                        bar.reset_eta();
                    }
                    bar.set_position(*done);
                }
                None if self.last.is_none_or(|last| last.elapsed() >= PAUSE) => {
                    let total = total.map(|total| format!(" of {}", DecimalBytes(total)));
                    self.say(&format!(
                        "{}{}",
                        DecimalBytes(*done),
                        total.unwrap_or_default()
                    ));
                    self.last = Some(Instant::now());
                }
                None => {}
            },
            DownloadProgress::Waiting if !self.waiting => {
                self.waiting = true;
                self.say("Waiting for another process that fetches the same weights.");
            }
            DownloadProgress::Retrying { error, pause } => self.say(&format!(
                "{}; again in {:.0} s",
                describe_error(error),
                pause.as_secs_f64().ceil()
            )),
            DownloadProgress::NextMirror { error } => {
                self.say(&format!(
                    "{}; trying the next address",
                    describe_error(error)
                ));
            }
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if !self.quiet => say(text),
            None => {}
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
