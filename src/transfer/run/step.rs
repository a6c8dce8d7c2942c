//! A step of the optimiser, and the evaluations it is made of.

use std::ops::ControlFlow;
use std::time::Duration;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::state::{Run, ScaleState};
use crate::kernel::AutodiffStyleBackend;
use crate::loss::LossValues;
use crate::optim::{Evaluation, Optimizer};
use crate::picture::{ColorTransfer, Picture, PictureError};
use crate::transfer::error::TransferError;

/// An evaluation of loss and gradient in the course of a run.
#[derive(Debug)]
pub struct Step<'a, B: Backend> {
    /// Index of the scale, from 0.
    pub scale: usize,
    /// How many scales there are.
    pub scales: usize,
    /// Width of the image in pixels.
    pub width: usize,
    /// Height of the image in pixels.
    pub height: usize,
    /// Which step of the optimiser at this scale, from 1.
    pub iteration: usize,
    /// How many steps the optimiser takes at this scale.
    pub iterations: usize,
    /// How many evaluations there have been in the run, with this one. More than iterations where
    /// the optimiser searches along a line.
    pub evaluation: usize,
    /// The loss of the image, before it is improved.
    pub losses: &'a LossValues,
    /// Time since the run began.
    pub elapsed: Duration,
    image: &'a Tensor<B, 4>,
    restore: Restore<'a>,
}

impl<B: Backend> Step<'_, B> {
    /// The image that was evaluated, with the colours that the recipe gives it, and with alpha, ICC
    /// profile and depth of the content picture.
    ///
    /// # Errors
    /// [`PictureError`] if the image is no picture, which does not happen in a run.
    pub fn picture(&self) -> Result<Picture, PictureError> {
        self.restore.picture(self.image.clone())
    }
}

/// From images to pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restore<'a> {
    pub colors: ColorTransfer,
    pub content: &'a Picture,
}

impl Restore<'_> {
    pub fn picture<B: Backend>(self, image: Tensor<B, 4>) -> Result<Picture, PictureError> {
        Ok(self.finish(Picture::from_tensor(image)?))
    }

    /// The colours that the recipe gives it, and what belongs to the content's file.
    pub fn finish(self, picture: Picture) -> Picture {
        let picture = self.colors.restore(picture, self.content);
        picture.with_attributes_of(self.content)
    }
}

/// Why a step of the optimiser was not completed.
pub(super) enum Interruption {
    Stopped,
    Diverged(LossValues),
    Failed(TransferError),
}

impl<B: AutodiffStyleBackend> Run<B> {
    /// The variables after one more step.
    pub(super) fn take_step(
        &mut self,
        scale: &mut ScaleState<B>,
        on_evaluation: &mut impl FnMut(&Step<'_, B::InnerBackend>) -> ControlFlow<()>,
    ) -> Result<Tensor<B::InnerBackend, 4>, Interruption> {
        self.attempted = self.evaluations;
        let ScaleState {
            evaluator,
            map,
            progress,
        } = scale;
        let planned = self.setup.plan.scales[progress.index];
        let (variables, iteration) = (progress.variables.clone(), progress.done + 1);
        evaluator.begin_step(progress.done);
        let sampled = evaluator.loss().is_sampled();
        let mut searching = false;
        progress.optimizer.step(variables, |candidate| {
            let image = map.image(candidate.clone());
            let found = evaluator.evaluate(&image);
            let found = found.map_err(|error| Interruption::Failed(error.into()))?;
            let losses = found.losses;
            self.attempted += 1;
            let loss = losses.weighted();
            let trial = std::mem::replace(&mut searching, true);
            if !loss.is_finite() {
                // A trial of the line search that went too far: it will come back.
                return match trial {
                    true => Ok(Evaluation {
                        loss: f64::INFINITY,
                        gradient: candidate.zeros_like(),
                    }),
                    false => Err(Interruption::Diverged(losses)),
                };
            }
            if loss < progress.best.0 || sampled {
                progress.best = (loss, candidate.clone());
            }
            let step = Step {
                scale: progress.index,
                scales: self.setup.plan.scales.len(),
                width: planned.width,
                height: planned.height,
                iteration,
                iterations: planned.iterations,
                evaluation: self.attempted,
                losses: &losses,
                elapsed: self.elapsed(),
                image: &image,
                restore: self.restore(),
            };
            let flow = self.request.agree(on_evaluation(&step));
            let flow = flow.map_err(|error| Interruption::Failed(error.into()))?;
            self.losses = Some(losses);
            match flow {
                ControlFlow::Break(()) => Err(Interruption::Stopped),
                ControlFlow::Continue(()) => Ok(Evaluation {
                    loss,
                    gradient: map.gradient(found.gradient),
                }),
            }
        })
    }
}
