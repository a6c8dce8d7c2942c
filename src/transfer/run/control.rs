//! What the owner of a run can do with it.

use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::time::Duration;

use burn::tensor::{Tensor, TensorData};

use super::outcome::{End, Outcome, Status, StepReport};
use super::state::{Run, ScaleProgress, Setup};
use super::step::{Interruption, Restore, Step};
use crate::kernel::AutodiffStyleBackend;
use crate::optim::{Optimizer, Variables};
use crate::picture::Picture;
use crate::transfer::checkpoint::{Checkpoint, CheckpointError, to_data};
use crate::transfer::ema::Ema;
use crate::transfer::error::TransferError;
use crate::transfer::plan::Plan;
use crate::transfer::provenance::{EncoderInfo, Provenance, StyleInfo, size_of, without_prose};
use crate::transfer::recipe::{Neighbors, Recipe};
use crate::transfer::request::Request;

impl<B: AutodiffStyleBackend> Run<B> {
    pub(in crate::transfer) fn new(mut request: Request<B>) -> Result<Self, TransferError> {
        let checkpoint = request.resume.take();
        let fingerprint = OnceCell::new();
        if let Some(checkpoint) = &checkpoint
            && !checkpoint.belongs_to(*fingerprint.get_or_init(|| request.fingerprint()))
        {
            return Err(CheckpointError::OtherRun.into());
        }
        let content = request.content()?;
        let recipe = match &checkpoint {
            // It may have been changed during the run.
            Some(checkpoint) => checkpoint.recipe.clone(),
            None => request.recipe.clone().sized_for(content),
        };
        if let Some(checkpoint) = &checkpoint {
            request.computations = checkpoint.computations.clone();
            request.set_style_weights(&checkpoint.style_weights)?;
        }
        request.share_memory_limit()?;
        let plan = request.plan(&recipe)?;
        if request.communicator.is_some() {
            let asked = *fingerprint.get_or_init(|| request.fingerprint());
            let begun = checkpoint
                .as_ref()
                .map(|state| (state.scale, state.iterations));
            request.check_ranks(&(asked, &plan, begun))?;
        }
        // They stay what they are, also if the recipe is changed.
        request.computations = plan.computations();
        let evaluations = checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.evaluations);
        let before = checkpoint.as_ref().map_or(Duration::ZERO, |c| c.elapsed);
        let resume = checkpoint.map(|checkpoint| resumed(&request, &plan, checkpoint));
        Ok(Self {
            resume: resume.transpose()?,
            setup: Setup::new(&request, recipe, plan)?,
            fingerprint,
            scale: None,
            coarser: None,
            carried: None,
            end: None,
            evaluations,
            attempted: evaluations,
            losses: None,
            began: None,
            before,
            request,
        })
    }

    /// What the run does.
    pub fn plan(&self) -> &Plan {
        &self.setup.plan
    }

    /// The recipe in force, with the size that it gives to the content picture.
    pub fn recipe(&self) -> &Recipe {
        &self.setup.recipe
    }

    /// How many evaluations of loss and gradient there have been in completed steps.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// How the picture is made that the run is to end with, as far as that is known: its size, and the
    /// recipe in force, but no more evaluations than there have been. See
    /// [`Provenance::at_step`] for the pictures on the way and [`Outcome::provenance`] for the last.
    pub fn provenance(&self) -> Provenance {
        let last = self.setup.plan.scales.last();
        let request = &self.request;
        Provenance {
            version: env!("CARGO_PKG_VERSION").to_string(),
            recipe: without_prose(&self.setup.recipe),
            seed: request.seed,
            encoder: EncoderInfo::new(&request.encoder),
            width: last.map_or(0, |scale| scale.width),
            height: last.map_or(0, |scale| scale.height),
            evaluations: self.evaluations,
            finished: self.end == Some(End::Finished),
            content: request.content.as_ref().map_or([0; 2], size_of),
            styles: request.styles.iter().map(StyleInfo::new).collect(),
            start_picture: request.start.is_some(),
            tile_size: last.and_then(|scale| scale.computation.tile_size),
            own_terms: request.own_terms.count,
        }
    }

    /// Takes one step of the optimiser: most often one evaluation of loss and gradient, several where
    /// it searches along a line. The first step of a scale begins it, which computes its targets.
    ///
    /// # Errors
    /// [`TransferError`] if a scale cannot begin or be evaluated; a loss that is no longer a number is
    /// no error, see [`End::Diverged`].
    pub fn step(&mut self) -> Result<Status, TransferError> {
        self.step_with(|_| ControlFlow::Continue(()))
    }

    /// The same, and calls back at each evaluation. `ControlFlow::Break` undoes the step and gives
    /// [`Status::Stopped`]; the next call takes it again.
    ///
    /// # Errors
    /// See [`step`](Self::step).
    pub fn step_with(
        &mut self,
        mut on_evaluation: impl FnMut(&Step<'_, B::InnerBackend>) -> ControlFlow<()>,
    ) -> Result<Status, TransferError> {
        match self.advance() {
            Ok(Some(end)) => return Ok(Status::Ended(end)),
            Ok(None) => {}
            Err(error) if error.is_cancelled() => return Ok(Status::Stopped),
            Err(error) => return Err(error),
        }
        let mut scale = self.scale.take().expect("a scale is under way");
        let taken = self.take_step(&mut scale, &mut on_evaluation);
        let progress = &mut self.scale.insert(scale).progress;
        match taken {
            Ok(variables) => {
                progress.variables = variables;
                progress.done += 1;
                if !progress.optimizer.converged() {
                    let ema = progress.ema.take();
                    progress.ema = ema.map(|ema| ema.with(progress.variables.clone()));
                }
                self.evaluations = self.attempted;
                match self.report() {
                    Ok(report) => Ok(Status::Running(report)),
                    Err(error) if error.is_cancelled() => Ok(Status::Stopped),
                    Err(error) => Err(error),
                }
            }
            Err(Interruption::Stopped) => Ok(Status::Stopped),
            Err(Interruption::Failed(error)) if error.is_cancelled() => Ok(Status::Stopped),
            Err(Interruption::Failed(error)) => Err(error),
            Err(Interruption::Diverged(losses)) => {
                let (index, evaluation) = (progress.index, self.attempted);
                let best = progress.best.1.clone();
                let end = End::Diverged { losses, evaluation };
                self.leave_scale(index, best, Some(end.clone()))?;
                Ok(Status::Ended(end))
            }
        }
    }

    /// The picture as it stands: after the last step, or the mean under a recipe with averaging, with
    /// the colours that the recipe gives it.
    ///
    /// # Errors
    /// [`TransferError::Picture`], which does not happen in a run.
    pub fn picture(&self) -> Result<Picture, TransferError> {
        let image = match (self.progress(), &self.coarser) {
            (Some(progress), _) => {
                let variables = progress.mean_or(&progress.variables);
                self.variables(progress.index).image(variables)
            }
            (None, Some((_, picture))) => return Ok(self.restore().finish(picture.clone())),
            (None, None) => self.start_of(0),
        };
        Ok(self.restore().picture(image)?)
    }

    /// How far the current scale has come: the one under way, or the one to go on with.
    fn progress(&self) -> Option<&ScaleProgress<B::InnerBackend>> {
        let scale = self.scale.as_ref().map(|scale| &scale.progress);
        scale.or(self.resume.as_ref())
    }

    /// The state of the run between two steps, to [`resume`](super::super::StyleTransfer::resume) from.
    /// `None` before the first step of a run that was not resumed, and after the end, when there is
    /// nothing to go on from.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let progress = self.progress()?;
        Some(Checkpoint {
            scale: progress.index,
            iterations: progress.done,
            evaluations: self.evaluations,
            elapsed: self.elapsed(),
            fingerprint: *self.fingerprint.get_or_init(|| self.request.fingerprint()),
            recipe: self.setup.recipe.clone(),
            style_weights: self.request.style_weights(),
            computations: self.setup.plan.computations(),
            best: (progress.best.0, to_data(progress.best.1.clone())),
            start: to_data(self.started_from(progress)),
            variables: to_data(progress.variables.clone()),
            average: progress.ema.as_ref().map(|ema| {
                let (decay_power, sum) = ema.parts();
                (decay_power, to_data(sum))
            }),
            optimizer: progress.optimizer.state().map(to_data),
            note: String::new(),
        })
    }

    /// Changes the recipe for the steps to come. The size of the result, its scales, whether there is a
    /// last pass, the range of the values, the pyramid and the start cannot be changed, everything else
    /// can. If anything but the number of steps
    /// changes, the optimiser's history, the best loss and the mean image start anew. A checkpoint keeps
    /// the change.
    ///
    /// # Errors
    /// [`TransferError`] for a recipe that makes no sense with the run's pictures and encoder, that
    /// changes what is fixed, or for a run that has ended. The run then goes on as before; only terms of
    /// one's own that were told of the change before another one refused it keep what they made of it.
    pub fn set_recipe(&mut self, recipe: Recipe) -> Result<(), TransferError> {
        if self.end.is_some() {
            let name = "the recipe of a run that has ended";
            return Err(TransferError::FixedSetting { name });
        }
        let recipe = recipe.sized_for(self.request.content()?);
        for (name, same) in self.setup.recipe.fixed_settings(&recipe) {
            if !same {
                return Err(TransferError::FixedSetting { name });
            }
        }
        let plan = self.request.plan(&recipe)?;
        let sizes = |plan: &Plan| -> Vec<usize> { plan.scales.iter().map(|s| s.size).collect() };
        if sizes(&plan) != sizes(&self.setup.plan) {
            let name = "the set of scales, of which these layers or style sizes need larger ones,";
            return Err(TransferError::FixedSetting { name });
        }
        let only_steps = Recipe {
            neighbors: Neighbors {
                final_iterations: recipe.neighbors.final_iterations,
                ..self.setup.recipe.neighbors.clone()
            },
            iterations: recipe.iterations,
            coarse_iterations: recipe.coarse_iterations.clone(),
            name: recipe.name.clone(),
            source: recipe.source.clone(),
            ..self.setup.recipe.clone()
        } == recipe;
        if only_steps {
            (self.setup.recipe, self.setup.plan) = (recipe, plan);
            return Ok(());
        }
        let setup = Setup::new(&self.request, recipe, plan)?;
        self.keep_start();
        let before = std::mem::replace(&mut self.setup, setup);
        let restarted = self.restart_scale();
        if restarted.is_err() {
            self.setup = before;
        }
        restarted
    }

    /// Changes how much each style counts, in their order, for the steps to come. The optimiser's history,
    /// the best loss and the mean image start anew. A checkpoint keeps the change.
    ///
    /// # Errors
    /// [`TransferError::StyleWeights`] for another number of weights than there are styles, or for weights
    /// that cannot be normalised; [`TransferError`] where the targets cannot be computed, or for a run that
    /// has ended. The run then goes on as before.
    pub fn set_style_weights(&mut self, weights: &[f64]) -> Result<(), TransferError> {
        if self.end.is_some() {
            let name = "the styles of a run that has ended";
            return Err(TransferError::FixedSetting { name });
        }
        let before = self.request.style_weights();
        if before == weights {
            return Ok(());
        }
        // Of what the run was asked for.
        self.fingerprint.get_or_init(|| self.request.fingerprint());
        // Those of scales that have begun are gone.
        let guides = self.request.guides(&self.setup.recipe, &self.setup.plan)?;
        self.request.set_style_weights(weights)?;
        self.keep_start();
        let guides = std::mem::replace(&mut self.setup.guides, guides);
        let restarted = self.restart_scale();
        if restarted.is_err() {
            self.setup.guides = guides;
            self.request.set_style_weights(&before)?;
        }
        restarted
    }

    /// Keeps the image that the current scale started from, as the recipe has had it so far.
    fn keep_start(&mut self) {
        let start = self.progress().map(|progress| self.started_from(progress));
        let scale = self.scale.as_mut().map(|scale| &mut scale.progress);
        if let Some(progress) = scale.or(self.resume.as_mut()) {
            progress.start = start;
        }
    }

    /// Ends the run, even if it has steps left.
    ///
    /// # Errors
    /// See [`step`](Self::step).
    pub fn finish(mut self) -> Result<Outcome, TransferError> {
        let complete = |run: &Self| run.progress().is_some_and(|p| run.is_complete(p));
        if self.end.is_none() && complete(&self) {
            if self.scale.is_none() {
                self.begin_scale()?;
            }
            match self.finish_scale() {
                // What there is, then.
                Err(error) if error.is_cancelled() => {}
                finished => finished?,
            }
        }
        let picture = match self.progress() {
            Some(progress) => {
                let variables = progress.mean_or(&progress.best.1);
                let image = self.variables(progress.index).image(variables);
                self.restore().picture(image)?
            }
            None => self.picture()?,
        };
        let end = self.end.clone().unwrap_or(End::Stopped);
        Ok(Outcome {
            provenance: Provenance {
                width: picture.width(),
                height: picture.height(),
                evaluations: self.attempted,
                finished: end == End::Finished,
                ..self.provenance()
            },
            picture,
            end,
            losses: self.losses.take(),
            evaluations: self.attempted,
            elapsed: self.elapsed(),
        })
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.before + self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    pub(super) fn restore(&self) -> Restore<'_> {
        Restore {
            colors: self.setup.recipe.colors,
            // A run without content is not planned.
            content: self.request.content.as_ref().unwrap_or(&self.setup.content),
        }
    }

    fn report(&self) -> Result<StepReport, TransferError> {
        let scale = self.scale.as_ref().expect("a scale is under way");
        let progress = &scale.progress;
        let losses = match &self.losses {
            Some(losses) => losses.clone(),
            // Resumed with an evaluation at hand that was enough.
            None => {
                let image = scale.map.image(progress.variables.clone());
                scale.evaluator.loss_only(&image)?
            }
        };
        Ok(StepReport {
            scale: progress.index,
            iteration: progress.done,
            iterations: self.setup.plan.scales[progress.index].iterations,
            evaluations: self.evaluations,
            losses,
        })
    }
}

