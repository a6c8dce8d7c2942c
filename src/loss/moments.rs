//! Style as mean and covariance of the feature channels.

use burn::tensor::{Tensor, backend::Backend};

use super::term::in_region;
use super::{Guide, Part, Term, sum_per_image};
use crate::encoder::Moments;
use crate::kernel::StyleBackend;
use crate::layer::Layer;

/// How the moments of the features are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MomentsDistance {
    /// `mean((μ − μₜ)²) + mean((σ − σₜ)²)` over the channels: the statistics of adaptive instance
    /// normalisation (Huang and Belongie, arXiv 1703.06868; Li et al., arXiv 1701.01036). Blind to
    /// how channels go together: keeps colours and grain, loses figures.
    MeanStd,
    /// `(|μ − μₜ|² + tr(Σ + Σₜ − 2 (Σₜ^½ Σ Σₜ^½)^½)) / C`: the squared Wasserstein-2 distance between
    /// Gaussians with the moments of the features, in units of the features and not of their
    /// squares, so that strong channels count less than with Gram matrices
    /// (crowsonkb/style-transfer-pytorch; Olkin and Pukelsheim 1982). 1e-4 is added to the diagonal
    /// of the covariances; roots are 12 iterations of Newton and Schulz.
    Wasserstein,
}

/// What is added to variances before their root is taken (as in AdaIN's code).
const EPSILON: f64 = 1e-5;
/// What is added to the diagonal of covariances.
const RIDGE: f64 = 1e-4;
/// Iterations of Newton and Schulz.
const ITERATIONS: usize = 12;

/// Style loss at one layer: distance of the first two moments of its channels.
#[derive(Debug)]
pub struct MomentsTerm<B: Backend> {
    layer: Layer,
    channels: usize,
    distance: MomentsDistance,
    mean: Tensor<B, 3>,
    covariance: Tensor<B, 3>,
    /// Σₜ^½, for the Wasserstein distance.
    root: Tensor<B, 3>,
    guide: Option<Tensor<B, 4>>,
}

impl<B: Backend> MomentsTerm<B> {
    /// Compares `layer` with the mean `[1, 1, C]` and the second moment (the Gram matrix per
    /// position) `[1, C, C]` of the style's features, or with those for each image of a batch. For
    /// several styles, give weighted means of both. `channels` are those of
    /// [`Vgg19::channels`](crate::Vgg19::channels), which a slim encoder's `C` is less than.
    pub fn new(
        layer: Layer,
        channels: usize,
        distance: MomentsDistance,
        mean: Tensor<B, 3>,
        gram: Tensor<B, 3>,
    ) -> Self {
        let covariance = covariance(distance, &mean, gram);
        let root = match distance {
            MomentsDistance::MeanStd => covariance.clone(),
            MomentsDistance::Wasserstein => roots(covariance.clone()).0,
        };
        Self {
            layer,
            channels,
            distance,
            mean,
            covariance,
            root,
            guide: None,
        }
    }

    /// The same term for a region: means are taken over the guide's mask; over all positions without a
    /// guide.
    ///
    /// # Panics
    /// If the guide was not made for the layer.
    pub fn within<'a>(mut self, guide: impl Into<Option<&'a Guide<B>>>) -> Self
    where
        B: 'a,
    {
        let guide = guide.into();
        self.guide = guide.map(|guide| guide.of(self.layer));
        self
    }

    /// The value for an image without any response, to which others can be related, shape `[1]`.
    pub fn zero_feature_loss(&self) -> Tensor<B, 1> {
        let (mean, covariance) = (self.mean.clone(), self.covariance.clone());
        let sum = sum_per_image(mean.powi_scalar(2)) + sum_per_image(diagonal(covariance));
        sum.mean().div_scalar(self.channels as f64)
    }
}

/// `Σ = E[f fᵀ] − μ μᵀ`, with the ridge of the Wasserstein distance.
fn covariance<B: Backend>(
    distance: MomentsDistance,
    mean: &Tensor<B, 3>,
    gram: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let covariance = gram - mean.clone().transpose().matmul(mean.clone());
    match distance {
        MomentsDistance::MeanStd => covariance,
        MomentsDistance::Wasserstein => {
            let [_, channels, _] = covariance.dims();
            let device = covariance.device();
            covariance + identity(channels, &device).mul_scalar(RIDGE)
        }
    }
}

fn identity<B: Backend>(channels: usize, device: &B::Device) -> Tensor<B, 3> {
    Tensor::<B, 2>::eye(channels, device).unsqueeze()
}

/// `[batch, channels, channels]` to `[batch, channels]`.
fn diagonal<B: Backend>(matrix: Tensor<B, 3>) -> Tensor<B, 2> {
    let [batch, channels, _] = matrix.dims();
    let device = matrix.device();
    let kept = matrix * identity(channels, &device);
    kept.sum_dim(2).reshape([batch, channels])
}

/// The trace of the root of each symmetric positive definite matrix A, `[batch, 1]`. Its derivative is
/// `½ A^-½`, which the iteration yields as well, so that backward keeps nothing of it.
fn trace_of_root<B: Backend>(matrix: Tensor<B, 3>) -> Tensor<B, 2> {
    let constant = matrix.clone().detach();
    let (root, inverse) = roots(constant.clone());
    // Zero, but for its gradient.
    let change = (matrix - constant) * inverse.mul_scalar(0.5);
    sum_per_image(diagonal(root)) + sum_per_image(change)
}

