//! A run that is watched: its curves, how far it has come, and now and then a preview.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;
use impasto::page::{self, Point, Progress, SHOWN};
use impasto::transfer::{Pace, Plan};
use impasto::{Picture, Step};

use super::ids::JobId;
use super::jobs::Jobs;

/// Least time between two messages to the page while a run is young. It grows with the time that the run has
/// taken, by this part of it and to at most so much: the picture changes less, and a browser that draws on the same
/// processor slows the painting down.
const MESSAGES: Duration = Duration::from_millis(400);
const PART: u32 = 6;
const CALM: Duration = Duration::from_secs(1);

/// How many times the time that it takes passes between two previews: they may slow the run down by so
/// little.
const SHARE: u32 = 60;

/// Tells the page of the evaluations of a run.
pub struct Watched {
    jobs: Arc<Jobs>,
    id: JobId,
    pace: Pace,
    points: Vec<Point>,
    began: Instant,
    last: Option<Instant>,
    /// When the last preview was made, and how long it took.
    preview: Option<(Instant, Duration)>,
    progress: Option<Progress>,
}

impl Watched {
    /// Watches a run, which follows this plan if that is known.
    pub fn new(jobs: Arc<Jobs>, id: JobId, plan: Option<&Plan>) -> Self {
        Self {
            jobs,
            id,
            pace: Pace::new(plan.map_or_else(Vec::new, |plan| plan.scales.clone())),
            points: Vec::new(),
            began: Instant::now(),
            last: None,
            preview: None,
            progress: None,
        }
    }

    /// Takes note of an evaluation.
    pub fn record<B: Backend>(&mut self, step: &Step<'_, B>) {
        let speed = self.pace.at(step);
        self.points.push(Point::at(step));
        self.progress = Some(Progress::at(step, speed));
        if self.last.is_none_or(|last| last.elapsed() >= self.pause()) {
            let preview = match self.is_preview_due() {
                true => self.preview_of(|| step.picture().ok()),
                false => None,
            };
            self.send(preview);
        }
    }

    /// Shows a picture, whenever the last one was.
    pub fn show(&mut self, picture: &Picture) {
        let preview = self.preview_of(|| Some(picture.clone()));
        self.send(preview);
    }

    fn send(&mut self, preview: Option<Vec<u8>>) {
        let points = std::mem::take(&mut self.points);
        let progress = self.progress.clone();
        self.jobs.step(self.id, progress, &points, preview);
        self.last = Some(Instant::now());
    }

    /// Least time between two messages by now.
    fn pause(&self) -> Duration {
        MESSAGES.max(CALM.min(self.began.elapsed() / PART))
    }

    fn is_preview_due(&self) -> bool {
        let Some((when, took)) = self.preview else {
            return true;
        };
        self.jobs.is_watched() && when.elapsed() >= SHARE * took
    }

    fn preview_of(&mut self, picture: impl FnOnce() -> Option<Picture>) -> Option<Vec<u8>> {
        let began = Instant::now();
        let preview = picture().and_then(|picture| page::preview(&picture, SHOWN).ok());
        self.preview = Some((Instant::now(), began.elapsed()));
        preview
    }

    /// Tells it that what was done before says nothing of the pace from now on, and that someone looks.
    pub fn interrupted(&mut self) {
        self.began = Instant::now();
        self.pace.interrupted();
    }
}
