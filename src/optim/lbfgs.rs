//! Limited-memory BFGS.

use std::collections::VecDeque;

use burn::tensor::{DType, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::wolfe::{self, Trial};
use super::{Evaluation, Optimizer, OptimizerState, dot};
use crate::kernel::{self, CurvaturePair, StyleBackend};
use crate::readback;

/// Least curvature `yᵀs` of a pair that enters the history, as in `torch.optim.LBFGS`; below it the
/// approximation of the Hessian would lose its positive sign.
const MIN_CURVATURE: f64 = 1e-10;

/// Settings of [`Lbfgs`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LbfgsConfig {
    /// Pairs of steps and gradient changes that are remembered; each holds two images.
    pub history: usize,
    /// Length of a step as a multiple of the quasi-Newton step; with a line search, where it
    /// begins.
    pub learning_rate: f64,
    /// How the length of a step is found.
    pub line_search: LineSearch,
    /// The optimiser has converged where no value of the gradient is larger than this.
    pub tolerance: f64,
    /// Whether the pairs are kept in half precision (bfloat16), in half of the memory, on a backend that has
    /// it.
    pub half_precision: bool,
}

impl Default for LbfgsConfig {
    /// History 10, learning rate 1, no line search, tolerance 0, single precision.
    fn default() -> Self {
        Self {
            history: 10,
            learning_rate: 1.0,
            line_search: LineSearch::None,
            tolerance: 0.0,
            half_precision: false,
        }
    }
}

/// How the length of an L-BFGS step is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineSearch {
    /// The full step; one evaluation for each.
    #[default]
    None,
    /// A step that satisfies the strong Wolfe conditions; mostly one or two evaluations for each.
    StrongWolfe,
}

/// L-BFGS (Nocedal and Wright, *Numerical Optimization*, algorithm 7.4) with the conventions of
/// `torch.optim.LBFGS`: the first step is shortened to an L1 norm of at most one, the initial Hessian
/// is `yᵀy / yᵀs`.
///
/// Images, steps and gradients stay on the device. A step without line search reads the host three
/// numbers back, in one transaction.
#[derive(Clone, Debug)]
pub struct Lbfgs<B: Backend> {
    config: LbfgsConfig,
    history: VecDeque<CurvaturePair<B>>,
    /// `yᵀs / yᵀy` of the newest pair.
    scale: f64,
    /// The last step and the gradient before it.
    last: Option<(Tensor<B, 4>, Tensor<B, 4>)>,
    /// What the line search found out about the image that it returned.
    known: Option<Evaluation<B>>,
    converged: bool,
}

impl<B: Backend> Lbfgs<B> {
    /// An optimiser with no history.
    pub fn new(config: LbfgsConfig) -> Self {
        Self {
            config,
            history: VecDeque::with_capacity(config.history.min(1000)),
            scale: 1.0,
            last: None,
            known: None,
            converged: false,
        }
    }
}

impl<B: StyleBackend> Lbfgs<B> {
    /// Takes the newest change of the gradient into the history; returns the gradient's largest
    /// absolute value and the step length to use.
    fn learn(&mut self, gradient: &Tensor<B, 4>) -> (f64, f64) {
        let rate = self.config.learning_rate;
        let Some((s, previous)) = self.last.take() else {
            let largest = gradient.clone().abs().max();
            let [largest, l1] = read([largest, kernel::sum(gradient.clone().abs())]);
            return (largest, rate * (1.0 / l1).min(1.0));
        };
        let (y, measures) = B::curvature(gradient.clone(), previous, &s);
        let measures = readback::numbers(vec![measures]);
        let [largest, ys, yy] = measures.try_into().expect("three numbers");
        if ys > MIN_CURVATURE && self.config.history > 0 {
            if self.history.len() == self.config.history {
                self.history.pop_front();
            }
            let rho = 1.0 / ys;
            let (s, y) = (self.kept(s), self.kept(y));
            self.history.push_back(CurvaturePair { s, y, rho });
            self.scale = ys / yy;
        }
        (largest, rate)
    }

