//! What a run holds between two steps.

use std::cell::OnceCell;
use std::time::Duration;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use web_time::Instant;

use super::outcome::End;
use crate::eval::Evaluator;
use crate::kernel::{self, AutodiffStyleBackend};
use crate::loss::LossValues;
use crate::optim::{AnyOptimizer, Variables};
use crate::picture::Picture;
use crate::transfer::ema::Ema;
use crate::transfer::error::TransferError;
use crate::transfer::plan::{Guides, Plan};
use crate::transfer::recipe::Recipe;
use crate::transfer::request::Request;

/// A transfer under way, owned by whoever steps it.
///
/// ```no_run
/// # use burn::backend::{Autodiff, Flex};
/// # use impasto::{Picture, Status, StyleTransfer, Vgg19};
/// # let encoder = Vgg19::<Autodiff<Flex>>::builtin(&Default::default());
/// let mut run = StyleTransfer::new(&encoder)
///     .content(Picture::open("photo.jpg")?)
///     .style(Picture::open("painting.jpg")?, 1.0)
///     .prepare()?;
/// while let Status::Running(step) = run.step()? {
///     println!("{}", step.losses);
///     if step.scale == 1 && step.iteration == 10 {
///         let mut recipe = run.recipe().clone();
///         recipe.neighbors.content_share = 0.2;
///         run.set_recipe(recipe)?;
///     }
/// }
/// run.finish()?.picture.save("out.png")?;
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Debug)]
pub struct Run<B: AutodiffStyleBackend> {
    pub(super) request: Request<B>,
    pub(super) setup: Setup<B::InnerBackend>,
    pub(super) fingerprint: OnceCell<u128>,
    /// Where to go on, until the first step.
    pub(super) resume: Option<ScaleProgress<B::InnerBackend>>,
    /// The scale under way.
    pub(super) scale: Option<ScaleState<B>>,
    /// The result of the last finished scale, with its index.
    pub(super) coarser: Option<(usize, Picture)>,
    /// The optimiser of that scale.
    pub(super) carried: Option<AnyOptimizer<B::InnerBackend>>,
    pub(super) end: Option<End>,
    /// Evaluations in completed steps.
    pub(super) evaluations: usize,
    /// The same, with those of a step that was stopped.
    pub(super) attempted: usize,
    pub(super) losses: Option<LossValues>,
    pub(super) began: Option<Instant>,
    /// Time spent before the checkpoint that the run was resumed from.
    pub(super) before: Duration,
}

/// All that depends on the recipe in force, as asked for or as changed since.
#[derive(Debug)]
pub(super) struct Setup<B: Backend> {
    pub recipe: Recipe,
    pub plan: Plan,
    /// For each scale and each style, until the scale has begun.
    pub guides: Guides<B>,
    /// The content picture at its own size, in the colours that the recipe gives it.
    pub content: Picture,
    /// The style pictures, in the colours that the recipe gives them.
    pub styles: Vec<Picture>,
}

impl<B: Backend> Setup<B> {
    /// What follows from a recipe and its plan.
    pub fn new<A>(request: &Request<A>, recipe: Recipe, plan: Plan) -> Result<Self, TransferError>
    where
        A: AutodiffStyleBackend<InnerBackend = B>,
    {
        let (content, styles) = request.recolored(&recipe)?;
        Ok(Self {
            guides: request.guides(&recipe, &plan)?,
            recipe,
            plan,
            content,
            styles,
        })
    }
}

/// How far a scale has come.
#[derive(Clone, Debug)]
pub(super) struct ScaleProgress<B: Backend> {
    pub index: usize,
    pub optimizer: AnyOptimizer<B>,
    /// The image that the scale started from, RGB in `[0, 1]`, where it cannot be made again: of a resumed
    /// scale, or under a recipe that was changed since.
    pub start: Option<Tensor<B, 4>>,
    /// What the optimiser has changed so far, see [`Variables`].
    pub variables: Tensor<B, 4>,
    /// The variables of least loss, with their loss; the latest where losses cannot be compared.
    pub best: (f64, Tensor<B, 4>),
    /// The mean of the variables, if the recipe asks for it.
    pub ema: Option<Ema<B>>,
    /// Steps taken.
    pub done: usize,
}

impl<B: Backend> ScaleProgress<B> {
    /// A scale at its first variables, or one that starts anew at these.
    pub fn new(
        recipe: &Recipe,
        index: usize,
        optimizer: AnyOptimizer<B>,
        start: Option<Tensor<B, 4>>,
        variables: Tensor<B, 4>,
    ) -> Self {
        let ema = |decay| Ema::new(decay, variables.clone());
        Self {
            index,
            optimizer,
            start,
            best: (f64::INFINITY, variables.clone()),
            ema: recipe.averaging.map(ema),
            variables,
            done: 0,
        }
    }

    /// The mean if there is one, else these.
    pub fn mean_or(&self, variables: &Tensor<B, 4>) -> Tensor<B, 4> {
        match &self.ema {
            Some(ema) => ema.mean(),
            None => variables.clone(),
        }
    }
}

/// A scale under way: what it minimises, and how far it has come.
#[derive(Debug)]
pub(super) struct ScaleState<B: AutodiffStyleBackend> {
    pub evaluator: Evaluator<B>,
    pub map: Variables<B::InnerBackend>,
    pub progress: ScaleProgress<B::InnerBackend>,
}

impl<B: AutodiffStyleBackend> Drop for Run<B> {
    /// A long-lived program gets the memory of the run's tensors back.
    fn drop(&mut self) {
        (self.scale, self.resume, self.carried) = (None, None, None);
        self.setup.guides.clear();
        self.request.own_terms.losses.clear();
        kernel::release_idle_memory();
    }
}
