//! An image cut into tiles, each with the pixels around it that its features depend on.

use burn::tensor::Tensor;

use crate::encoder::{EncoderError, Features, Reading, Vgg19, architecture};
use crate::kernel::StyleBackend;
use crate::layer::Layer;
use crate::loss::Part;
use crate::rect::Rect;

/// A tile of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The pixels that belong to the tile. Those of all tiles are disjoint and cover the image.
    pub area: Rect,
    /// The same with the halo: the pixels around it that its features depend on, as far as the image
    /// reaches.
    pub window: Rect,
}

impl Tile {
    /// The tiles of an image of `size` (height and width), row by row, of about `side` pixels on a
    /// side; one that is the image itself without a `side`.
    ///
    /// `side` is rounded up to a multiple of four times the stride of the deepest layer, and windows
    /// begin at such multiples: there neither pooling windows nor the 4×4 tiles of a Winograd
    /// convolution are cut, so that features differ from those of the whole image by rounding at most.
    /// What is left over at the right and at the bottom is a tile of its own only if it has a position
    /// at every layer. The halo is the receptive field of the deepest layer beyond its own pixels, and
    /// `margin` beyond that.
    pub fn grid(
        size: [usize; 2],
        side: Option<usize>,
        layers: &[Layer],
        margin: usize,
    ) -> Vec<Self> {
        let stride = layers.iter().map(|layer| layer.stride()).max().unwrap_or(1);
        let halo = layers.iter().map(|&layer| reach(layer)).max().unwrap_or(0);
        let halo = (halo + margin).next_multiple_of(stride);
        let [rows, columns] = size.map(|length| cuts(length, side, stride, halo));
        let around = |(start, end): (usize, usize), length: usize| {
            (start.saturating_sub(halo), (end + halo).min(length))
        };
        let mut tiles = Vec::new();
        for &row in &rows {
            for &column in &columns {
                tiles.push(Self {
                    area: rect(row, column),
                    window: rect(around(row, size[0]), around(column, size[1])),
                });
            }
        }
        tiles
    }

    /// The tile of [`grid`](Self::grid) that is largest with its halo.
    pub(crate) fn largest(tiles: &[Self]) -> Self {
        let largest = tiles.iter().max_by_key(|tile| tile.window.count());
        *largest.expect("a tile at least")
    }
}

/// Pixels on each side of a position's own that its value depends on.
fn reach(layer: Layer) -> usize {
    let facts = architecture(1, 1)
        .into_iter()
        .find(|facts| facts.layer == layer);
    facts.map_or(0, |facts| {
        (facts.receptive_field - layer.stride()).div_ceil(2)
    })
}

/// Where a side of an image is cut: first and end of each piece.
fn cuts(length: usize, side: Option<usize>, stride: usize, halo: usize) -> Vec<(usize, usize)> {
    let Some(side) = side else {
        return vec![(0, length)];
    };
    let grid = 4 * stride;
    // Any larger tile is the whole side too.
    let side = side.clamp(1, length.max(1)).next_multiple_of(grid);
    // A piece begins a halo behind a line of the grid.
    let starts = (side + halo % grid..).step_by(side);
    let starts = starts.take_while(|start| start + stride <= length);
    let starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    let ends = starts.iter().skip(1).copied().chain([length]);
    starts.iter().copied().zip(ends).collect()
}

fn rect((top, bottom): (usize, usize), (left, right): (usize, usize)) -> Rect {
    Rect {
        top,
        left,
        height: bottom - top,
        width: right - left,
    }
}

/// What is read of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartReading<'a> {
    /// The layers.
    pub layers: &'a [Layer],
    /// Those of which more than Gram matrices and means are read.
    pub kept: &'a [Layer],
    /// Pixels beyond the part that are read.
    pub margin: usize,
}

/// The part of an image of `size` that a tile is, given the pixels of its window.
pub(super) fn part<B: StyleBackend>(
    encoder: &Vgg19<B>,
    window: Tensor<B, 4>,
    reading: PartReading<'_>,
    tile: &Tile,
    size: [usize; 2],
) -> Result<Part<B>, EncoderError> {
    let stride = reading.layers.iter().map(|layer| layer.stride()).max();
    let margin = reading.margin.next_multiple_of(stride.unwrap_or(1));
    let seen = tile.area.expanded(margin, tile.window);
    let within = seen.relative_to(tile.window);
    let features = Reading {
        taps: reading.layers,
        kept: Some(reading.kept),
        area: Some(within),
    };
    let features = encoder.read(window.clone(), features)?;
    let pixels = B::crop(window, within);
    Ok(Part::within(pixels, features, seen, tile.area, size))
}