    /// A tensor of a pair in the precision in which it is kept.
    fn kept(&self, tensor: Tensor<B, 4>) -> Tensor<B, 4> {
        let half = DType::BF16;
        match self.config.half_precision && B::supports_dtype(&tensor.device(), half) {
            true => tensor.cast(half),
            false => tensor,
        }
    }
}

impl<B: StyleBackend> Optimizer<B> for Lbfgs<B> {
    fn step<E>(
        &mut self,
        image: Tensor<B, 4>,
        mut evaluate: impl FnMut(Tensor<B, 4>) -> Result<Evaluation<B>, E>,
    ) -> Result<Tensor<B, 4>, E> {
        let searches = self.config.line_search == LineSearch::StrongWolfe;
        // What an error of the search goes back to; tensors are shared, not copied.
        let before = searches.then(|| self.clone());
        let Evaluation { loss, gradient } = match self.known.take() {
            Some(known) => known,
            None => evaluate(image.clone())?,
        };
        let (largest, mut length) = self.learn(&gradient);
        self.converged = largest <= self.config.tolerance;
        if self.converged {
            return Ok(image);
        }
        let direction = B::two_loop(gradient.clone(), &self.history, self.scale);
        if let Some(before) = before {
            let [slope, reach] = read([dot(&gradient, &direction), direction.clone().abs().max()]);
            let start = Trial {
                t: 0.0,
                loss,
                slope,
                gradient: gradient.clone(),
            };
            let found = wolfe::search(start, length, reach, |t| {
                let Evaluation { loss, gradient } =
                    evaluate(image.clone() + direction.clone() * t)?;
                let [slope] = read([dot(&gradient, &direction)]);
                Ok(Trial {
                    t,
                    loss,
                    slope,
                    gradient,
                })
            });
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    *self = before;
                    return Err(error);
                }
            };
            length = found.t;
            self.converged = length == 0.0;
            self.known = Some(Evaluation {
                loss: found.loss,
                gradient: found.gradient,
            });
        }
        let step = direction * length;
        let image = image + step.clone();
        self.last = Some((step, gradient));
        Ok(image)
    }

    fn converged(&self) -> bool {
        self.converged
    }

    fn restart(&mut self) {
        *self = Self::new(self.config);
    }

    fn state(&self) -> OptimizerState<Tensor<B, 4>> {
        let mut state = OptimizerState::default();
        state.set("pairs", self.history.len() as u64);
        state.set("scale", self.scale.to_bits());
        state.set("converged", self.converged.into());
        for (index, CurvaturePair { s, y, rho }) in self.history.iter().enumerate() {
            state.put(format!("s.{index}"), s.clone());
            state.put(format!("y.{index}"), y.clone());
            state.set(format!("rho.{index}"), rho.to_bits());
        }
        if let Some((step, gradient)) = &self.last {
            state.put("last.step", step.clone());
            state.put("last.gradient", gradient.clone());
        }
        if let Some(known) = &self.known {
            state.put("known.gradient", known.gradient.clone());
            state.set("known.loss", known.loss.to_bits());
        }
        state
    }

    fn restore(&mut self, mut state: OptimizerState<Tensor<B, 4>>) -> Result<(), String> {
        *self = Self::new(self.config);
        self.scale = state.fraction("scale")?;
        self.converged = state.number("converged")? != 0;
        let pairs = state.number("pairs")?;
        if pairs > self.config.history as u64 {
            return Err("pairs".to_string());
        }
        for index in 0..pairs {
            let s = state.take(&format!("s.{index}"))?;
            let y = state.take(&format!("y.{index}"))?;
            self.history.push_back(CurvaturePair {
                s: self.kept(s),
                y: self.kept(y),
                rho: state.fraction(&format!("rho.{index}"))?,
            });
        }
        if let Ok(step) = state.take("last.step") {
            self.last = Some((step, state.take("last.gradient")?));
        }
        if let Ok(gradient) = state.take("known.gradient") {
            let loss = state.fraction("known.loss")?;
            self.known = Some(Evaluation { loss, gradient });
        }
        Ok(())
    }
}

/// Reads numbers back from the device, all at once.
fn read<B: Backend, const N: usize>(scalars: [Tensor<B, 1>; N]) -> [f64; N] {
    let numbers = readback::numbers(scalars.into());
    numbers.try_into().expect("as many numbers as scalars")
}