/// The root of a symmetric positive definite matrix and its inverse, by Newton and Schulz's coupled
/// iteration (Higham 2008, equation 6.35), which needs products only.
fn roots<B: Backend>(matrix: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let [batch, channels, _] = matrix.dims();
    let device = matrix.device();
    let norm = sum_per_image(matrix.clone().powi_scalar(2))
        .sqrt()
        .reshape([batch, 1, 1]);
    let mut y = matrix / norm.clone();
    let mut z = identity(channels, &device);
    let three = identity::<B>(channels, &device).mul_scalar(3.0);
    for _ in 0..ITERATIONS {
        let t = (three.clone() - z.clone().matmul(y.clone())).mul_scalar(0.5);
        y = y.matmul(t.clone());
        z = t.matmul(z);
    }
    (y * norm.clone().sqrt(), z / norm.sqrt())
}

impl<B: StyleBackend> Term<B> for MomentsTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        vec![self.layer]
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let guide = self.guide.as_ref();
        let mean = part.mean_sum(self.layer, guide).flatten(1, 2);
        let gram = part.gram_sum(self.layer, guide).flatten(1, 2);
        Tensor::cat(vec![mean, gram], 1)
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        let [batch, _] = sums.dims();
        let [_, _, channels] = self.mean.dims();
        let mean = sums.clone().narrow(1, 0, channels);
        let mean = mean.reshape([batch, 1, channels]);
        let gram = sums.narrow(1, channels, channels * channels);
        let gram = gram.reshape([batch, channels, channels]);
        let covariance = covariance(self.distance, &mean, gram);
        let means = sum_per_image((mean - self.mean.clone()).powi_scalar(2));
        let spreads = match self.distance {
            MomentsDistance::MeanStd => {
                let deviation = |covariance| {
                    diagonal::<B>(covariance)
                        .clamp_min(0.0)
                        .add_scalar(EPSILON)
                        .sqrt()
                };
                let difference = deviation(covariance) - deviation(self.covariance.clone());
                sum_per_image(difference.powi_scalar(2))
            }
            MomentsDistance::Wasserstein => {
                let root = self.root.clone();
                let product = root.clone().matmul(covariance.clone()).matmul(root);
                let sum = covariance + self.covariance.clone();
                sum_per_image(diagonal(sum)) - trace_of_root(product).mul_scalar(2.0)
            }
        };
        (means + spreads)
            .div_scalar(self.channels as f64)
            .squeeze_dim(1)
    }

    fn reads_only(&self) -> Option<Moments> {
        self.guide.is_none().then_some(Moments::GramAndMean)
    }

    fn describe(&self) -> String {
        let distance = match self.distance {
            MomentsDistance::MeanStd => "mean squared error of channels' mean and deviation",
            MomentsDistance::Wasserstein => "squared Wasserstein-2 distance of Gaussians ÷ C",
        };
        in_region(distance, self.guide.is_some())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::Distribution;

    #[test]
    fn roots_squared_are_the_matrix() {
        let device = Default::default();
        for channels in [1, 2, 7, 33] {
            let shape = [1, channels, channels];
            let random =
                Tensor::<Flex, 3>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
            let matrix = random.clone().matmul(random.transpose()) + identity(channels, &device);
            let (root, inverse) = roots(matrix.clone());
            let unit = root.clone().matmul(inverse) - identity(channels, &device);
            let error: f32 = unit.abs().max().into_scalar();
            assert!(error < 1e-2, "{channels}: {error}");
            let error: f32 = (root.clone().matmul(root) - matrix.clone())
                .abs()
                .max()
                .into_scalar();
            let largest: f32 = matrix.max().into_scalar();
            assert!(error < 1e-3 * largest, "{channels}: {error} of {largest}");
        }
    }

    #[test]
    fn diagonal_gaussians_have_the_distance_of_their_deviations() {
        // For diagonal covariances W₂² = |μ − μₜ|² + Σ (σ − σₜ)².
        let device = Default::default();
        let diagonal = |values: [f32; 3]| {
            let matrix = identity::<Flex>(3, &device);
            matrix * Tensor::<Flex, 1>::from_floats(values, &device).reshape([1, 1, 3])
        };
        let zero = Tensor::<Flex, 3>::zeros([1, 1, 3], &device);
        let term = MomentsTerm::new(
            Layer::RELU1_1,
            3,
            MomentsDistance::Wasserstein,
            zero,
            diagonal([4.0, 9.0, 1.0]),
        );
        let product = term
            .root
            .clone()
            .matmul(diagonal([1.0, 1.0, 16.0]))
            .matmul(term.root.clone());
        let trace: f32 = trace_of_root(product).into_scalar();
        assert!((trace - (2.0 + 3.0 + 4.0)).abs() < 1e-2, "{trace}");
        let zero: f32 = term.zero_feature_loss().into_scalar();
        assert!((zero - 14.0 / 3.0).abs() < 1e-2);
    }

    #[test]
    fn the_trace_has_the_gradient_of_the_root() {
        use burn::backend::Autodiff;
        // d tr(A^½) / dA = ½ A^-½: for a diagonal matrix half of the inverse roots.
        let device = Default::default();
        let values = Tensor::<Autodiff<Flex>, 1>::from_floats([4.0, 1.0, 0.25], &device);
        let matrix = identity(3, &device) * values.reshape([1, 1, 3]);
        let matrix = matrix.detach().require_grad();
        let gradients = trace_of_root(matrix.clone()).sum().backward();
        let found: Vec<f32> = matrix
            .grad(&gradients)
            .unwrap()
            .into_data()
            .to_vec()
            .unwrap();
        for (index, found) in found.into_iter().enumerate() {
            let expected = [0.25, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0][index];
            assert!((found - expected).abs() < 1e-3, "{index}: {found}");
        }
    }
}
