//! Style by nearest neighbours: every place of the image has a place of the style as its target.

use std::fmt;

use burn::tensor::{Int, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::{Hypercolumns, Part, Term, sum_per_image};
use crate::kernel::{StyleBackend, indices};
use crate::layer::Layer;

/// Least squared length of a hypercolumn, which keeps its direction finite.
pub(super) const LEAST: f64 = 1e-8;

/// How a column `f` of features is compared with its target `t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// `1 − t·f / (‖t‖‖f‖)`, which does not see how strong the responses are, and so leaves the
    /// contrast free (Kolkin et al., arXiv 2203.13215).
    #[default]
    Cosine,
    /// `‖f − t‖²` over the mean of `‖t‖²`, weighted as the positions are, which keeps the style's contrast.
    Squared,
}

/// The mean over all positions of the distance between the image's [hypercolumn](Hypercolumns) and the
/// position's target, which is a hypercolumn of a style picture, most often the nearest to that of the
/// content (Kolkin et al., arXiv 2203.13215).
///
/// Targets of several styles, also in regions, are one target, weighted: a sum of cosine distances is
/// `Σ wᵢ − (Σ wᵢtᵢ/‖tᵢ‖)·f/‖f‖`, and one of squared distances is a square too, up to a constant.
#[derive(Debug)]
pub struct NeighborsTerm<B: Backend> {
    hypercolumns: Hypercolumns,
    distance: Distance,
    /// For each layer `[1, channels, positions]`, multiplied with the square of the layer's factor: the
    /// weighted sum of targets of length 1 for the cosine distance, of targets divided by the mean of
    /// `‖t‖²` for the squared one.
    targets: Vec<Tensor<B, 3>>,
    /// What does not depend on the image at each position, `[1, positions]`: `Σ wᵢ` or `Σ wᵢ‖tᵢ‖²`,
    /// divided likewise.
    constants: Tensor<B, 2>,
    /// What `‖f‖²` is multiplied with in the squared distance, `[1, positions]`.
    squares: Tensor<B, 2>,
}

impl<B: Backend> NeighborsTerm<B> {
    /// A term without targets.
    pub fn new(hypercolumns: Hypercolumns, distance: Distance, device: &B::Device) -> Self {
        let zeros = Tensor::zeros([1, hypercolumns.count()], device);
        Self {
            hypercolumns,
            distance,
            targets: Vec::new(),
            constants: zeros.clone(),
            squares: zeros,
        }
    }

    /// Of values for all positions, `[.., positions]`, those of some.
    fn chosen<const D: usize>(
        values: &Tensor<B, D>,
        chosen: Option<&Tensor<B, 1, Int>>,
    ) -> Tensor<B, D> {
        match chosen {
            Some(chosen) => values.clone().select(D - 1, chosen.clone()),
            None => values.clone(),
        }
    }
}

impl<B: StyleBackend> NeighborsTerm<B> {
    /// The same term with further targets: features of each layer, `[channels, positions]`, not yet
    /// multiplied with its [factor](Hypercolumns::factors). `weights`, `[positions]`, says how much each
    /// position counts, at least one more than 0.
    ///
    /// # Panics
    /// If there are not as many as layers, or not as many positions as the hypercolumns have.
    pub fn with_targets(mut self, targets: Vec<Tensor<B, 2>>, weights: Tensor<B, 1>) -> Self {
        assert_eq!(targets.len(), self.hypercolumns.factors().count());
        let factors = targets.iter().zip(self.hypercolumns.factors());
        let squares = factors.map(|(target, factor)| {
            let (square, _) = products(target.clone(), target.clone());
            square * (factor * factor)
        });
        let Some(squares) = squares.reduce(|sum, square| sum + square) else {
            return self;
        };
        let weights = weights.unsqueeze::<2>();
        let scale = match self.distance {
            Distance::Cosine => {
                self.constants = self.constants + weights.clone();
                weights / squares.clamp_min(LEAST).sqrt()
            }
            Distance::Squared => {
                let mean = (weights.clone() * squares.clone()).sum() / weights.clone().sum();
                let weights = weights / mean.clamp_min(LEAST).unsqueeze();
                self.constants = self.constants + weights.clone() * squares;
                self.squares = self.squares + weights.clone();
                weights
            }
        };
        let targets = targets.into_iter().zip(self.hypercolumns.factors());
        let targets = targets.map(|(target, factor)| {
            let target = target * scale.clone().mul_scalar(factor * factor);
            target.unsqueeze::<3>()
        });
        self.targets = match self.targets.is_empty() {
            true => targets.collect(),
            false => {
                let pairs = self.targets.into_iter().zip(targets);
                pairs.map(|(sum, target)| sum + target).collect()
            }
        };
        self
    }
}

