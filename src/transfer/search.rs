//! Hypercolumns as they are searched: centred, of length 1, and projected to the directions in which they
//! vary the most.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use crate::encoder::{EncoderError, Tap, Vgg19};
use crate::eval::{PartReading, Tile, parts};
use crate::kernel::{StyleBackend, indices};
use crate::loss::Hypercolumns;

/// Least squared length, which keeps directions finite.
const LEAST: f64 = 1e-12;

/// Rounds of the iteration that finds a basis.
const ROUNDS: usize = 2;

/// Hypercolumns, layer by layer, not yet divided by the number of channels.
#[derive(Clone, Debug)]
pub(super) struct Columns<B: Backend> {
    /// `[channels, columns]` each.
    layers: Vec<Tensor<B, 2>>,
    /// What each layer is multiplied with.
    factors: Vec<f64>,
    count: usize,
}

impl<B: StyleBackend> Columns<B> {
    /// Those of an image, at all positions of the grid.
    pub fn of(
        encoder: &Vgg19<B>,
        image: &Tensor<B, 4>,
        hypercolumns: &Hypercolumns,
        tile_size: Option<usize>,
    ) -> Result<Self, EncoderError> {
        let [_, _, height, width] = image.dims();
        let mut layers = hypercolumns.layers();
        let tiles = Tile::grid([height, width], tile_size, &layers, hypercolumns.margin());
        layers.sort();
        let mut order = Vec::new();
        let mut found: Vec<Vec<Tensor<B, 2>>> = vec![Vec::new(); layers.len()];
        let taps: Vec<Tap> = layers.iter().map(|&layer| Tap::features(layer)).collect();
        let reading = PartReading {
            taps: &taps,
            distances: &[],
            margin: hypercolumns.margin(),
        };
        for part in parts(encoder, image, reading, &tiles) {
            let part = part?;
            let positions = hypercolumns.positions(&part);
            let columns = hypercolumns.columns(&part, &positions);
            for (found, columns) in found.iter_mut().zip(columns) {
                found.push(columns.squeeze_dim(0));
            }
            order.extend(positions);
        }
        let mut place = vec![0; order.len()];
        for (index, &position) in order.iter().enumerate() {
            place[position] = index;
        }
        let sorted = |mut columns: Vec<Tensor<B, 2>>| match columns.len() {
            1 => columns.remove(0),
            _ => Tensor::cat(columns, 1).select(1, indices(&place, &image.device())),
        };
        Ok(Self {
            layers: found.into_iter().map(sorted).collect(),
            factors: hypercolumns.factors().collect(),
            count: hypercolumns.count(),
        })
    }

    /// The columns minus a mean, with length 1, in the coordinates of a basis if there is one.
    pub fn directions_from(&self, mean: &Self, basis: Option<&Basis<B>>) -> Tensor<B, 2> {
        let Some(basis) = basis else {
            let columns = self.centered_at(mean);
            let square = columns.clone().powi_scalar(2).sum_dim(0);
            return columns / square.clamp_min(LEAST).sqrt();
        };
        // ‖f − m‖² = ‖f‖² − 2 m·f + ‖m‖², so that the columns are only read.
        let layers = self.layers.iter().zip(&self.factors);
        let squares = layers.map(|(layer, factor)| {
            let columns = layer.clone().unsqueeze::<3>();
            let products = B::column_products(columns.clone(), columns);
            let squares = products.narrow(1, 1, 1).squeeze_dim::<2>(1);
            squares * (factor * factor)
        });
        let squares = squares.reduce(|a, b| a + b).expect("a layer at least");
        let means = mean.layers.iter().zip(&self.factors);
        let means: Vec<_> = means
            .map(|(mean, factor)| mean.clone() * (factor * factor))
            .collect();
        let mixed = self.products(&means);
        let pairs = mean.layers.iter().zip(&means);
        let constant = pairs.map(|(mean, scaled)| (mean.clone() * scaled.clone()).sum_dim(0));
        let constant = constant.reduce(|a, b| a + b).expect("a layer at least");
        let squares = squares - mixed * 2.0 + constant;
        let projected = self.products(&basis.layers) - mean.products(&basis.layers);
        // No less than what is left of them in the basis, whatever was rounded.
        let squares = squares.max_pair(projected.clone().powi_scalar(2).sum_dim(0));
        projected / squares.clamp_min(LEAST).sqrt()
    }
}

impl<B: Backend> Columns<B> {
    /// The sum of no columns.
    pub fn zero() -> Self {
        Self {
            layers: Vec::new(),
            factors: Vec::new(),
            count: 0,
        }
    }

