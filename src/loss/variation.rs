//! How rough a picture is.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Part, Term};
use crate::kernel::{PixelPairs, StyleBackend};
use crate::layer::Layer;
use crate::rect::Rect;

pub use crate::kernel::VariationNorm;

/// Whether differences are added up or averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

impl<B: StyleBackend> Term<B> for TotalVariation {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }

    /// The next pixel below and to the right.
    fn margin(&self) -> usize {
        1
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let pairs = match self.stencil {
            Stencil::Axes => Pairs::inside(part),
            Stencil::NinePoints => Pairs::with_replicated_border(part),
        };
        // Weight and step of each direction, downwards and to the right.
        let directions: &[(f64, [isize; 2])] = match self.stencil {
            Stencil::Axes => &[(1.0, [1, 0]), (1.0, [0, 1])],
            Stencil::NinePoints => &[
                (2.0 / 3.0, [1, 0]),
                (2.0 / 3.0, [0, 1]),
                (1.0 / 6.0, [1, 1]),
                (1.0 / 6.0, [1, -1]),
            ],
        };
        let [height, width] = part.size();
        let scale = match self.norm {
            VariationNorm::L1 => self.range,
            VariationNorm::L2 => self.range * self.range,
        };
        let of_direction = |&(weight, step): &(f64, [isize; 2])| {
            let count = match self.reduction {
                Reduction::Sum => 1,
                Reduction::Mean => 3 * height * width,
                Reduction::MeanOfEach => 3 * self.count([height, width], step),
            };
            pairs.at(step, scale * weight / count as f64)
        };
        let directions: Vec<PixelPairs> = directions.iter().filter_map(of_direction).collect();
        B::variation(pairs.pixels, &directions, self.norm).unsqueeze_dim(1)
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.squeeze_dim(1)
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
    /// How many pairs of pixels one channel of the whole image has at this step.
    fn count(&self, [height, width]: [usize; 2], step: [isize; 2]) -> usize {
        match (self.stencil, step) {
            (Stencil::Axes, [dy, dx]) => (height - dy.unsigned_abs()) * (width - dx.unsigned_abs()),
            // With the border: along an axis on one side only, diagonally on both.
            (Stencil::NinePoints, [_, 0] | [0, _]) => height * width,
            (Stencil::NinePoints, _) => (height + 1) * (width + 1),
        }
    }
}

/// The pixels that the pairs of a part are made of. A pair belongs to the part of its upper left
/// corner.
struct Pairs<B: StyleBackend> {
    pixels: Tensor<B, 4>,
    /// First row and number of rows of the part itself.
    rows: (usize, usize),
    /// First column and number of columns of the part itself.
    columns: (usize, usize),
}

impl<B: StyleBackend> Pairs<B> {
    /// Those of pixels inside the image: of the part, the row below it and the column right of it.
    fn inside(part: &Part<B>) -> Self {
        let (area, [height, width]) = (part.area(), part.size());
        Self {
            pixels: part.crop_pixels(Rect {
                height: (area.height + 1).min(height - area.top),
                width: (area.width + 1).min(width - area.left),
                ..area
            }),
            rows: (0, area.height),
            columns: (0, area.width),
        }
    }

    /// The same, with the border of the image replicated by one pixel on each side.
    fn with_replicated_border(part: &Part<B>) -> Self {
        let (inside, area) = (Self::inside(part), part.area());
        let [height, width] = part.size();
        let ends = [
            (area.top == 0, area.bottom() == height),
            (area.left == 0, area.right() == width),
        ];
        let mut pixels = inside.pixels;
        for (axis, (first, last)) in [2, 3].into_iter().zip(ends) {
            let length = pixels.dims()[axis];
            let before = first.then(|| pixels.clone().narrow(axis, 0, 1));
            let after = last.then(|| pixels.clone().narrow(axis, length - 1, 1));
            let rows = [before, Some(pixels), after].into_iter().flatten();
            pixels = Tensor::cat(rows.collect(), axis);
        }
        let [(top, _), (left, _)] = ends.map(|(first, last)| (usize::from(first), last));
        Self {
            pixels,
            rows: (top, area.height),
            columns: (left, area.width),
        }
    }

    /// The pairs at this step; `None` where there is no pair.
    fn at(&self, [dy, dx]: [isize; 2], weight: f64) -> Option<PixelPairs> {
        let [_, _, height, width] = self.pixels.dims();
        // First and number of the upper left corners along an axis of this length. Along an axis alone
        // they are pixels of the part, diagonally those of the border above and left of it too.
        let diagonal = dy != 0 && dx != 0;
        let corners = |step: isize, (first, count): (usize, usize), length: usize| match step {
            0 => (first, count),
            _ if diagonal => (0, length - 1),
            _ => (first, count.min(length - 1 - first)),
        };
        let (top, rows) = corners(dy, self.rows, height);
        let (left, columns) = corners(dx, self.columns, width);
        let pixels = |below: usize, beside: usize| Rect {
            top: top + below,
            left: left + beside,
            height: rows,
            width: columns,
        };
        (rows * columns > 0).then(|| PixelPairs {
            first: pixels(0, usize::from(dx < 0)),
            second: pixels(usize::from(dy > 0), usize::from(dx > 0)),
            weight,
        })
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
        let sums = term.sums(&Part::whole(image, features));
        Term::<Flex>::value(&term, sums).into_scalar()
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