impl<B: StyleBackend> Term<B> for NeighborsTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        self.hypercolumns.layers()
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let positions = self.hypercolumns.positions(part);
        let count = self.hypercolumns.count();
        let device = self.constants.device();
        let some = (positions.len() < count).then(|| indices::<B>(&positions, &device));
        let some = some.as_ref();
        let columns = match positions.is_empty() {
            true => Vec::new(),
            false => self.hypercolumns.columns(part, &positions),
        };
        let layers = columns.into_iter().zip(&self.targets);
        let products = layers.zip(self.hypercolumns.factors());
        let products = products.map(|((columns, target), factor)| {
            // The target holds the square of the factor already.
            let found = B::column_products(columns, Self::chosen(target, some));
            let scale = Tensor::<B, 1>::from_floats([1.0, (factor * factor) as f32], &device);
            found * scale.reshape([1, 2, 1])
        });
        let Some(products) = products.reduce(|sum, product| sum + product) else {
            return Tensor::zeros([part.batch(), 1], &device);
        };
        let product: Tensor<B, 2> = products.clone().narrow(1, 0, 1).squeeze_dim(1);
        let square: Tensor<B, 2> = products.narrow(1, 1, 1).squeeze_dim(1);
        let constants = Self::chosen(&self.constants, some);
        let distance = match self.distance {
            Distance::Cosine => constants - product / square.clamp_min(LEAST).sqrt(),
            Distance::Squared => {
                let square = square * Self::chosen(&self.squares, some);
                constants + square - product.mul_scalar(2.0)
            }
        };
        sum_per_image(distance).div_scalar(count as f64)
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.squeeze_dim(1)
    }

    fn describe(&self) -> String {
        let distance = self.distance;
        format!("mean {distance} distance to the nearest hypercolumns of the style")
    }

    fn margin(&self) -> usize {
        self.hypercolumns.margin()
    }
}

/// One word.
impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cosine => "cosine",
            Self::Squared => "squared",
        })
    }
}

/// Columns with their mean subtracted, of length 1.
pub(super) fn directions<B: Backend>(columns: Tensor<B, 2>) -> Tensor<B, 2> {
    normalized(columns.clone() - columns.mean_dim(1))
}

/// Columns of length 1.
pub(super) fn normalized<B: Backend>(columns: Tensor<B, 2>) -> Tensor<B, 2> {
    let squares = columns.clone().powi_scalar(2).sum_dim(0);
    columns / squares.clamp_min(LEAST).sqrt()
}

/// `1 − t·x / ‖x‖` for each column `x` and its target `t` of length 1: `[1, columns]`.
pub(super) fn cosine_distance<B: StyleBackend>(
    columns: Tensor<B, 2>,
    target: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let (product, square) = products(columns, target);
    let similarity = product / square.clamp_min(LEAST).sqrt();
    similarity.neg().add_scalar(1.0)
}

