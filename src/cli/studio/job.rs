//! A job: what is known of it, and what it was told.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use impasto::page::{Point, Progress};
use serde::{Deserialize, Serialize};

use super::ids::JobId;
use super::settings::Settings;

/// The most points of a job's curves; of more, every second one is left out.
pub const POINTS: usize = 2000;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Queued,
    Painting,
    /// Its state is in a file, and others are painted meanwhile.
    Paused,
    Done,
    /// Finished before its last step.
    Stopped,
    Failed,
}

/// What is known of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    pub id: JobId,
    /// What the picture is painted from; of a command that is only shown, nothing is known.
    pub settings: Option<Settings>,
    pub title: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Those that wait are painted in this order.
    pub place: i64,
    pub status: Status,
    /// What went wrong, or what there is to say.
    pub message: Option<String>,
    /// The command that paints the same, if nobody steered.
    pub command: String,
    /// What was changed while it was painted.
    pub steering: Vec<Steered>,
    /// Whether it shall be finished as it stands when its turn comes.
    #[serde(default)]
    pub finish: bool,
    pub progress: Option<Progress>,
}

/// A change of the settings of a job while it was painted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Steered {
    /// After how many evaluations.
    pub evaluation: usize,
    /// From then on.
    pub settings: Settings,
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub facts: Facts,
    pub curves: Vec<Point>,
    /// A JPEG.
    #[serde(skip)]
    pub preview: Option<Arc<[u8]>>,
    /// The number of the preview: another one is another picture.
    #[serde(skip)]
    pub version: u64,
    #[serde(skip)]
    pub wishes: Wishes,
}

/// What the page tells a job.
#[derive(Clone, Debug)]
pub enum Order {
    Pause,
    /// Also to try again.
    Continue,
    Finish,
    Steer(Box<Settings>),
    Remove,
}

/// What a job that is painted was told and has not done yet.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The last settings have all that those before had.
    pub steer: Option<Settings>,
    pub leave: Option<Leave>,
}

/// How to leave a job. A later one goes further than those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leave {
    Pause,
    Finish,
    Remove,
}

impl Job {
    /// A new job, which waits.
    pub fn new(id: JobId, settings: Option<Settings>, title: String, command: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            facts: Facts {
                id,
                settings,
                title,
                created: now.map_or(0, |now| now.as_secs()),
                place: id as i64,
                status: Status::Queued,
                message: None,
                command,
                steering: Vec::new(),
                finish: false,
                progress: None,
            },
            curves: Vec::new(),
            preview: None,
            version: 0,
            wishes: Wishes::default(),
        }
    }

    /// Takes note of a change of the settings.
    pub fn steer(&mut self, settings: Settings) {
        let progress = self.facts.progress.as_ref();
        self.facts.steering.push(Steered {
            evaluation: progress.map_or(0, |progress| progress.evaluation),
            settings,
        });
    }

    /// Adds points to the curves.
    pub fn add_points(&mut self, points: &[Point]) {
        self.curves.extend(points.iter().cloned());
        if self.curves.len() > POINTS {
            let mut index = 0;
            self.curves.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }
}