/// The state that a checkpoint holds.
fn resumed<B: AutodiffStyleBackend>(
    request: &Request<B>,
    plan: &Plan,
    checkpoint: Checkpoint,
) -> Result<ScaleProgress<B::InnerBackend>, CheckpointError> {
    let scale = plan.scales.get(checkpoint.scale);
    let scale = scale.ok_or(CheckpointError::OtherRun)?;
    let device = request.encoder.device();
    let (size, recipe) = ([scale.height, scale.width], &checkpoint.recipe);
    let variables = Variables::<B::InnerBackend>::new(size, recipe.pyramid, recipe.range, &device);
    if !checkpoint.fits([1, 3, scale.height, scale.width], variables.shape()) {
        return Err(CheckpointError::OtherRun);
    }
    let tensor = |data: TensorData| Tensor::from_data(data, &device);
    let mut optimizer = plan.optimizer_at(recipe, checkpoint.scale).init();
    optimizer
        .restore(checkpoint.optimizer.map(tensor))
        .map_err(|_| CheckpointError::OtherRun)?;
    let average = checkpoint.recipe.averaging.zip(checkpoint.average);
    Ok(ScaleProgress {
        index: checkpoint.scale,
        optimizer,
        start: Some(tensor(checkpoint.start)),
        variables: tensor(checkpoint.variables),
        best: (checkpoint.best.0, tensor(checkpoint.best.1)),
        ema: average.map(|(decay, (power, sum))| Ema::restore(decay, power, tensor(sum))),
        done: checkpoint.iterations,
    })
}