    /// This sum, a single column, with other columns added to it.
    pub fn plus_sum_of(self, columns: &Self) -> Self {
        let sums = columns.layers.iter().map(|layer| layer.clone().sum_dim(1));
        let layers = match self.layers.is_empty() {
            true => sums.collect(),
            false => {
                let pairs = self.layers.into_iter().zip(sums);
                pairs.map(|(a, b)| a + b).collect()
            }
        };
        Self {
            layers,
            factors: columns.factors.clone(),
            count: self.count + columns.count,
        }
    }

    /// A sum divided by the number of its columns.
    pub fn mean(self) -> Self {
        let count = self.count as f64;
        let layers = self.layers.into_iter().map(|layer| layer.div_scalar(count));
        Self {
            layers: layers.collect(),
            factors: self.factors,
            count: 1,
        }
    }

    /// Some of the columns.
    pub fn select(&self, columns: &[usize]) -> Self {
        let device = self.layers[0].device();
        Self {
            layers: self.select_at(indices(columns, &device)),
            factors: self.factors.clone(),
            count: columns.len(),
        }
    }

    /// Some of the columns of each layer.
    pub fn select_at(&self, columns: Tensor<B, 1, Int>) -> Vec<Tensor<B, 2>> {
        let layers = self.layers.iter();
        layers
            .map(|layer| layer.clone().select(1, columns.clone()))
            .collect()
    }

    /// About `count` of the columns, evenly.
    pub fn thinned(&self, count: usize) -> Self {
        let step = self.count.div_ceil(count).max(1);
        let columns: Vec<usize> = (step / 2..self.count).step_by(step).collect();
        self.select(&columns)
    }

    /// Their mean, weighted by a mask of mean 1, `[columns]`, if there is one.
    pub fn mean_within(&self, mask: Option<&Tensor<B, 1>>) -> Self {
        let sum = match mask {
            None => Self::zero().plus_sum_of(self),
            Some(mask) => {
                let layers = self.layers.iter();
                let layers = layers.map(|layer| layer.clone() * mask.clone().unsqueeze());
                Self::zero().plus_sum_of(&Self {
                    layers: layers.collect(),
                    factors: self.factors.clone(),
                    count: self.count,
                })
            }
        };
        sum.mean()
    }

    /// The columns minus a mean, as one tensor, divided by the numbers of channels.
    fn centered_at(&self, mean: &Self) -> Tensor<B, 2> {
        let layers = self.layers.iter().zip(&mean.layers).zip(&self.factors);
        let centered =
            layers.map(|((layer, mean), factor)| (layer.clone() - mean.clone()) * *factor);
        Tensor::cat(centered.collect(), 0)
    }

    /// The columns minus a mean, in the coordinates of a basis if there is one.
    pub fn projected(&self, mean: &Self, basis: Option<&Basis<B>>) -> Tensor<B, 2> {
        match basis {
            None => self.centered_at(mean),
            Some(basis) => self.products(&basis.layers) - mean.products(&basis.layers),
        }
    }

    /// Sums over the layers of the inner products of the columns with others, `[channels, others]` for
    /// each layer: `[others, columns]`.
    fn products(&self, others: &[Tensor<B, 2>]) -> Tensor<B, 2> {
        let pairs = others.iter().zip(&self.layers);
        let products = pairs.map(|(other, layer)| other.clone().transpose().matmul(layer.clone()));
        let sum = products.reduce(|a, b| a + b);
        sum.expect("a layer at least")
    }
}

/// Orthonormal directions in which hypercolumns vary the most.
#[derive(Clone, Debug)]
pub(super) struct Basis<B: Backend> {
    /// For each layer `[channels, directions]`, divided by the number of channels, for features that are
    /// not.
    layers: Vec<Tensor<B, 2>>,
}

impl<B: StyleBackend> Basis<B> {
    /// The leading directions of some columns as seen from a mean, by subspace iteration from some of
    /// the columns (Halko, Martinsson and Tropp, "Finding Structure with Randomness", arXiv 0909.4061,
    /// algorithm 4.4).
    pub fn new(samples: &[Columns<B>], mean: &Columns<B>, dimensions: usize) -> Self {
        let all = samples
            .iter()
            .map(|sample| sample.directions_from(mean, None));
        let all = Tensor::cat(all.collect(), 1);
        let [values, count] = all.dims();
        let dimensions = dimensions.min(values).min(count);
        let step = count / dimensions;
        let start: Vec<usize> = (0..dimensions).map(|index| index * step).collect();
        let mut basis = orthonormal(all.clone().select(1, indices(&start, &all.device())));
        for _ in 0..ROUNDS {
            basis = orthonormal(all.clone().matmul(all.clone().transpose().matmul(basis)));
        }
        let mut first = 0;
        let layers = mean.layers.iter().zip(&mean.factors);
        let layers = layers.map(|(layer, factor)| {
            let [channels, _] = layer.dims();
            let rows = basis.clone().narrow(0, first, channels);
            first += channels;
            rows * *factor
        });
        Self {
            layers: layers.collect(),
        }
    }
}

