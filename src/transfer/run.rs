//! The loop from the first scale to the finished picture.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use super::average::Average;
use super::checkpoint::{Checkpoint, CheckpointError, keep};
use super::objective::Subject;
use super::{Init, OnCheckpoint, OnStep, PlannedScale, StyleCache, StyleTransfer};
use crate::Error;
use crate::encoder::{Layer, Vgg19};
use crate::kernel::AutodiffStyleBackend;
use crate::loss::{Loss, LossValues};
use crate::optim::{AnyOptimizer, Evaluation, Optimizer};
use crate::picture::{ColorTransfer, Picture, PictureError};

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
    range: f64,
    colors: ColorTransfer,
    content: &'a Picture,
}

impl<B: Backend> Step<'_, B> {
    /// The image that was evaluated, with the colours that the recipe gives it, and with alpha, ICC
    /// profile and depth of the content picture.
    ///
    /// # Errors
    /// [`PictureError`] if the image is no picture, which does not happen in a run.
    pub fn picture(&self) -> Result<Picture, PictureError> {
        let picture = Picture::from_tensor(self.image.clone().div_scalar(self.range))?;
        let picture = self.colors.restore(picture, self.content);
        Ok(picture.with_attributes_of(self.content))
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// All steps were taken, or the optimiser found nothing left to improve.
    Finished,
    /// The callback asked to stop.
    Stopped,
    /// The loss became NaN or infinite.
    Diverged {
        /// The values at that point.
        losses: LossValues,
        /// Which evaluation it was.
        evaluation: usize,
    },
}

/// What a run results in.
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
}

/// One scale of a run: where it stands, what it minimises, and how many steps are done already.
struct Stage<'a, B: Backend> {
    encoder: &'a Vgg19<B>,
    index: usize,
    scales: usize,
    scale: PlannedScale,
    objective: Loss<B>,
    done: usize,
    content: &'a Picture,
}

/// Why a step of the optimiser was not completed.
enum Interruption {
    Stopped,
    Diverged(LossValues),
    Failed(Error),
}

/// What is carried from one evaluation to the next.
struct Progress<'a, B: Backend> {
    began: Instant,
    /// Time spent before the checkpoint that the run was resumed from.
    before: Duration,
    evaluations: usize,
    losses: Option<LossValues>,
    checkpoint: Instant,
    fingerprint: u32,
    /// The image of least loss at the current scale.
    best: Option<(f64, Tensor<B, 4>)>,
    /// The mean of the images at the current scale, if the recipe asks for it.
    average: Option<Average<B>>,
    on_step: Box<OnStep<'a, B>>,
    checkpoints: Option<(Duration, Box<OnCheckpoint<'a>>)>,
}

impl<B: Backend> Progress<'_, B> {
    fn elapsed(&self) -> Duration {
        self.before + self.began.elapsed()
    }
}

