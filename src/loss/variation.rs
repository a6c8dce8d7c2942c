//! How rough a picture is.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::Term;
use crate::encoder::{Features, Layer, Padding};
use crate::kernel;

/// What is summed over neighbouring pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VariationNorm {
    /// `|a − b|`: keeps edges.
    #[default]
    L1,
    /// `(a − b)²`: blurs edges more than fine noise.
    L2,
}

/// Whether differences are added up or averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// The sum, which grows with the picture (neural-style).
    #[default]
    Sum,
    /// The sum divided by the number of values, `3·H·W`, so that a weight suits every size.
    Mean,
    /// The sum of each direction divided by the number of its differences (anishathalye/neural-style,
    /// crowsonkb/style-transfer-pytorch).
    MeanOfEach,
}

/// Which neighbours are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stencil {
    /// The next pixel along each axis.
    #[default]
    Axes,
    /// The axes with weight 2/3 and both diagonals with weight 1/6, which has no preferred direction;
    /// pixels at the border are compared with themselves (crowsonkb/style-transfer-pytorch).
    NinePoints,
}

/// Total variation of the image: `Σ |x[y+1] − x[y]|ᵖ + Σ |x[·,x+1] − x[·,x]|ᵖ` over all channels,
/// with p = 1 or 2, for pixel values in `[0, range]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TotalVariation {
    /// The exponent.
    pub norm: VariationNorm,
    /// Sum or mean.
    pub reduction: Reduction,
    /// Which neighbours are compared.
    pub stencil: Stencil,
    /// Value of a full channel: 1, or 255 as in neural-style.
    pub range: f64,
}

impl<B: Backend> Term<B> for TotalVariation {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }

    fn value(&self, image: &Tensor<B, 4>, _: &Features<B>) -> Tensor<B, 1> {
        let [_, _, height, width] = image.dims();
        // Weight and step of each direction, downwards and to the right.
        let (image, directions): (_, &[(f64, [isize; 2])]) = match self.stencil {
            Stencil::Axes => (image.clone(), &[(1.0, [1, 0]), (1.0, [0, 1])]),
            Stencil::NinePoints => (
                Padding::widen(image.clone(), 0),
                &[
                    (2.0 / 3.0, [1, 0]),
                    (2.0 / 3.0, [0, 1]),
                    (1.0 / 6.0, [1, 1]),
                    (1.0 / 6.0, [1, -1]),
                ],
            ),
        };
        let values = 3 * height * width;
        let mut total = Tensor::zeros([1], &image.device());
        for &(weight, step) in directions {
            let Some(differences) = self.differences(&image, step) else {
                continue;
            };
            let count = match self.reduction {
                Reduction::Sum => 1,
                Reduction::Mean => values,
                Reduction::MeanOfEach => differences.shape().num_elements(),
            };
            let size = match self.norm {
                VariationNorm::L1 => kernel::sum(differences.abs()),
                VariationNorm::L2 => kernel::sum(differences.powi_scalar(2)),
            };
            total = total + size.mul_scalar(weight / count as f64);
        }
        let scale = match self.norm {
            VariationNorm::L1 => self.range,
            VariationNorm::L2 => self.range * self.range,
        };
        total.mul_scalar(scale)
    }

    fn describe(&self) -> String {
        format!(
            "{} of {} differences of {}neighbours, values 0 to {}",
            match self.reduction {
                Reduction::Sum => "sum",
                Reduction::Mean => "mean",
                Reduction::MeanOfEach => "sum of each direction's mean",
            },
            match self.norm {
                VariationNorm::L1 => "absolute",
                VariationNorm::L2 => "squared",
            },
            match self.stencil {
                Stencil::Axes => "",
                Stencil::NinePoints => "eight ",
            },
            self.range
        )
    }
}

impl TotalVariation {
    /// Every pixel's neighbour at `step` minus the pixel, where there are both. Under nine points the
    /// image has a border of its own, which the axes look at on one side only.
    fn differences<B: Backend>(
        &self,
        image: &Tensor<B, 4>,
        step: [isize; 2],
    ) -> Option<Tensor<B, 4>> {
        let axis_alone = self.stencil == Stencil::NinePoints && step.contains(&0);
        let mut pair = [image.clone(), image.clone()];
        for (axis, step) in [2, 3].into_iter().zip(step) {
            let length = image.dims()[axis];
            let (first, count) = match (axis_alone, step) {
                (true, _) => (1, length - 2),
                (false, step) => (0, length.checked_sub(step.unsigned_abs())?),
            };
            if count == 0 {
                return None;
            }
            let forward = usize::from(step > 0);
            let backward = usize::from(step < 0);
            let [here, there] = pair;
            pair = [
                here.narrow(axis, first + backward, count),
                there.narrow(axis, first + forward, count),
            ];
        }
        let [here, there] = pair;
        Some(there - here)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::encoder::Vgg19Config;
    use burn::backend::Flex;

    fn variation(term: TotalVariation, image: Tensor<Flex, 4>) -> f32 {
        let encoder = Vgg19Config::new()
            .with_width(1)
            .init::<Flex>(&image.device());
        let features = encoder.features(image.clone(), &[]).unwrap();
        term.value(&image, &features).into_scalar()
    }

    #[test]
    fn variation_of_known_pictures() {
        let device = Default::default();
        let term = |norm, reduction| TotalVariation {
            norm,
            reduction,
            stencil: Stencil::Axes,
            range: 255.0,
        };
        let flat = Tensor::full([1, 3, 5, 7], 0.3, &device);
        assert_eq!(
            variation(term(VariationNorm::L1, Reduction::Sum), flat),
            0.0
        );
        // One step of height 1/2 along a 4-pixel edge, in three channels.
        let dark = Tensor::<Flex, 4>::zeros([1, 3, 4, 2], &device);
        let step = Tensor::cat(vec![dark.clone(), dark + 0.5], 3);
        let l1 = variation(term(VariationNorm::L1, Reduction::Sum), step.clone());
        assert_eq!(l1, 12.0 * 127.5);
        let l2 = variation(term(VariationNorm::L2, Reduction::Mean), step);
        assert_eq!(l2, 12.0 * 127.5 * 127.5 / 48.0);
        let point = Tensor::ones([1, 3, 1, 1], &device);
        assert_eq!(
            variation(term(VariationNorm::L2, Reduction::Sum), point),
            0.0
        );
    }
}
