//! Adam.

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::{Evaluation, Optimizer, OptimizerState};
use crate::kernel::{AdamStep, StyleBackend};

/// Settings of [`Adam`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamConfig {
    /// Step size, in the units of the image's values.
    pub learning_rate: f64,
    /// Decay of the mean gradient, β₁.
    pub beta1: f64,
    /// Decay of the mean squared gradient, β₂.
    pub beta2: f64,
    /// What keeps the division finite, ε.
    pub epsilon: f64,
    /// Whether the moments are corrected for having begun at zero. Without, and with β₁ = 0, this is
    /// RMSprop, equal to `torch.optim.RMSprop` with `alpha` = β₂.
    pub bias_correction: bool,
    /// Clamps the image to 0 to this after each step; `None`: no clamping. The range of the image's
    /// values makes sense.
    pub clamp: Option<f64>,
    /// Whether a run goes on at its next scale with the moments, resized, and the count of steps,
    /// instead of starting anew; see [`AnyOptimizer::resized`](super::AnyOptimizer::resized).
    pub carry_moments: bool,
}

impl Default for AdamConfig {
    /// `0.02, 0.9, 0.99, 1e-8`: the rate and decays of crowsonkb/style-transfer-pytorch for images
    /// in `[0, 1]`; steps are not clamped, moments not carried.
    fn default() -> Self {
        Self {
            learning_rate: 0.02,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            bias_correction: true,
            clamp: None,
            carry_moments: false,
        }
    }
}

/// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1), equal to `torch.optim.Adam`.
///
/// `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
/// `x ← x − lr · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)`, without the divisions by `1−βᵗ` if the settings say so.
#[derive(Clone, Debug)]
pub struct Adam<B: Backend> {
    config: AdamConfig,
    moments: Option<[Tensor<B, 4>; 2]>,
    steps: i32,
}

impl<B: Backend> Adam<B> {
    /// An optimiser with no history.
    pub fn new(config: AdamConfig) -> Self {
        Self {
            config,
            moments: None,
            steps: 0,
        }
    }

    pub(super) fn carries_moments(&self) -> bool {
        self.config.carry_moments
    }

    /// The optimiser for the same image at another size: the mean gradient is resized bicubically, the
    /// mean square bilinearly so that it stays positive, and the steps are counted on
    /// (crowsonkb/style-transfer-pytorch).
    pub fn resized(self, width: usize, height: usize) -> Self {
        let resize = |tensor, mode| {
            let options = InterpolateOptions::new(mode).with_align_corners(false);
            interpolate(tensor, [height, width], options)
        };
        let moments = self.moments.map(|[mean, square]| {
            let square = resize(square, InterpolateMode::Bilinear).clamp_min(0.0);
            [resize(mean, InterpolateMode::Bicubic), square]
        });
        Self { moments, ..self }
    }
}

impl<B: StyleBackend> Optimizer<B> for Adam<B> {
    fn step<E>(
        &mut self,
        image: Tensor<B, 4>,
        mut evaluate: impl FnMut(Tensor<B, 4>) -> Result<Evaluation<B>, E>,
    ) -> Result<Tensor<B, 4>, E> {
        let AdamConfig {
            learning_rate,
            beta1,
            beta2,
            epsilon,
            bias_correction,
            clamp,
            ..
        } = self.config;
        let gradient = evaluate(image.clone())?.gradient;
        let zero = || gradient.zeros_like();
        let moments = self.moments.take().unwrap_or_else(|| [zero(), zero()]);
        self.steps += 1;
        let correction = |decay: f64| match bias_correction {
            true => 1.0 / (1.0 - decay.powi(self.steps)),
            false => 1.0,
        };
        let step = AdamStep {
            beta1,
            beta2,
            mean_scale: learning_rate * correction(beta1),
            square_scale: correction(beta2),
            epsilon,
            clamp,
        };
        let (image, moments) = B::adam(image, gradient, moments, step);
        self.moments = Some(moments);
        Ok(image)
    }

    /// Adam never stops by itself.
    fn converged(&self) -> bool {
        false
    }

    fn restart(&mut self) {
        *self = Self::new(self.config);
    }

    fn state(&self) -> OptimizerState<Tensor<B, 4>> {
        let mut state = OptimizerState::default();
        state.set("steps", self.steps as u64);
        if let Some([mean, square]) = &self.moments {
            state.put("mean", mean.clone());
            state.put("square", square.clone());
        }
        state
    }

    fn restore(&mut self, mut state: OptimizerState<Tensor<B, 4>>) -> Result<(), String> {
        self.steps = i32::try_from(state.number("steps")?).map_err(|_| "steps")?;
        self.moments = match self.steps {
            0 => None,
            _ => Some([state.take("mean")?, state.take("square")?]),
        };
        Ok(())
    }
}