impl<B: AutodiffStyleBackend> StyleTransfer<'_, B> {
    /// Runs the transfer.
    ///
    /// # Errors
    /// Those of [`plan`](StyleTransfer::plan). Once it has begun, a run always ends with a picture,
    /// see [`Outcome::end`].
    pub fn run(mut self) -> Result<Outcome, Error> {
        let plan = self.plan()?;
        let mut resume = self.resume.take();
        let on_step = std::mem::replace(&mut self.on_step, Box::new(|_| ControlFlow::Continue(())));
        let checkpoints = self.checkpoints.take();
        let content = self.content.as_ref().ok_or(Error::NoContent)?;
        let fingerprint = match checkpoints.is_some() || resume.is_some() {
            true => self.fingerprint(content),
            false => 0,
        };
        let alone = StyleCache::default();
        let seen_styles = self.seen.unwrap_or(&alone);
        seen_styles.begin_run();
        let colors = self.recipe.colors;
        let styles = self.styles.iter();
        let styles: Vec<Cow<'_, Picture>> = styles
            .map(|style| colors.preprocess_style(&style.picture, content))
            .collect();
        let recipe = self.recipe.clone().sized_for(content);
        let encoder = self.network();
        let subject = Subject {
            encoder: &encoder,
            recipe: &recipe,
            styles: &styles,
            seen: seen_styles,
        };
        let seen = colors.preprocess_content(content);
        let mut progress = Progress {
            began: Instant::now(),
            before: resume.as_ref().map_or(Duration::ZERO, |c| c.elapsed),
            evaluations: resume.as_ref().map_or(0, |c| c.evaluations),
            losses: None,
            checkpoint: Instant::now(),
            fingerprint,
            best: None,
            average: None,
            on_step,
            checkpoints,
        };
        let first = resume.as_ref().map_or(0, |checkpoint| checkpoint.scale);
        let mut end = End::Finished;
        let mut picture: Option<Picture> = None;
        let mut optimizer = recipe.optimizer.init();

        let scales = plan.scales.iter().zip(recipe.scales()).enumerate();
        for (index, (scale, size)) in scales.skip(first) {
            let scaled = seen.resize(scale.width, scale.height);
            let objective = self.objective(&subject, &scaled, size.size)?;
            optimizer = match recipe.carry_moments {
                true => optimizer.resized(scale.width, scale.height),
                false => recipe.optimizer.init(),
            };
            let (start, done) = match (resume.take(), &picture) {
                (Some(checkpoint), _) => {
                    let device = self.device();
                    let tensor = |data| Tensor::from_data(data, &device);
                    optimizer
                        .restore(checkpoint.optimizer.map(tensor))
                        .map_err(|_| CheckpointError::OtherRun)?;
                    let (loss, best) = checkpoint.best;
                    progress.best = Some((loss, tensor(best)));
                    if let Some((decay, (missing, sum))) = recipe.averaging.zip(checkpoint.average)
                    {
                        progress.average = Some(Average::restore(decay, missing, tensor(sum)));
                    }
                    (tensor(checkpoint.image), checkpoint.iterations)
                }
                (None, coarser) => {
                    let image = match coarser {
                        Some(coarser) => coarser
                            .resize(scale.width, scale.height)
                            .to_tensor(&self.device()),
                        None => self.first_image(&scaled, &styles),
                    };
                    let image = image.mul_scalar(recipe.range);
                    progress.best = None;
                    let average = |decay| Average::new(decay, image.clone());
                    progress.average = recipe.averaging.map(average);
                    (image, 0)
                }
            };
            let stage = Stage {
                encoder: &encoder,
                index,
                scales: plan.scales.len(),
                scale: *scale,
                objective,
                done,
                content,
            };
            let (image, ended) = self.optimize(start, &mut optimizer, &stage, &mut progress)?;
            let image = match progress.average.take() {
                Some(average) => average.image(),
                None => image,
            };
            picture = Some(Picture::from_tensor(image.div_scalar(recipe.range))?);
            if ended != End::Finished {
                end = ended;
                break;
            }
        }
        let picture = picture.ok_or(Error::NoContent)?;
        let picture = colors.restore(picture, content);
        Ok(Outcome {
            picture: picture.with_attributes_of(content),
            end,
            losses: progress.losses.take(),
            evaluations: progress.evaluations,
            elapsed: progress.elapsed(),
        })
    }

    /// All steps of one scale.
    fn optimize(
        &self,
        start: Tensor<B::InnerBackend, 4>,
        optimizer: &mut AnyOptimizer<B::InnerBackend>,
        stage: &Stage<'_, B>,
        progress: &mut Progress<'_, B::InnerBackend>,
    ) -> Result<(Tensor<B::InnerBackend, 4>, End), Error> {
        let layers = stage.objective.layers();
        let range = self.recipe.range;
        let mut image = start.clone();
        progress.best.get_or_insert((f64::INFINITY, start));
        for iteration in stage.done + 1..=stage.scale.iterations {
            // What an interrupted step starts again from; tensors are shared, not copied.
            let before = (image.clone(), optimizer.clone(), progress.evaluations);
            let mut searching = false;
            let next = optimizer.step(image, |candidate| {
                let (losses, gradient) =
                    evaluate(stage.encoder, &stage.objective, &layers, &candidate, range)
                        .map_err(Interruption::Failed)?;
                progress.evaluations += 1;
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
                if progress
                    .best
                    .as_ref()
                    .is_none_or(|(least, _)| loss < *least)
                {
                    progress.best = Some((loss, candidate.clone()));
                }
                let step = Step {
                    scale: stage.index,
                    scales: stage.scales,
                    width: stage.scale.width,
                    height: stage.scale.height,
                    iteration,
                    iterations: stage.scale.iterations,
                    evaluation: progress.evaluations,
                    losses: &losses,
                    elapsed: progress.elapsed(),
                    image: &candidate,
                    range,
                    colors: self.recipe.colors,
                    content: stage.content,
                };
                let flow = (progress.on_step)(&step);
                progress.losses = Some(losses);
                match flow {
                    ControlFlow::Continue(()) => Ok(Evaluation { loss, gradient }),
                    ControlFlow::Break(()) => Err(Interruption::Stopped),
                }
            });
            let end = match next {
                Ok(next) if optimizer.converged() => return Ok((next, End::Finished)),
                Ok(next) => {
                    image = match self.recipe.clamp {
                        true => next.clamp(0.0, range),
                        false => next,
                    };
                    let average = progress.average.take();
                    progress.average = average.map(|average| average.with(image.clone()));
                    let due = |(every, _): &(Duration, _)| progress.checkpoint.elapsed() >= *every;
                    if progress.checkpoints.as_ref().is_some_and(due) {
                        let evaluations = progress.evaluations;
                        let state = (image.clone(), optimizer.clone(), evaluations);
                        self.take_checkpoint(stage, iteration, state, progress);
                    }
                    continue;
                }
                Err(Interruption::Failed(error)) => return Err(error),
                Err(Interruption::Stopped) => {
                    self.take_checkpoint(stage, iteration - 1, before, progress);
                    End::Stopped
                }
                Err(Interruption::Diverged(losses)) => {
                    // The image that diverged is in the mean already.
                    progress.average = None;
                    End::Diverged {
                        losses,
                        evaluation: progress.evaluations,
                    }
                }
            };
            let (_, best) = progress.best.take().expect("set before the first step");
            return Ok((best, end));
        }
        // The last step has not been evaluated, and without a line search it may have gone too far.
        let mean = progress.average.as_ref().map(Average::image);
        let averaged = mean.is_some();
        let image = mean.unwrap_or(image);
        let losses = judge(stage.encoder, &stage.objective, &layers, &image, range)?;
        let last = losses.weighted();
        Ok(match progress.best.take() {
            Some((_, best)) if !last.is_finite() => {
                progress.average = None;
                let evaluation = progress.evaluations + 1;
                (best, End::Diverged { losses, evaluation })
            }
            Some((least, best)) if least < last && !averaged => (best, End::Finished),
            _ => (image, End::Finished),
        })
    }

    /// Hands over the state after `iterations` steps of a scale.
    fn take_checkpoint(
        &self,
        stage: &Stage<'_, B>,
        iterations: usize,
        (image, optimizer, evaluations): (
            Tensor<B::InnerBackend, 4>,
            AnyOptimizer<B::InnerBackend>,
            usize,
        ),
        progress: &mut Progress<'_, B::InnerBackend>,
    ) {
        let elapsed = progress.elapsed();
        let Some((_, callback)) = &mut progress.checkpoints else {
            return;
        };
        callback(Checkpoint {
            scale: stage.index,
            iterations,
            evaluations,
            elapsed,
            fingerprint: progress.fingerprint,
            best: match &progress.best {
                Some((loss, best)) => (*loss, keep(best.clone())),
                None => (f64::INFINITY, keep(image.clone())),
            },
            image: keep(image),
            average: progress.average.as_ref().map(|average| {
                let (missing, sum) = average.parts();
                (missing, keep(sum))
            }),
            optimizer: optimizer.state().map(keep),
            note: String::new(),
        });
        progress.checkpoint = Instant::now();
    }

    /// A check sum of everything that the course of a run depends on.
    pub(super) fn fingerprint(&self, content: &Picture) -> u32 {
        let mut sum = flate2::Crc::new();
        let encoder = self.encoder;
        let choices = format!(
            "{:?} {} {:?} {:?} {:?}",
            self.recipe,
            self.seed,
            encoder.normalization(),
            encoder.pooling(),
            encoder.padding()
        );
        sum.update(choices.as_bytes());
        let styles = self.styles.iter().flat_map(|style| {
            let region = style.region.iter();
            let masks = region.flat_map(|region| [Some(&region.content), region.style.as_ref()]);
            [Some(&style.picture)].into_iter().chain(masks).flatten()
        });
        for picture in [content].into_iter().chain(styles).chain(&self.start) {
            sum.update(&(picture.width() as u64).to_le_bytes());
            sum.update(bytemuck::cast_slice(picture.rgb()));
        }
        for style in &self.styles {
            sum.update(&style.weight.to_le_bytes());
            sum.update(&style.scale.to_le_bytes());
        }
        for parameter in self.encoder.parameters() {
            sum.update(&parameter.bytes);
        }
        sum.sum()
    }

    /// What the first scale starts from, RGB in `[0, 1]`.
    fn first_image(
        &self,
        content: &Picture,
        styles: &[Cow<'_, Picture>],
    ) -> Tensor<B::InnerBackend, 4> {
        let device = self.device();
        let (width, height) = (content.width(), content.height());
        if let Some(start) = &self.start {
            return start.resize(width, height).to_tensor(&device);
        }
        match (self.recipe.init, styles.first()) {
            (Init::Style, Some(style)) => style.resize(width, height).to_tensor(&device),
            (Init::Noise { deviation }, _) => {
                // Drawn on the host, so that a seed means the same on every backend.
                let mut rng = StdRng::seed_from_u64(self.seed);
                let mean = self.encoder.normalization().mean_color();
                let values = (0..3 * width * height)
                    .map(|index| {
                        let noise: f32 = StandardNormal.sample(&mut rng);
                        mean[index / (width * height)] + deviation as f32 * noise
                    })
                    .collect();
                Tensor::from_data(
                    TensorData::new::<f32, _>(values, [1, 3, height, width]),
                    &device,
                )
            }
            (Init::Content | Init::Style, _) => content.to_tensor(&device),
        }
    }
}

