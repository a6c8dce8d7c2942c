//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;
use impasto::Step;
use impasto::transfer::{Plan, PlannedScale};
use indicatif::{ProgressBar, ProgressStyle};

use super::console::say;
use super::describe::duration;

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows how far a run has come.
pub struct ProgressDisplay {
    plan: Plan,
    display: Display,
    /// Which the current scale is, and when it began with which step.
    scale: (usize, Instant, usize),
    /// How long an evaluation of one pixel takes, by the scale before.
    seconds_per_pixel: Option<f64>,
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
            plan,
            display,
            scale: (usize::MAX, Instant::now(), 0),
            seconds_per_pixel: None,
        }
    }

    /// Shows an evaluation.
    pub fn show<B: Backend>(&mut self, step: &Step<'_, B>) {
        if self.scale.0 != step.scale {
            self.scale = (step.scale, Instant::now(), step.iteration);
        }
        // The first evaluation of a scale only starts the clock.
        let done = step.iteration - self.scale.2;
        let spent = self.scale.1.elapsed().as_secs_f64();
        let rate = (done > 0).then(|| spent / done as f64);
        if let Some(rate) = rate {
            self.seconds_per_pixel = Some(rate / (step.width * step.height) as f64);
        }
        let message = self.message(step, rate);
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

    fn message<B: Backend>(&self, step: &Step<'_, B>, rate: Option<f64>) -> String {
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
        if let Some(rate) = rate {
            message.push_str(&format!(", {rate:.2} s/step"));
        }
        if let Some(seconds) = self.seconds_per_pixel {
            // Later scales cost as many times more as they have more pixels.
            let left = self.plan.scales[step.scale..].iter().map(|scale| {
                seconds * (scale.width * scale.height) as f64 * scale.iterations as f64
            });
            let here = (step.width * step.height) as f64 * step.iteration as f64;
            let left = left.sum::<f64>() - here * seconds;
            message.push_str(&format!(", {} left", duration(left)));
        }
        message
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
