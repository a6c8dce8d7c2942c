//! From pictures to a stylized picture: [`StyleTransfer`] and the [`Recipe`] it follows.

mod average;
mod checkpoint;
mod memory;
mod objective;
mod recipe;
mod regions;
mod run;
mod style;

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use crate::kernel::AutodiffStyleBackend;

use crate::Error;
use crate::encoder::{Layer, Vgg19};
use crate::loss::Term;
use crate::picture::Picture;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use recipe::{Init, LayerWeights, Measure, Recipe, RecipeError, Scale, StyleLoss};
pub use regions::{Region, RegionsError};
pub use run::{End, Outcome, Step};
pub use style::{Style, StyleCache};

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
    encoder: &'a Vgg19<B>,
    content: Option<Picture>,
    styles: Vec<Style>,
    start: Option<Picture>,
    recipe: Recipe,
    seed: u64,
    on_step: Box<OnStep<'a, B::InnerBackend>>,
    checkpoints: Option<(Duration, Box<OnCheckpoint<'a>>)>,
    resume: Option<Checkpoint>,
    terms: Vec<(String, f64, Rc<dyn Term<B>>)>,
    seen: Option<&'a StyleCache<B::InnerBackend>>,
}

/// Most pixels along a side of a resized picture.
const LARGEST_SIDE: usize = 1 << 16;

/// What is called at each evaluation.
type OnStep<'a, B> = dyn FnMut(&Step<'_, B>) -> ControlFlow<()> + 'a;

/// What is called with each checkpoint.
type OnCheckpoint<'a> = dyn FnMut(Checkpoint) + 'a;

impl<'a, B: AutodiffStyleBackend> StyleTransfer<'a, B> {
    /// A transfer with the default recipe and no pictures yet.
    pub fn new(encoder: &'a Vgg19<B>) -> Self {
        Self {
            encoder,
            content: None,
            styles: Vec::new(),
            start: None,
            recipe: Recipe::default(),
            seed: 0,
            on_step: Box::new(|_| ControlFlow::Continue(())),
            checkpoints: None,
            resume: None,
            terms: Vec::new(),
            seen: None,
        }
    }

    /// The picture that gives the content, the proportions and what its file says beside colours
    /// (alpha, ICC profile, depth).
    pub fn content(mut self, picture: Picture) -> Self {
        self.content = Some(picture);
        self
    }

    /// Adds a picture that gives the style. With several, their Gram matrices are averaged with
    /// these weights.
    pub fn style(self, picture: Picture, weight: f64) -> Self {
        self.add_style(Style::new(picture).weight(weight))
    }

    /// Adds a style with a size or a region of its own.
    pub fn add_style(mut self, style: Style) -> Self {
        self.styles.push(style);
        self
    }

    /// Adds a loss term of your own beside content, style and total variation. It is evaluated at
    /// every scale.
    pub fn term(
        mut self,
        name: impl Into<String>,
        weight: f64,
        term: impl Term<B> + 'static,
    ) -> Self {
        self.terms.push((name.into(), weight, Rc::new(term)));
        self
    }

    /// All choices; the default is [`Recipe::default`].
    pub fn recipe(mut self, recipe: Recipe) -> Self {
        self.recipe = recipe;
        self
    }

    /// Starts from a picture, stretched to the size of the result, instead of what the recipe says.
    pub fn start(mut self, picture: Picture) -> Self {
        self.start = Some(picture);
        self
    }

