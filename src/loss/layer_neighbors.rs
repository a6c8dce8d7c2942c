//! Style by nearest neighbours at one layer, found anew at every step.

use burn::tensor::{Tensor, backend::Backend};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::neighbors::{Distance, LEAST, cosine_distance, directions, products};
use super::{Part, Term};
use crate::kernel::StyleBackend;
use crate::layer::Layer;

/// Positions along the longer side of a layer that are looked at in a step.
const POSITIONS: usize = 64;

/// The mean over positions of a layer of the distance to the nearest position of the style (the last pass
/// of Kolkin et al., arXiv 2203.13215): the one of least cosine distance, where the mean of all positions
/// has been subtracted from both. It is found anew whenever the loss is computed. The [`Distance`] to it is
/// that cosine distance, `1 − max_j x·y_j / (‖x‖‖y_j‖)`, or the squared one, means included.
///
/// Of a layer with more than 64 positions along a side only a grid with a spacing of `side / 64` is
/// read, at an offset drawn for each step.
#[derive(Debug)]
pub struct LayerNeighborsTerm<B: Backend> {
    layer: Layer,
    distance: Distance,
    /// `[channels, positions]`: the mean subtracted, of length 1.
    directions: Tensor<B, 2>,
    /// The same as they are, divided by the mean length, and the squares of their lengths.
    targets: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    /// One over the mean of the squared lengths.
    unit: Tensor<B, 2>,
    region: Option<Vec<bool>>,
    grid: Grid,
}

/// Which positions are read: those of a grid drawn for each step, or of a fixed one.
#[derive(Clone, Copy, Debug)]
enum Grid {
    Drawn { seed: u64, step: usize },
    Fixed { spacing: usize, first: [usize; 2] },
}

impl<B: Backend> LayerNeighborsTerm<B> {
    /// Compares `layer` with features of the style, `[channels, positions]`, at least one position.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(layer: Layer, distance: Distance, style: Tensor<B, 2>, seed: u64) -> Self {
        assert!(style.dims()[1] > 0, "a style without positions");
        let squares = style.clone().powi_scalar(2).sum_dim(0);
        let mean = squares.clone().mean_dim(1).clamp_min(LEAST);
        let unit = mean.recip();
        let targets = (distance == Distance::Squared).then(|| {
            let scaled = style.clone() * unit.clone();
            (scaled, squares * unit.clone())
        });
        Self {
            layer,
            distance,
            directions: directions(style),
            targets,
            unit,
            region: None,
            grid: Grid::Drawn { seed, step: 0 },
        }
    }

    /// The same term on a fixed grid: every `spacing`-th row and column, from these first ones on.
    ///
    /// # Panics
    /// If `spacing` is 0.
    pub fn with_grid(mut self, spacing: usize, first: [usize; 2]) -> Self {
        assert!(spacing > 0, "a grid of spacing 0");
        self.grid = Grid::Fixed { spacing, first };
        self
    }

    /// The same term for the positions of the layer that are true, row by row, one for each position of
    /// the layer; for all with `None`.
    pub fn within(mut self, region: Option<Vec<bool>>) -> Self {
        self.region = region;
        self
    }

    /// The positions of a layer of this size (rows and columns) that are read.
    fn positions(&self, size: [usize; 2]) -> Vec<[usize; 2]> {
        let (spacing, first) = match self.grid {
            Grid::Fixed { spacing, first } => (spacing, first),
            Grid::Drawn { seed, step } => {
                let spacing = (size[0].max(size[1]) / POSITIONS).max(1);
                let seed = seed ^ ((step as u64) << 8) ^ self.layer.depth() as u64;
                let mut random = StdRng::seed_from_u64(seed);
                let first = size.map(|side| random.random_range(0..spacing.min(side)));
                (spacing, first)
            }
        };
        let rows = (first[0]..size[0]).step_by(spacing);
        let positions = rows.flat_map(|row| {
            let columns = (first[1]..size[1]).step_by(spacing);
            columns.map(move |column| [row, column])
        });
        let inside = |[row, column]: &[usize; 2]| match &self.region {
            Some(region) => region[row * size[1] + column],
            None => true,
        };
        positions.filter(inside).collect()
    }
}

impl<B: StyleBackend> Term<B> for LayerNeighborsTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        vec![self.layer]
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let positions = self.positions(part.layer_size(self.layer));
        if positions.is_empty() {
            return Tensor::zeros([part.batch(), 1], &self.unit.device());
        }
        let points: Vec<_> = positions.iter().map(|p| p.map(|at| at as f32)).collect();
        let columns = part.sample(self.layer, &points);
        let images = columns.iter_dim(0).map(|columns| {
            let columns: Tensor<B, 2> = columns.squeeze_dim(0);
            let centered = columns.clone() - columns.clone().mean_dim(1);
            let constant = centered.clone().detach();
            let (nearest, _) = B::nearest(constant, self.directions.clone());
            let distance = match &self.targets {
                None => cosine_distance(centered, self.directions.clone().select(1, nearest)),
                Some((targets, squares)) => {
                    let target = targets.clone().select(1, nearest.clone());
                    let (product, square) = products(columns, target);
                    let constant = squares.clone().select(1, nearest);
                    constant + square * self.unit.clone() - product.mul_scalar(2.0)
                }
            };
            distance.mean_dim(1)
        });
        Tensor::cat(images.collect(), 0)
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.squeeze_dim(1)
    }

    fn describe(&self) -> String {
        let distance = self.distance;
        format!("mean {distance} distance to the style's nearest position")
    }

    /// Features are compared after their mean was subtracted.
    fn needs_whole_image(&self) -> bool {
        true
    }

    fn is_sampled(&self) -> bool {
        matches!(self.grid, Grid::Drawn { .. })
    }

    fn begin_step(&mut self, now: usize) {
        if let Grid::Drawn { step, .. } = &mut self.grid {
            *step = now;
        }
    }
}
