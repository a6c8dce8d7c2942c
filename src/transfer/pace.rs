//! How fast a run goes, and how long it still takes.

use burn::tensor::backend::Backend;
use web_time::Instant;

use super::plan::PlannedScale;
use super::run::Step;

/// The pace of a run that is watched, to tell how long it still takes.
#[derive(Clone, Debug)]
pub struct Pace {
    scales: Vec<PlannedScale>,
    /// Which the current scale is, and when it began with which step.
    scale: (usize, Instant, usize),
    /// How long an evaluation of one pixel takes, by the scale before.
    seconds_per_pixel: Option<f64>,
}

/// What is known of it at a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Seconds for each step at this scale.
    pub step: Option<f64>,
    /// Seconds to the end.
    pub left: Option<f64>,
}

impl Pace {
    /// Of a run through these scales; without any, the time that is left is not told.
    pub fn new(scales: Vec<PlannedScale>) -> Self {
        Self {
            scales,
            scale: (usize::MAX, Instant::now(), 0),
            seconds_per_pixel: None,
        }
    }

    /// Takes note of an evaluation.
    pub fn at<B: Backend>(&mut self, step: &Step<'_, B>) -> Speed {
        if self.scale.0 != step.scale {
            self.scale = (step.scale, Instant::now(), step.iteration);
        }
        // The first evaluation of a scale only starts the clock.
        let done = step.iteration.saturating_sub(self.scale.2);
        let spent = self.scale.1.elapsed().as_secs_f64();
        let rate = (done > 0).then(|| spent / done as f64);
        if let Some(rate) = rate {
            self.seconds_per_pixel = Some(rate / (step.width * step.height) as f64);
        }
        // Later scales cost as many times more as they have more pixels.
        let rest = self.scales.get(step.scale..).unwrap_or_default();
        let seconds = self.seconds_per_pixel.filter(|_| !rest.is_empty());
        let left = seconds.map(|seconds| {
            let work = |scale: &PlannedScale| {
                (scale.width * scale.height) as f64 * scale.iterations as f64
            };
            let left: f64 = rest.iter().map(work).sum();
            let here = (step.width * step.height) as f64 * step.iteration as f64;
            seconds * (left - here)
        });
        Speed { step: rate, left }
    }

    /// Lets the clock of the current scale start anew: after a pause, or a change of what is computed.
    pub fn interrupted(&mut self) {
        self.scale.0 = usize::MAX;
    }
}
