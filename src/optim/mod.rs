//! Gradient descent on a bare image tensor.
//!
//! An [`Optimizer`] holds its own state and is given, at each step, the image and a function that
//! evaluates any image. It knows nothing of encoders or losses:
//!
//! ```
//! use burn::backend::Flex;
//! use burn::tensor::Tensor;
//! use impasto::optim::{Evaluation, Lbfgs, LbfgsConfig, Optimizer};
//!
//! // Minimise ‖x − 3‖².
//! let mut image = Tensor::<Flex, 4>::zeros([1, 3, 2, 2], &Default::default());
//! let mut optimizer = Lbfgs::new(LbfgsConfig::default());
//! for _ in 0..10 {
//!     image = optimizer.step(image, |x| {
//!         let difference = x - 3.0;
//!         let loss = difference.clone().powi_scalar(2).sum().into_scalar() as f64;
//!         let gradient = difference * 2.0;
//!         Ok::<_, std::convert::Infallible>(Evaluation { loss, gradient })
//!     })?;
//! }
//! assert!((image.mean().into_scalar() - 3.0).abs() < 1e-3);
//! # Ok::<(), std::convert::Infallible>(())
//! ```

mod adam;
mod lbfgs;
mod variables;
mod wolfe;

use std::collections::BTreeMap;

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::kernel::{self, StyleBackend};

pub use adam::{Adam, AdamConfig};
pub use lbfgs::{Lbfgs, LbfgsConfig, LineSearch};
pub use variables::{Variables, finest_band};

/// Loss and gradient at an image.
#[derive(Clone, Debug)]
pub struct Evaluation<B: Backend> {
    /// The loss, read back to the host.
    pub loss: f64,
    /// Its gradient with respect to the image, of the image's shape.
    pub gradient: Tensor<B, 4>,
}

/// A method that improves an image step by step.
pub trait Optimizer<B: Backend> {
    /// Evaluates `image` (unless the last step already did) and returns a better one.
    ///
    /// `image` must be what the last step returned, or the start. An error of `evaluate` ends the
    /// step and is returned; the optimiser is then as it was before.
    ///
    /// # Errors
    /// Those of `evaluate`.
    fn step<E>(
        &mut self,
        image: Tensor<B, 4>,
        evaluate: impl FnMut(Tensor<B, 4>) -> Result<Evaluation<B>, E>,
    ) -> Result<Tensor<B, 4>, E>;

    /// Whether the last step found nothing left to improve.
    fn converged(&self) -> bool;

    /// Forgets its history: the next step is like the first. For when the function changes.
    fn restart(&mut self);

    /// All that the next steps depend on, beside the settings.
    fn state(&self) -> OptimizerState<Tensor<B, 4>>;

    /// Goes on from a state of an optimiser with the same settings.
    ///
    /// # Errors
    /// The name of a part that is missing.
    fn restore(&mut self, state: OptimizerState<Tensor<B, 4>>) -> Result<(), String>;
}

/// What an optimiser remembers: tensors (or their data) and numbers by name. Fractions are kept by
/// their bits, so that nothing is rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState<T> {
    /// Tensors of the image's shape.
    pub tensors: BTreeMap<String, T>,
    /// Counts and bits of fractions.
    pub numbers: BTreeMap<String, u64>,
}

impl<T> Default for OptimizerState<T> {
    fn default() -> Self {
        Self {
            tensors: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }
}

impl<T> OptimizerState<T> {
    /// The same state with its tensors in another form.
    pub fn map<U>(self, mut convert: impl FnMut(T) -> U) -> OptimizerState<U> {
        let tensors = self.tensors.into_iter();
        OptimizerState {
            tensors: tensors
                .map(|(name, tensor)| (name, convert(tensor)))
                .collect(),
            numbers: self.numbers,
        }
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.numbers
            .get(name)
            .copied()
            .ok_or_else(|| name.to_string())
    }

    fn fraction(&self, name: &str) -> Result<f64, String> {
        self.number(name).map(f64::from_bits)
    }

    fn take(&mut self, name: &str) -> Result<T, String> {
        self.tensors.remove(name).ok_or_else(|| name.to_string())
    }

    fn put(&mut self, name: impl Into<String>, tensor: T) {
        self.tensors.insert(name.into(), tensor);
    }

    fn set(&mut self, name: impl Into<String>, number: u64) {
        self.numbers.insert(name.into(), number);
    }
}

/// Which method to use, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Limited-memory BFGS.
    Lbfgs(LbfgsConfig),
    /// Adam.
    Adam(AdamConfig),
}

impl OptimizerConfig {
    /// An optimiser with these settings and no history.
    pub fn init<B: Backend>(&self) -> AnyOptimizer<B> {
        match self {
            Self::Lbfgs(config) => AnyOptimizer::Lbfgs(Lbfgs::new(*config)),
            Self::Adam(config) => AnyOptimizer::Adam(Adam::new(*config)),
        }
    }
}

/// An optimiser chosen at run time.
#[derive(Clone, Debug)]
pub enum AnyOptimizer<B: Backend> {
    /// Limited-memory BFGS.
    Lbfgs(Lbfgs<B>),
    /// Adam.
    Adam(Adam<B>),
}

impl<B: StyleBackend> AnyOptimizer<B> {
    /// Whether its settings [carry the moments](AdamConfig::carry_moments) to the next scale.
    pub fn carries_moments(&self) -> bool {
        matches!(self, Self::Adam(adam) if adam.carries_moments())
    }

    /// The optimiser for the same image at another size: [`Adam::resized`] where its settings
    /// [carry the moments](AdamConfig::carry_moments), else one without history. That of L-BFGS does
    /// not outlive a change of the loss.
    pub fn resized(mut self, width: usize, height: usize) -> Self {
        match self {
            Self::Adam(adam) if adam.carries_moments() => Self::Adam(adam.resized(width, height)),
            _ => {
                self.restart();
                self
            }
        }
    }
}

impl<B: StyleBackend> Optimizer<B> for AnyOptimizer<B> {
    fn step<E>(
        &mut self,
        image: Tensor<B, 4>,
        evaluate: impl FnMut(Tensor<B, 4>) -> Result<Evaluation<B>, E>,
    ) -> Result<Tensor<B, 4>, E> {
        match self {
            Self::Lbfgs(lbfgs) => lbfgs.step(image, evaluate),
            Self::Adam(adam) => adam.step(image, evaluate),
        }
    }

    fn converged(&self) -> bool {
        match self {
            Self::Lbfgs(lbfgs) => Optimizer::<B>::converged(lbfgs),
            Self::Adam(adam) => Optimizer::<B>::converged(adam),
        }
    }

    fn restart(&mut self) {
        match self {
            Self::Lbfgs(lbfgs) => lbfgs.restart(),
            Self::Adam(adam) => adam.restart(),
        }
    }

    fn state(&self) -> OptimizerState<Tensor<B, 4>> {
        match self {
            Self::Lbfgs(lbfgs) => lbfgs.state(),
            Self::Adam(adam) => adam.state(),
        }
    }

    fn restore(&mut self, state: OptimizerState<Tensor<B, 4>>) -> Result<(), String> {
        match self {
            Self::Lbfgs(lbfgs) => lbfgs.restore(state),
            Self::Adam(adam) => adam.restore(state),
        }
    }
}

/// Sum of the products of corresponding elements, shape `[1]`, on the device.
fn dot<B: Backend>(a: &Tensor<B, 4>, b: &Tensor<B, 4>) -> Tensor<B, 1> {
    kernel::sum(a.clone() * b.clone())
}
