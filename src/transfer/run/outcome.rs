//! The results of a step and of a run.

use std::time::Duration;

use crate::loss::LossValues;
use crate::picture::Picture;
use crate::transfer::provenance::Provenance;

/// The result of one step of the optimiser.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Index of the scale, from 0.
    pub scale: usize,
    /// Which step of the optimiser at this scale, from 1.
    pub iteration: usize,
    /// How many steps the optimiser takes at this scale.
    pub iterations: usize,
    /// How many evaluations there have been in the run.
    pub evaluations: usize,
    /// The losses at the last evaluation of the step.
    pub losses: LossValues,
}

/// Where a run stands after [`Run::step`](super::Run::step).
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// A step was taken.
    Running(StepReport),
    /// The step was stopped and undone; the next call takes it again.
    Stopped,
    /// The run has ended, no step was taken.
    Ended(End),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// All steps were taken, or the optimiser found nothing left to improve.
    Finished,
    /// The run was stopped before its last step.
    Stopped,
    /// The loss became NaN or infinite.
    Diverged {
        /// The values at that point.
        losses: LossValues,
        /// Which evaluation it was.
        evaluation: usize,
    },
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The result: the picture after the last step, or the one of least loss at the last scale if
    /// that is better, or if the run was stopped or diverged. Under a recipe with
    /// [`averaging`](crate::Recipe::averaging), the mean picture, unless the run diverged.
    pub picture: Picture,
    /// How the run ended.
    pub end: End,
    /// The losses at the last evaluation that had finite values.
    pub losses: Option<LossValues>,
    /// How many evaluations of loss and gradient there were.
    pub evaluations: usize,
    /// How long the run took.
    pub elapsed: Duration,
    /// How the picture was made. [`Picture::with_metadata`] has it written into the picture's file.
    pub provenance: Provenance,
}
