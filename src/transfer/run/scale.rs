//! From scale to scale: where each begins, what it minimises, and what comes of it.

use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use web_time::Instant;

use super::outcome::End;
use super::state::{Run, ScaleProgress, ScaleState};
use crate::encoder::Vgg19;
use crate::eval::Evaluator;
use crate::kernel::{self, AutodiffStyleBackend};
use crate::loss::{Loss, ScaleView};
use crate::optim::{AnyOptimizer, Optimizer, OptimizerConfig, Variables, finest_band};
use crate::picture::Picture;
use crate::transfer::error::TransferError;
use crate::transfer::objective::ScaleInputs;
use crate::transfer::plan::PlannedScale;
use crate::transfer::recipe::Init;

impl<B: AutodiffStyleBackend> Run<B> {
    /// Leaves scales whose steps are all taken, and begins the next. Afterwards a scale is under way,
    /// or the run has ended.
    pub(super) fn advance(&mut self) -> Result<Option<End>, TransferError> {
        loop {
            if let Some(end) = &self.end {
                return Ok(Some(end.clone()));
            }
            match &self.scale {
                Some(scale) if !self.is_complete(&scale.progress) => return Ok(None),
                _ => self.advance_once()?,
            }
        }
    }

    pub(super) fn advance_once(&mut self) -> Result<(), TransferError> {
        match self.scale {
            Some(_) => self.finish_scale(),
            None => self.begin_scale(),
        }
    }

    pub(super) fn is_complete(&self, progress: &ScaleProgress<B::InnerBackend>) -> bool {
        let planned = self.setup.plan.scales[progress.index].iterations;
        progress.done >= planned || progress.optimizer.converged()
    }

    pub(super) fn begin_scale(&mut self) -> Result<(), TransferError> {
        if self.began.is_none() {
            self.began = Some(Instant::now());
            self.request.cache.begin_run();
        }
        // Nothing is taken before the evaluator is made, which may fail.
        let (evaluator, progress) = match self.resume.take() {
            Some(progress) => {
                let start = self.started_from(&progress);
                match self.evaluator(progress.index, &start) {
                    Ok(evaluator) => (evaluator, progress),
                    Err(error) => {
                        self.resume = Some(progress);
                        return Err(error);
                    }
                }
            }
            None => {
                let index = self.coarser.as_ref().map_or(0, |(index, _)| index + 1);
                let start = self.start_of(index);
                let evaluator = self.evaluator(index, &start)?;
                let PlannedScale { width, height, .. } = self.setup.plan.scales[index];
                let carried = self.carried.take();
                let optimizer = match carried {
                    Some(optimizer) => optimizer.resized(width, height),
                    None => self.optimizer_at(index).init(),
                };
                let variables = self.variables(index).of(start);
                let recipe = &self.setup.recipe;
                let progress = ScaleProgress::new(recipe, index, optimizer, None, variables);
                (evaluator, progress)
            }
        };
        self.setup.guides[progress.index].clear();
        // What the targets needed has other sizes than what the steps will need.
        kernel::release_idle_memory();
        self.scale = Some(ScaleState {
            evaluator,
            map: self.variables(progress.index),
            progress,
        });
        Ok(())
    }

    /// Ends a scale whose steps are all taken with its last image, its best or its mean.
    pub(super) fn finish_scale(&mut self) -> Result<(), TransferError> {
        let scale = self.scale.as_ref().expect("a scale is under way");
        let progress = &scale.progress;
        let (index, averaged) = (progress.index, progress.ema.is_some());
        let variables = progress.mean_or(&progress.variables);
        if progress.optimizer.converged() {
            return self.leave_scale(index, variables, None);
        }
        // The last step has not been evaluated, and without a line search it may have gone too far.
        let losses = scale
            .evaluator
            .loss_only(&scale.map.image(variables.clone()))?;
        let sampled = scale.evaluator.loss().is_sampled();
        let (last, (least, best)) = (losses.weighted(), progress.best.clone());
        if !last.is_finite() {
            let evaluation = self.evaluations + 1;
            return self.leave_scale(index, best, Some(End::Diverged { losses, evaluation }));
        }
        match least < last && !averaged && !sampled {
            true => self.leave_scale(index, best, None),
            false => self.leave_scale(index, variables, None),
        }
    }

