//! From pictures to a stylized picture: [`StyleTransfer`], the [`Recipe`] it follows, and the [`Run`]
//! that its owner steps.

mod checkpoint;
mod computation;
mod ema;
mod error;
mod fingerprint;
mod matching;
mod memory;
mod objective;
mod pace;
mod plan;
mod provenance;
mod recipe;
mod regions;
mod request;
mod run;
mod search;
mod style;
mod style_cache;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use crate::communicator::Communicator;
use crate::encoder::Vgg19;
use crate::kernel::AutodiffStyleBackend;
use crate::loss::{Loss, Term};
use crate::picture::Picture;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use computation::Computation;
pub use error::TransferError;
pub use pace::{Pace, Speed};
pub use plan::{Plan, PlannedScale};
pub use provenance::{EncoderInfo, Provenance, ProvenanceError, StyleInfo};
pub use recipe::{
    Init, LayerWeights, Measure, Neighbors, Recipe, RecipeError, Scale, Search, Setting, StyleLoss,
    Transport,
};
pub use regions::{Region, RegionsError};
use request::Request;
pub use run::{End, Outcome, Run, Status, Step, StepReport};
pub use style::Style;
pub use style_cache::StyleCache;

/// A style transfer to be run: an encoder, pictures and a recipe.
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use burn::backend::{Autodiff, Flex};
/// use impasto::{Picture, Recipe, StyleTransfer, Vgg19};
///
/// type B = Autodiff<Flex>;
///
/// let encoder = Vgg19::<B>::load("vgg19.onnx", &Default::default())?;
/// let outcome = StyleTransfer::new(&encoder)
///     .content(Picture::open("photo.jpg")?)
///     .style(Picture::open("painting.jpg")?, 1.0)
///     .recipe(Recipe::default().with_size(512))
///     .on_step(|step| {
///         println!("{}/{}: {}", step.iteration, step.iterations, step.losses);
///         ControlFlow::Continue(())
///     })
///     .run()?;
/// outcome.picture.save("out.png")?;
/// # Ok::<(), impasto::Error>(())
/// ```
pub struct StyleTransfer<'a, B: AutodiffStyleBackend> {
    request: Request<B>,
    on_step: Box<OnStep<'a, B::InnerBackend>>,
    checkpoints: Option<(Duration, Box<OnCheckpoint<'a>>)>,
}

/// What is called at each evaluation.
type OnStep<'a, B> = dyn FnMut(&Step<'_, B>) -> ControlFlow<()> + 'a;

/// What is called with each checkpoint.
type OnCheckpoint<'a> = dyn FnMut(Checkpoint) + 'a;

impl<'a, B: AutodiffStyleBackend> StyleTransfer<'a, B> {
    /// A transfer with the default recipe and no pictures yet. The weights of the encoder are shared,
    /// not copied.
    pub fn new(encoder: &Vgg19<B>) -> Self {
        Self {
            request: Request::new(encoder.clone()),
            on_step: Box::new(|_| ControlFlow::Continue(())),
            checkpoints: None,
        }
    }

    /// The picture that gives the content, the proportions and what its file says beside colours
    /// (alpha, ICC profile, depth).
    pub fn content(mut self, picture: Picture) -> Self {
        self.request.content = Some(picture);
        self
    }

    /// Adds a picture that gives the style. With several, their statistics and their nearest neighbours
    /// are averaged with these weights.
    pub fn style(self, picture: Picture, weight: f64) -> Self {
        self.add_style(Style::new(picture).weight(weight))
    }

    /// Adds a style with a size or a region of its own.
    pub fn add_style(mut self, style: Style) -> Self {
        self.request.styles.push(style);
        self
    }

    /// Adds a loss term of your own beside content, style and total variation. It is evaluated at
    /// every scale; [`Term::begin_scale`] is where it can make a target for each.
    pub fn term(
        mut self,
        name: impl Into<String>,
        weight: f64,
        term: impl Term<B> + 'static,
    ) -> Self {
        self.request.own_terms.push(Loss::term(name, weight, term));
        self
    }

    /// All choices; the default is [`Recipe::default`].
    pub fn recipe(mut self, recipe: Recipe) -> Self {
        self.request.recipe = recipe;
        self
    }

    /// Starts from a picture, stretched to the size of the result, instead of what the recipe says.
    pub fn start(mut self, picture: Picture) -> Self {
        self.request.start = Some(picture);
        self
    }

