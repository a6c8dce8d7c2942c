//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;
use impasto::Step;
use impasto::transfer::{Pace, Plan, PlannedScale, Speed};
use indicatif::{ProgressBar, ProgressStyle};

use super::console::say;
use super::describe::duration;

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows how far a run has come.
pub struct ProgressDisplay {
    plan: Plan,
    display: Display,
    pace: Pace,
}

/// Steps of all these scales, however many a user has asked for.
fn steps(scales: &[PlannedScale]) -> u64 {
    let counts = scales.iter().map(|scale| scale.iterations as u64);
    counts.fold(0, u64::saturating_add)
}

enum Display {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Quiet,
}

impl ProgressDisplay {
    /// A display for a run that follows `plan`.
    pub fn new(plan: Plan, quiet: bool) -> Self {
        let total = steps(&plan.scales);
        let display = if quiet {
            Display::Quiet
        } else if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template("{bar:30.cyan/blue} {pos:>4}/{len} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(500));
            Display::Bar(bar)
        } else {
            Display::Lines { last: None }
        };
        Self {
            pace: Pace::new(plan.scales.clone()),
            plan,
            display,
        }
    }

    /// Shows an evaluation.
    pub fn show<B: Backend>(&mut self, step: &Step<'_, B>) {
        let speed = self.pace.at(step);
        let message = message(step, speed);
        match &mut self.display {
            Display::Bar(bar) => {
                let before = steps(&self.plan.scales[..step.scale]);
                bar.set_position(before.saturating_add(step.iteration as u64));
                bar.set_message(message);
            }
            Display::Lines { last } => {
                let end_of_scale = step.iteration == 1 || step.iteration == step.iterations;
                if end_of_scale || last.is_none_or(|last| last.elapsed() >= PAUSE) {
                    say(&message);
                    *last = Some(Instant::now());
                }
            }
            Display::Quiet => {}
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }

    /// Prints a message in any case, above the bar if there is one.
    pub fn warn(&self, message: &str) {
        match &self.display {
            Display::Bar(bar) => bar.println(message),
            _ => say(message),
        }
    }
}

fn message<B: Backend>(step: &Step<'_, B>, speed: Speed) -> String {
    let mut message = format!(
        "scale {}/{} {}×{}, step {}/{}, {}",
        step.scale + 1,
        step.scales,
        step.width,
        step.height,
        step.iteration,
        step.iterations,
        step.losses
    );
    if let Some(seconds) = speed.step {
        message.push_str(&format!(", {seconds:.2} s/step"));
    }
    if let Some(seconds) = speed.left {
        message.push_str(&format!(", {} left", duration(seconds)));
    }
    message
}