    /// Keeps the image of these variables as the result of a scale, and ends the run if it was the last
    /// or if it has an end.
    pub(super) fn leave_scale(
        &mut self,
        index: usize,
        variables: Tensor<B::InnerBackend, 4>,
        end: Option<End>,
    ) -> Result<(), TransferError> {
        let last = index + 1 == self.setup.plan.scales.len();
        let end = end.or(last.then_some(End::Finished));
        if let Some(scale) = self.scale.take() {
            self.take_terms_back(scale.evaluator.into_loss());
            // The history of another would only take memory while the next scale is begun.
            let carries = |optimizer: &AnyOptimizer<_>| optimizer.carries_moments();
            let carried = Some(scale.progress.optimizer).filter(carries);
            self.carried = carried.filter(|_| end.is_none());
            // Nor shall it wait to be used again while the targets of the next are computed.
            kernel::release_idle_memory();
        }
        let picture = Picture::from_tensor(self.variables(index).image(variables))?;
        self.coarser = Some((index, picture));
        self.end = end;
        Ok(())
    }

    /// Goes on with the current scale, if there is one, as the recipe has it now: the optimiser's
    /// history, the best loss and the mean start anew.
    pub(super) fn restart_scale(&mut self) -> Result<(), TransferError> {
        if let Some(progress) = self.resume.take() {
            self.resume = Some(self.restarted(progress));
            return Ok(());
        }
        let Some(mut scale) = self.scale.take() else {
            // Between two scales.
            self.carried = None;
            return Ok(());
        };
        let encoder = scale.evaluator.encoder().clone();
        let mut parts = self.take_terms_back(scale.evaluator.into_loss());
        let (index, start) = (scale.progress.index, self.started_from(&scale.progress));
        let failed = match self.evaluator(index, &start) {
            Ok(evaluator) => {
                scale.evaluator = evaluator;
                scale.progress = self.restarted(scale.progress);
                self.setup.guides[index].clear();
                Ok(())
            }
            Err(error) => {
                parts.append(&mut self.request.own_terms.losses);
                let before = Evaluator::new(encoder, Loss::sum("total", 1.0, parts));
                scale.evaluator = self.computing(index, before)?;
                Err(error)
            }
        };
        self.scale = Some(scale);
        failed
    }

    fn restarted(
        &self,
        progress: ScaleProgress<B::InnerBackend>,
    ) -> ScaleProgress<B::InnerBackend> {
        let ScaleProgress {
            index,
            start,
            variables,
            done,
            ..
        } = progress;
        let recipe = &self.setup.recipe;
        let restarted = ScaleProgress::new(
            recipe,
            index,
            self.optimizer_at(index).init(),
            start,
            variables,
        );
        ScaleProgress { done, ..restarted }
    }

    /// The optimiser of a scale.
    fn optimizer_at(&self, index: usize) -> OptimizerConfig {
        self.setup.plan.optimizer_at(&self.setup.recipe, index)
    }

    /// What the optimiser changes at a scale.
    pub(super) fn variables(&self, index: usize) -> Variables<B::InnerBackend> {
        let PlannedScale { width, height, .. } = self.setup.plan.scales[index];
        let recipe = &self.setup.recipe;
        let device = self.request.encoder.device();
        Variables::new([height, width], recipe.pyramid, recipe.range, &device)
    }

    /// Loss and network of a scale that started from this image. After an error the terms of the
    /// user's own are where they were.
    fn evaluator(
        &mut self,
        index: usize,
        start: &Tensor<B::InnerBackend, 4>,
    ) -> Result<Evaluator<B>, TransferError> {
        let scale = self.setup.plan.scales[index];
        let PlannedScale { width, height, .. } = scale;
        let content = self.setup.content.resize(width, height);
        let encoder = self.network();
        let mut parts = self.request.loss_parts(&ScaleInputs {
            encoder: &encoder,
            recipe: &self.setup.recipe,
            index,
            scale,
            content: &content,
            has_detail: self.has_detail(index),
            start,
            styles: &self.setup.styles,
            guides: &self.setup.guides[index],
        })?;
        parts.append(&mut self.request.own_terms.losses);
        let mut loss = Loss::sum("total", 1.0, parts);
        let view = ScaleView {
            encoder: &encoder,
            content: &content,
            start: Tensor::from_inner(start.clone()),
            scale: index,
            scales: self.setup.plan.scales.len(),
        };
        if let Err(error) = loss.begin_scale(&view) {
            self.take_terms_back(loss);
            return Err(error.into());
        }
        self.computing(index, Evaluator::new(encoder, loss))
    }