    /// Seed of the noise that a run may start from; 0 by default. The same seed gives the same
    /// result on the same backend.
    pub fn seed(mut self, seed: u64) -> Self {
        self.request.seed = seed;
        self
    }

    /// Computes in tiles of about this many pixels on a side instead of the whole image at once: the
    /// same gradient but for rounding, which an optimiser may magnify, in less memory and more time; see [`eval`](crate::eval).
    pub fn tile_size(mut self, pixels: usize) -> Self {
        self.request.tile_size = Some(pixels);
        self
    }

    /// How many bytes the process may take, by the estimate of [`PlannedScale::memory`]. Each scale is
    /// computed in the fastest way that fits: whole, with the network in segments, in as few tiles as
    /// possible, and with a shorter history of L-BFGS; see [`Computation`]. A resumed scale is computed as
    /// it was begun. Without a limit everything is computed whole.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.request.memory_limit = Some(bytes);
        self
    }

    /// Paints the picture together with other ranks, which are given the same pictures, recipe and weights and
    /// do the same: see [`communicator`](crate::communicator). Larger scales are computed in tiles, by default of 512 to 1024
    /// pixels, which the ranks share; on each rank the result is the same, with any number of them. If one stops, or
    /// is stopped by its callback, so do all. The memory limit is the least of all.
    pub fn communicator(mut self, communicator: Arc<dyn Communicator>) -> Self {
        self.request.communicator = Some(communicator);
        self
    }

    /// Called by [`run`](Self::run) at each evaluation of loss and gradient; `ControlFlow::Break` ends
    /// the run, which then returns the best picture so far.
    pub fn on_step(
        mut self,
        callback: impl FnMut(&Step<'_, B::InnerBackend>) -> ControlFlow<()> + 'a,
    ) -> Self {
        self.on_step = Box::new(callback);
        self
    }

    /// Called by [`run`](Self::run) with the state after a step, when `every` has passed since the last
    /// time (zero: after every step), and when the run is stopped.
    pub fn on_checkpoint(mut self, every: Duration, callback: impl FnMut(Checkpoint) + 'a) -> Self {
        self.checkpoints = Some((every, Box::new(callback)));
        self
    }

    /// Shares style statistics (Gram matrices and means) between runs: with the same styles and recipe,
    /// those of further contents cost nothing. Nearest neighbours are searched for each content.
    pub fn share(mut self, cache: &StyleCache<B::InnerBackend>) -> Self {
        self.request.cache = cache.clone();
        self
    }

    /// Goes on where a checkpoint was taken. Pictures, weights, recipe, seed, terms and tile size must
    /// be those of then, which is checked; a recipe that was changed during the run is in the
    /// checkpoint. On the same backend the result is the same, bit for bit, as without the
    /// interruption.
    pub fn resume(mut self, checkpoint: Checkpoint) -> Self {
        self.request.resume = Some(checkpoint);
        self
    }

    /// What a run would do, with everything checked that can be without doing it.
    ///
    /// # Errors
    /// [`TransferError`] for missing pictures, a recipe that makes no sense, pictures too small for the
    /// layers, or layers that the encoder lacks.
    pub fn plan(&self) -> Result<Plan, TransferError> {
        let recipe = self.request.recipe.clone();
        let recipe = recipe.sized_for(self.request.content()?);
        let plan = self.request.plan(&recipe)?;
        self.request.guides(&recipe, &plan)?;
        Ok(plan)
    }

    /// Checks and plans everything, once, and gives the run to its owner to step. It owns all it needs.
    /// The callbacks are those of [`run`](Self::run) and not part of it.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan), and [`CheckpointError::OtherRun`] for a checkpoint of another run.
    pub fn prepare(self) -> Result<Run<B>, TransferError> {
        Run::new(self.request)
    }

    /// Runs the transfer to its end.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare), and [`TransferError::Term`] where a term of one's own cannot
    /// begin a scale. Otherwise a run that has begun ends with a picture, see [`Outcome::end`].
    pub fn run(self) -> Result<Outcome, TransferError> {
        let (mut on_step, mut checkpoints) = (self.on_step, self.checkpoints);
        let mut run = Run::new(self.request)?;
        let mut last = Instant::now();
        loop {
            let status = run.step_with(&mut on_step)?;
            if let Some((every, callback)) = &mut checkpoints
                && (status == Status::Stopped || last.elapsed() >= *every)
                && let Some(checkpoint) = run.checkpoint()
            {
                callback(checkpoint);
                last = Instant::now();
            }
            if !matches!(status, Status::Running(_)) {
                return run.finish();
            }
        }
    }
}
