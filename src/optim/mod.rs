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
mod wolfe;

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

pub use adam::{Adam, AdamConfig};
pub use lbfgs::{Lbfgs, LbfgsConfig, LineSearch};

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
    /// step and is returned.
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

impl<B: Backend> Optimizer<B> for AnyOptimizer<B> {
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
}

/// Sum of the products of corresponding elements, shape `[1]`, on the device.
fn dot<B: Backend>(a: &Tensor<B, 4>, b: &Tensor<B, 4>) -> Tensor<B, 1> {
    (a.clone() * b.clone()).sum()
}