/// Orthonormal columns that span the same space, by the modified Gram-Schmidt process, twice, in double
/// precision. Columns that depend on others become zero.
fn orthonormal<B: Backend>(columns: Tensor<B, 2>) -> Tensor<B, 2> {
    let [values, count] = columns.dims();
    let device = columns.device();
    let data = columns.transpose().into_data();
    let all: Vec<f64> = data.iter::<f64>().collect();
    let mut columns: Vec<Vec<f64>> = all.chunks_exact(values).map(<[f64]>::to_vec).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for index in 0..count {
        let (known, rest) = columns.split_at_mut(index);
        let column = &mut rest[0];
        let before = dot(column, column);
        for _ in 0..2 {
            for known in &*known {
                let product = dot(known, column);
                for (value, known) in column.iter_mut().zip(known) {
                    *value -= product * known;
                }
            }
        }
        let square = dot(column, column);
        let factor = match square > 1e-12 * before && square > 0.0 {
            true => 1.0 / square.sqrt(),
            false => 0.0,
        };
        column.iter_mut().for_each(|value| *value *= factor);
    }
    let values_f32: Vec<f32> = columns.into_iter().flatten().map(|v| v as f32).collect();
    let data = TensorData::new(values_f32, [count, values]);
    Tensor::<B, 2>::from_data(data, &device).transpose()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::Distribution;

    fn random(shape: [usize; 2]) -> Tensor<Flex, 2> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Default::default())
    }

    #[test]
    fn a_basis_is_orthonormal_and_spans_what_varies() {
        // Columns in a space of 5 dimensions, in two layers, and how they are searched with and
        // without the basis.
        let columns = random([40, 5]).matmul(random([5, 300]));
        let columns = Columns {
            layers: vec![
                columns.clone().narrow(0, 0, 15).mul_scalar(4.0),
                columns.clone().narrow(0, 15, 25).mul_scalar(2.0),
            ],
            factors: vec![0.25, 0.5],
            count: 300,
        };
        let mean = columns.mean_within(None);
        let basis = Basis::new(std::slice::from_ref(&columns), &mean, 8);
        let whole = basis.layers.iter().zip(&columns.factors);
        let whole = whole.map(|(rows, factor)| rows.clone() / *factor);
        let whole = Tensor::cat(whole.collect(), 0);
        let unit = whole.clone().transpose().matmul(whole.clone());
        for (index, value) in unit.into_data().iter::<f32>().enumerate() {
            let (row, column) = (index / 8, index % 8);
            let expected = if row == column && row < 5 { 1.0 } else { 0.0 };
            assert!((value - expected).abs() < 1e-3, "{row} {column}: {value}");
        }
        let near = |found: Tensor<Flex, 2>, expected: Tensor<Flex, 2>| {
            let largest: f32 = expected.clone().abs().max().into_scalar();
            let error: f32 = (found - expected).abs().max().into_scalar();
            assert!(error < 1e-3 * largest, "{error} of {largest}");
        };
        let projected = columns.projected(&mean, Some(&basis));
        near(
            whole.clone().matmul(projected),
            columns.projected(&mean, None),
        );
        let directions = columns.directions_from(&mean, Some(&basis));
        near(
            whole.matmul(directions),
            columns.directions_from(&mean, None),
        );
    }

    #[test]
    fn a_mask_weights_the_mean() {
        let columns = Columns {
            layers: vec![Tensor::<Flex, 2>::from_floats(
                [[1.0, 2.0, 6.0]],
                &Default::default(),
            )],
            factors: vec![1.0],
            count: 3,
        };
        let mean = |mask: Option<[f32; 3]>| {
            let mask = mask.map(|mask| Tensor::from_floats(mask, &Default::default()));
            let mean = columns.mean_within(mask.as_ref());
            mean.layers[0].clone().into_scalar()
        };
        assert_eq!(mean(None), 3.0);
        assert_eq!(mean(Some([1.5, 1.5, 0.0])), 1.5);
    }
}