/// The parts of an image, `[batch, 3, height, width]`, RGB in `[0, 1]`, that its tiles are, computed
/// one after another.
pub(crate) fn parts<'a, B: StyleBackend>(
    encoder: &'a Vgg19<B>,
    image: &'a Tensor<B, 4>,
    reading: PartReading<'a>,
    tiles: &'a [Tile],
) -> impl Iterator<Item = Result<Part<B>, EncoderError>> + 'a {
    let [_, _, height, width] = image.dims();
    tiles.iter().map(move |tile| {
        let window = B::crop(image.clone(), tile.window);
        part(encoder, window, reading, tile, [height, width])
    })
}

/// The features of an image at some layers, put together from tiles.
pub(crate) fn features_in_tiles<B: StyleBackend>(
    encoder: &Vgg19<B>,
    image: &Tensor<B, 4>,
    layers: &[Layer],
    side: Option<usize>,
) -> Result<Features<B>, EncoderError> {
    let [_, _, height, width] = image.dims();
    let tiles = Tile::grid([height, width], side, layers, 0);
    if let [_] = tiles[..] {
        return encoder.features(image.clone(), layers);
    }
    let mut layers = layers.to_vec();
    layers.sort();
    layers.dedup();
    let mut whole: Vec<Option<Tensor<B, 4>>> = vec![None; layers.len()];
    let reading = PartReading {
        layers: &layers,
        kept: &layers,
        margin: 0,
    };
    for part in parts(encoder, image, reading, &tiles) {
        let part = part?;
        for (&layer, whole) in layers.iter().zip(&mut whole) {
            let features = part.features(layer);
            let (area, size) = (part.positions(layer), part.layer_size(layer));
            // Taken out, so that it is changed in place.
            *whole = Some(B::crop_backward(features, area, size, whole.take()));
        }
    }
    let responses = layers.into_iter().zip(whole.into_iter().flatten());
    Ok(Features::new(responses.collect(), encoder.precision()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halos_are_receptive_fields() {
        for (layer, expected) in [
            (Layer::RELU1_1, 1),
            (Layer::POOL1, 2),
            (Layer::RELU2_1, 4),
            (Layer::RELU3_1, 10),
            (Layer::RELU4_1, 30),
            (Layer::RELU5_1, 70),
        ] {
            assert_eq!(reach(layer), expected, "{layer}");
        }
        let tiles = Tile::grid([1000, 700], Some(300), &[Layer::RELU5_1], 1);
        // 300 pixels become 320, a multiple of 64; the halo is 80, the multiple of 16 after 70.
        assert_eq!(tiles.len(), 4 * 3);
        assert_eq!(tiles[4].area, rect((336, 656), (336, 656)));
        assert_eq!(tiles[4].window, rect((256, 736), (256, 700)));
        assert_eq!(tiles[11].area, rect((976, 1000), (656, 700)));
        for side in [None, Some(1001), Some(usize::MAX)] {
            assert_eq!(Tile::grid([1000, 700], side, &[Layer::RELU5_1], 1).len(), 1);
        }
    }

    proptest! {
        #[test]
        fn tiles_cover_every_position_once(
            height in 32usize..300, width in 32usize..300, side in 1usize..200, deep in 0usize..37,
        ) {
            let layer = Layer::all().nth(deep).unwrap();
            let tiles = Tile::grid([height, width], Some(side), &[layer], 0);
            let mut counts = vec![0; height * width];
            for tile in &tiles {
                let Rect { top, left, .. } = tile.area;
                for y in top..tile.area.bottom() {
                    for x in left..tile.area.right() {
                        counts[y * width + x] += 1;
                    }
                }
                for (area, window, length) in [
                    ((top, tile.area.bottom()), (tile.window.top, tile.window.bottom()), height),
                    ((left, tile.area.right()), (tile.window.left, tile.window.right()), width),
                ] {
                    prop_assert_eq!(window.0 % (4 * layer.stride()), 0);
                    prop_assert!(window.0 == 0 || area.0 - window.0 >= reach(layer));
                    prop_assert!(window.1 == length || window.1 - area.1 >= reach(layer));
                    prop_assert!(area.1 / layer.stride() > area.0 / layer.stride());
                }
            }
            prop_assert!(counts.iter().all(|&count| count == 1));
        }
    }
}