/// `t·x` and `‖x‖²` for each column `x` and its target `t`: `[1, columns]` each.
pub(super) fn products<B: StyleBackend>(
    columns: Tensor<B, 2>,
    target: Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let products = B::column_products(columns.unsqueeze(), target.unsqueeze());
    let product = products.clone().narrow(1, 0, 1).squeeze_dim(1);
    (product, products.narrow(1, 1, 1).squeeze_dim(1))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::encoder::Vgg19Config;
    use crate::loss::LayerNeighborsTerm;
    use burn::backend::Flex;
    use burn::tensor::Distribution;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
        Tensor::random(shape, Distribution::Uniform(0.0, 1.0), &Default::default())
    }

    /// Columns as vectors.
    fn vectors(columns: Tensor<Flex, 2>) -> Vec<Vec<f64>> {
        let [values, _] = columns.dims();
        let all: Vec<f64> = columns.transpose().into_data().iter().collect();
        all.chunks_exact(values).map(<[f64]>::to_vec).collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn distance(kind: Distance, f: &[f64], t: &[f64], unit: f64) -> f64 {
        match kind {
            Distance::Cosine => 1.0 - dot(f, t) / (dot(f, f) * dot(t, t)).sqrt(),
            Distance::Squared => (dot(f, f) - 2.0 * dot(f, t) + dot(t, t)) / unit,
        }
    }

    /// A batch of two, two styles, and positions that do not count alike, from the definitions.
    #[test]
    fn distances_are_as_defined() {
        let device = Default::default();
        let encoder = Vgg19Config::new().with_width(4).init::<Flex>(&device);
        let layers = [Layer::RELU1_1, Layer::RELU2_2];
        let image = random([2, 3, 17, 22]);
        let features = encoder.features(image.clone(), &layers).unwrap();
        let part = Part::whole(image, features);
        let hypercolumns = Hypercolumns::new(&encoder, &layers, [17, 22]).unwrap();
        let count = hypercolumns.count();
        let found = hypercolumns.columns(&part, &hypercolumns.positions(&part));
        let factors: Vec<f64> = hypercolumns.factors().collect();
        let scaled = |layers: Vec<Tensor<Flex, 2>>| {
            let layers = layers.into_iter().zip(&factors);
            vectors(Tensor::cat(
                layers.map(|(layer, f)| layer * *f).collect(),
                0,
            ))
        };
        let styles: Vec<_> = (0..2)
            .map(|_| {
                let targets: Vec<Tensor<Flex, 2>> = found
                    .iter()
                    .map(|layer| random([layer.dims()[1], count]))
                    .collect();
                (targets, random([count]))
            })
            .collect();
        for kind in [Distance::Cosine, Distance::Squared] {
            let mut term = NeighborsTerm::new(hypercolumns.clone(), kind, &device);
            let mut expected = [0.0; 2];
            for (targets, weights) in &styles {
                term = term.with_targets(targets.clone(), weights.clone());
                let targets = scaled(targets.clone());
                let weights: Vec<f64> = weights.clone().into_data().iter().collect();
                let squares = targets.iter().zip(&weights).map(|(t, w)| w * dot(t, t));
                let unit = squares.sum::<f64>() / weights.iter().sum::<f64>();
                for (index, expected) in expected.iter_mut().enumerate() {
                    let layers = found
                        .iter()
                        .map(|layer| layer.clone().narrow(0, index, 1).squeeze_dim::<2>(0));
                    let columns = scaled(layers.collect());
                    let pairs = columns.iter().zip(&targets).zip(&weights);
                    let distances = pairs.map(|((f, t), w)| w * distance(kind, f, t, unit));
                    *expected += distances.sum::<f64>() / count as f64;
                }
            }
            let value: Vec<f64> = term.value(term.sums(&part)).into_data().iter().collect();
            for (value, expected) in value.iter().zip(expected) {
                assert!(
                    (value - expected).abs() < 1e-4 * expected,
                    "{value} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_nearest_of_a_layer_is_as_defined() {
        let device = Default::default();
        let encoder = Vgg19Config::new().with_width(4).init::<Flex>(&device);
        let layer = Layer::RELU2_1;
        let image = random([2, 3, 12, 18]);
        let features = encoder.features(image.clone(), &[layer]).unwrap();
        let part = Part::whole(image, features);
        let [_, channels, height, width] = part.features(layer).dims();
        let style = random([channels, 30]);
        let centered = |columns: &[Vec<f64>]| -> Vec<Vec<f64>> {
            let mean =
                |row: usize| columns.iter().map(|c| c[row]).sum::<f64>() / columns.len() as f64;
            let minus = |column: &Vec<f64>| {
                let values = column.iter().enumerate();
                values.map(|(row, value)| value - mean(row)).collect()
            };
            columns.iter().map(minus).collect()
        };
        let targets = vectors(style.clone());
        let unit = targets.iter().map(|t| dot(t, t)).sum::<f64>() / targets.len() as f64;
        let directions = centered(&targets);
        for kind in [Distance::Cosine, Distance::Squared] {
            let term = LayerNeighborsTerm::new(layer, kind, style.clone(), 0);
            let value: Vec<f64> = term.value(term.sums(&part)).into_data().iter().collect();
            for (index, value) in value.iter().enumerate() {
                let image = part.features(layer).narrow(0, index, 1);
                let columns = vectors(image.reshape([channels, height * width]));
                let positions = columns.iter().zip(centered(&columns));
                let distances = positions.map(|(column, centered)| {
                    let cosine = |t: &Vec<f64>| distance(Distance::Cosine, &centered, t, 1.0);
                    let all: Vec<f64> = directions.iter().map(cosine).collect();
                    let least = (0..all.len()).min_by(|&a, &b| all[a].total_cmp(&all[b]));
                    let nearest = least.unwrap();
                    match kind {
                        Distance::Cosine => all[nearest],
                        Distance::Squared => distance(kind, column, &targets[nearest], unit),
                    }
                });
                let expected = distances.sum::<f64>() / columns.len() as f64;
                assert!(
                    (value - expected).abs() < 1e-4 * expected,
                    "{value} {expected}"
                );
            }
        }
    }
}