    /// Seed of the noise that a run may start from; 0 by default. The same seed gives the same
    /// result on the same backend.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Called at each evaluation of loss and gradient; `ControlFlow::Break` ends the run, which
    /// then returns the best picture so far.
    pub fn on_step(
        mut self,
        callback: impl FnMut(&Step<'_, B::InnerBackend>) -> ControlFlow<()> + 'a,
    ) -> Self {
        self.on_step = Box::new(callback);
        self
    }

    /// Called with the state of the run after a step, when `every` has passed since the last time
    /// (zero: after every step), and when the run is stopped.
    pub fn on_checkpoint(mut self, every: Duration, callback: impl FnMut(Checkpoint) + 'a) -> Self {
        self.checkpoints = Some((every, Box::new(callback)));
        self
    }

    /// Keeps what is seen in the styles for the runs after this one, and takes what runs before it
    /// have seen: with the same styles and recipe, the styles of further contents cost nothing.
    pub fn share(mut self, seen: &'a StyleCache<B::InnerBackend>) -> Self {
        self.seen = Some(seen);
        self
    }

    /// Goes on where a checkpoint was taken. Pictures, weights, recipe, seed and terms must be those
    /// of then (all but the terms are checked); on the same backend the result is the same, bit for bit, as without the interruption.
    pub fn resume(mut self, checkpoint: Checkpoint) -> Self {
        self.resume = Some(checkpoint);
        self
    }

    /// What a run would do, with everything checked that can be without doing it.
    ///
    /// # Errors
    /// [`Error`] for missing pictures, a recipe that makes no sense, pictures too small for the
    /// layers, layers that the encoder lacks, or a checkpoint of another run.
    pub fn plan(&self) -> Result<Plan, Error> {
        self.recipe.check()?;
        let content = self.content.as_ref().ok_or(Error::NoContent)?;
        if self.styles.is_empty() && self.recipe.style_weight > 0.0 {
            return Err(Error::NoStyle);
        }
        let total: f64 = self.styles.iter().map(|style| style.weight).sum();
        let negative = self.styles.iter().any(|style| style.weight < 0.0);
        if !self.styles.is_empty() && (negative || !total.is_finite() || total <= 0.0) {
            return Err(Error::StyleWeights);
        }
        let sensible = |style: &Style| (1e-3..=1e3).contains(&style.scale);
        if let Some(style) = self.styles.iter().find(|style| !sensible(style)) {
            return Err(Error::StyleScale(style.scale));
        }
        let layers = self.layers();
        let recipe = self.recipe.clone().sized_for(content);
        let mut scales = Vec::new();
        for scale in recipe.scales() {
            let (width, height) = recipe.dimensions(content, scale.size);
            if width.max(height) > LARGEST_SIDE {
                return Err(Error::TooLarge { width, height });
            }
            self.encoder.check(width, height, &layers)?;
            let mut style_pixels = 0;
            for (index, style) in self.styles.iter().enumerate() {
                let content = (width, height);
                let (width, height) =
                    recipe.style_dimensions(&style.picture, scale.size, style.scale);
                if width.max(height) > LARGEST_SIDE {
                    return Err(Error::StyleTooLarge { width, height });
                }
                self.encoder.check(width, height, &self.style_layers())?;
                style_pixels = style_pixels.max(width * height);
                if let Some(region) = &style.region {
                    self.guide::<B::InnerBackend>(index, &region.content, content)?;
                    if let Some(mask) = &region.style {
                        self.guide::<B::InnerBackend>(index, mask, (width, height))?;
                    }
                }
            }
            scales.push(PlannedScale {
                width,
                height,
                iterations: scale.iterations,
                memory: self.memory(width * height, style_pixels),
            });
        }
        if let Some(checkpoint) = &self.resume {
            let scale = scales
                .get(checkpoint.scale)
                .ok_or(CheckpointError::OtherRun)?;
            let shape = [1, 3, scale.height, scale.width];
            if !checkpoint.fits(self.fingerprint(content), shape, scale.iterations) {
                return Err(CheckpointError::OtherRun.into());
            }
        }
        let coverage = |style: &Style| {
            let rgb = style.region.as_ref()?.content.rgb();
            Some(rgb.iter().map(|&value| f64::from(value)).sum::<f64>() / rgb.len() as f64)
        };
        Ok(Plan {
            scales,
            layers,
            coverage: self.styles.iter().map(coverage).collect(),
        })
    }

    /// Style layers that are really used.
    fn style_layers(&self) -> Vec<Layer> {
        match self.recipe.style_weight > 0.0 {
            true => self.recipe.style_layers.clone(),
            false => Vec::new(),
        }
    }

    /// Content layers that are really used.
    fn content_layers(&self) -> Vec<Layer> {
        match self.recipe.content_weight > 0.0 {
            true => self.recipe.content_layers.clone(),
            false => Vec::new(),
        }
    }

    fn layers(&self) -> Vec<Layer> {
        let own = self.terms.iter().flat_map(|(_, _, term)| term.layers());
        let mut layers = [self.content_layers(), self.style_layers(), own.collect()].concat();
        layers.sort();
        layers.dedup();
        layers
    }

    /// The encoder with the pools and the border that the recipe asks for.
    fn network(&self) -> Vgg19<B> {
        // Before the copy, which shares what was prepared.
        self.encoder.prepare(&self.layers());
        let encoder = self.encoder.clone();
        let (pooling, padding) = (encoder.pooling(), encoder.padding());
        encoder
            .with_pooling(self.recipe.pooling.unwrap_or(pooling))
            .with_padding(self.recipe.padding.unwrap_or(padding))
    }
}

/// What a run will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The scales, coarse to fine.
    pub scales: Vec<PlannedScale>,
    /// The layers of the encoder that are read.
    pub layers: Vec<Layer>,
    /// The share of the picture that each style's region covers, 0 to 1; `None` for styles without
    /// a region.
    pub coverage: Vec<Option<f64>>,
}

/// One scale of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedScale {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Steps of the optimiser.
    pub iterations: usize,
    /// About how many bytes the process needs on a CPU, give or take a quarter.
    pub memory: u64,
}