    /// An evaluator that computes a scale as planned.
    fn computing(
        &self,
        index: usize,
        evaluator: Evaluator<B>,
    ) -> Result<Evaluator<B>, TransferError> {
        let computation = self.setup.plan.scales[index].computation;
        let evaluator = evaluator
            .with_segments(computation.segment_values)
            .with_communicator(self.request.communicator.clone());
        // That no term needs the whole image was checked when the run was planned.
        Ok(evaluator.with_tile_size(computation.tile_size)?)
    }

    /// Takes the terms of the user's own out of the loss of a scale; returns the others.
    fn take_terms_back(&mut self, loss: Loss<B>) -> Vec<Loss<B>> {
        let mut parts = loss.into_parts();
        let own = parts.len() - self.request.own_terms.count;
        self.request.own_terms.losses = parts.split_off(own);
        parts
    }

    /// The encoder with the pooling and padding that the recipe asks for.
    fn network(&self) -> Vgg19<B> {
        let encoder = &self.request.encoder;
        // Before a copy without autodiff is made, which shares what is packed by then.
        encoder.prepare(&self.setup.plan.layers);
        let (pooling, padding) = (encoder.pooling(), encoder.padding());
        let encoder = encoder.clone();
        encoder
            .with_pooling(self.setup.recipe.pooling.unwrap_or(pooling))
            .with_padding(self.setup.recipe.padding.unwrap_or(padding))
    }

    /// The image that a scale under way started from, RGB in `[0, 1]`.
    pub(super) fn started_from(
        &self,
        progress: &ScaleProgress<B::InnerBackend>,
    ) -> Tensor<B::InnerBackend, 4> {
        let known = progress.start.clone();
        known.unwrap_or_else(|| self.start_of(progress.index))
    }

    /// The image that a scale starts from, RGB in `[0, 1]`.
    pub(super) fn start_of(&self, index: usize) -> Tensor<B::InnerBackend, 4> {
        let device = self.request.encoder.device();
        let PlannedScale { width, height, .. } = self.setup.plan.scales[index];
        let fitted = |picture: &Picture| picture.resize(width, height).to_tensor(&device);
        let init = (self.setup.recipe.init, self.setup.styles.first());
        let start = match (&self.coarser, &self.request.start, init) {
            (Some((_, picture)), ..) | (_, Some(picture), _) => fitted(picture),
            (_, _, (Init::Noise { deviation }, _)) => self.noise(deviation, width, height),
            (_, _, (Init::Style, Some(style))) => fitted(style),
            (_, _, (Init::StyleColor, Some(style))) => {
                let color = style.resize(1, 1).to_tensor(&device);
                color.expand([1, 3, height, width])
            }
            (_, _, (Init::Content | Init::Style | Init::StyleColor, _)) => {
                fitted(&self.setup.content)
            }
        };
        match self.has_detail(index) {
            true => start + finest_band(fitted(&self.setup.content)),
            false => start,
        }
    }

    /// Whether the start of a scale has the content's finest band.
    fn has_detail(&self, index: usize) -> bool {
        let last = self.setup.plan.scales.len() == index + 1;
        self.setup.recipe.content_detail && (index == 0 || !last)
    }

    /// The encoder's mean colour with Gaussian noise.
    fn noise(&self, deviation: f64, width: usize, height: usize) -> Tensor<B::InnerBackend, 4> {
        // Drawn on the host, so that a seed means the same on every backend.
        let mut rng = StdRng::seed_from_u64(self.request.seed);
        let mean = self.request.encoder.normalization().mean_color();
        let values = (0..3 * width * height)
            .map(|index| {
                let noise: f32 = StandardNormal.sample(&mut rng);
                mean[index / (width * height)] + deviation as f32 * noise
            })
            .collect();
        Tensor::from_data(
            TensorData::new::<f32, _>(values, [1, 3, height, width]),
            &self.request.encoder.device(),
        )
    }
}
