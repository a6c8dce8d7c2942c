//! Hypercolumns: the features of several layers at one place, one above the other.

use burn::tensor::{Tensor, backend::Backend};

use super::Part;
use crate::encoder::{EncoderError, Vgg19};
use crate::kernel::StyleBackend;
use crate::layer::Layer;

/// Pixels between two positions of the grid, along each side.
const SPACING: usize = 4;

/// Which layers make a hypercolumn, and the grid of positions at which they are read.
///
/// The grid has a quarter of the image's sides, rounded down. Every layer is resized to it bilinearly
/// with aligned corners, and divided by its number of channels, so that wide layers do not outweigh
/// narrow ones (Kolkin et al., "Neural Neighbor Style Transfer", arXiv 2203.13215).
#[derive(Clone, Debug, PartialEq)]
pub struct Hypercolumns {
    layers: Vec<(Layer, f64)>,
    size: [usize; 2],
    grid: [usize; 2],
}

impl Hypercolumns {
    /// A layer whose positions are as many as the grid's: what is made for it suits the grid.
    pub(crate) const GRID_LAYER: Layer = Layer::RELU3_1;

    /// Hypercolumns of these layers for images of `size` (height and width).
    ///
    /// # Errors
    /// [`EncoderError::TooDeep`] if the encoder lacks a layer.
    pub fn new<B: Backend>(
        encoder: &Vgg19<B>,
        layers: &[Layer],
        size: [usize; 2],
    ) -> Result<Self, EncoderError> {
        let factor = |&layer| Ok((layer, 1.0 / encoder.channels(layer)? as f64));
        Ok(Self {
            layers: layers.iter().map(factor).collect::<Result<_, _>>()?,
            size,
            grid: size.map(|side| (side / SPACING).max(1)),
        })
    }

    /// The layers.
    pub fn layers(&self) -> Vec<Layer> {
        self.layers.iter().map(|(layer, _)| *layer).collect()
    }

    /// What the features of each layer are multiplied with: one over its number of channels.
    pub fn factors(&self) -> impl Iterator<Item = f64> + '_ {
        self.layers.iter().map(|(_, factor)| *factor)
    }

    /// Rows and columns of the grid.
    pub fn grid(&self) -> [usize; 2] {
        self.grid
    }

    /// Number of positions.
    pub fn count(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Pixels beyond a part of the image from which its hypercolumns read features.
    pub fn margin(&self) -> usize {
        Self::margin_of(&self.layers())
    }

    /// The same for these layers.
    pub(crate) fn margin_of(layers: &[Layer]) -> usize {
        let strides = layers.iter().map(|layer| layer.stride());
        // A corner-aligned position lies up to two strides before or seven pixels behind the pixel that
        // it belongs to, and reads one position further.
        3 * strides.max().unwrap_or(0) + 2 * SPACING
    }

    /// The positions that belong to a part of the image, row by row: those whose first pixel does.
    ///
    /// # Panics
    /// If the image has another size.
    pub fn positions<B: Backend>(&self, part: &Part<B>) -> Vec<usize> {
        assert_eq!(
            part.size(),
            self.size,
            "hypercolumns for an image of another size"
        );
        let area = part.area();
        let [rows, columns] = self.grid;
        let within = |count: usize, first: usize, end: usize| {
            let last = end.div_ceil(SPACING).min(count);
            first.div_ceil(SPACING)..last
        };
        let rows = within(rows, area.top, area.bottom());
        let range = within(columns, area.left, area.right());
        rows.flat_map(|row| range.clone().map(move |column| row * columns + column))
            .collect()
    }

    /// Where some positions lie in a layer, as row and column of its response to the whole image.
    fn points(&self, layer: Layer, positions: &[usize]) -> Vec<[f32; 2]> {
        let [rows, columns] = self.grid;
        let step = |side: usize, count: usize| {
            let last = (side / layer.stride()).saturating_sub(1);
            last as f64 / (count - 1).max(1) as f64
        };
        let (down, right) = (step(self.size[0], rows), step(self.size[1], columns));
        let point = |&position: &usize| {
            let (row, column) = (position / columns, position % columns);
            [(row as f64 * down) as f32, (column as f64 * right) as f32]
        };
        positions.iter().map(point).collect()
    }
}

impl Hypercolumns {
    /// The features of every layer at some positions of a part of the image, not yet multiplied with
    /// the [`factors`](Self::factors): for each layer `[batch, channels, positions]`.
    pub fn columns<B: StyleBackend>(
        &self,
        part: &Part<B>,
        positions: &[usize],
    ) -> Vec<Tensor<B, 3>> {
        let layers = self.layers.iter();
        layers
            .map(|&(layer, _)| part.sample(layer, &self.points(layer, positions)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_the_positions_of_the_grid() {
        assert_eq!(Hypercolumns::GRID_LAYER.stride(), SPACING);
    }
}