/// The loss alone, at an image with values in `[0, range]`.
fn judge<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    objective: &Loss<B>,
    layers: &[Layer],
    image: &Tensor<B::InnerBackend, 4>,
    range: f64,
) -> Result<LossValues, Error> {
    let unit = Tensor::<B, 4>::from_inner(image.clone()).div_scalar(range);
    let features = encoder.features(unit.clone(), layers)?;
    Ok(objective.evaluate(&unit, &features).read())
}

/// Loss and gradient at an image with values in `[0, range]`.
fn evaluate<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    objective: &Loss<B>,
    layers: &[Layer],
    image: &Tensor<B::InnerBackend, 4>,
    range: f64,
) -> Result<(LossValues, Tensor<B::InnerBackend, 4>), Error> {
    let variable = Tensor::<B, 4>::from_inner(image.clone()).require_grad();
    let unit = variable.clone().div_scalar(range);
    let features = encoder.features(unit.clone(), layers)?;
    let evaluated = objective.evaluate(&unit, &features);
    drop((unit, features));
    // The backward pass is queued before anything waits for the forward pass.
    let mut gradients = evaluated.total.backward();
    let gradient = variable
        .grad_remove(&mut gradients)
        // Without any term that depends on the image there is no gradient.
        .unwrap_or_else(|| image.zeros_like());
    Ok((evaluated.read(), gradient))
}
