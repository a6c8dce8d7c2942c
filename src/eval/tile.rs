//! An image cut into tiles, each with the pixels around it that its features depend on.

use burn::tensor::{Tensor, backend::Backend};

use crate::encoder::{EncoderError, Features, Reading, SquaredDistance, Tap, Vgg19, architecture};
use crate::kernel::StyleBackend;
use crate::layer::Layer;
use crate::loss::Part;

pub use crate::tile::Tile;

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
        Self::cut(size, [side; 2], stride, halo + margin)
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

/// What is read of a part.
#[derive(Clone, Debug)]
pub(crate) struct PartReading<'a, B: Backend> {
    /// The layers.
    pub taps: &'a [Tap],
    /// The distances that are read of them.
    pub distances: &'a [SquaredDistance<B>],
    /// Pixels beyond the part that are read.
    pub margin: usize,
}

/// The part of an image of `size` that a tile is, given the pixels of its window.
pub(super) fn part<B: StyleBackend>(
    encoder: &Vgg19<B>,
    window: Tensor<B, 4>,
    reading: PartReading<'_, B>,
    tile: &Tile,
    size: [usize; 2],
) -> Result<Part<B>, EncoderError> {
    let stride = reading.taps.iter().map(|tap| tap.layer.stride()).max();
    let margin = reading.margin.next_multiple_of(stride.unwrap_or(1));
    let seen = tile.area.expanded(margin, tile.window);
    let within = seen.relative_to(tile.window);
    let distances = reading.distances.iter();
    let distances: Vec<_> = distances
        .map(|distance| distance.within(tile.area.at_stride(distance.layer.stride())))
        .collect();
    let features = Reading {
        taps: reading.taps,
        distances: &distances,
        segment_values: Some(B::SEGMENT_VALUES),
        area: tile.area.relative_to(tile.window),
        seen: within,
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
    reading: PartReading<'a, B>,
    tiles: &'a [Tile],
) -> impl Iterator<Item = Result<Part<B>, EncoderError>> + 'a {
    let [_, _, height, width] = image.dims();
    tiles.iter().map(move |tile| {
        let window = B::crop(image.clone(), tile.window);
        part(encoder, window, reading.clone(), tile, [height, width])
    })
}

/// The features of an image at some layers, or what `kept` leaves of their channels, put together from
/// tiles.
pub(crate) fn features_in_tiles<B: StyleBackend>(
    encoder: &Vgg19<B>,
    image: &Tensor<B, 4>,
    layers: &[Layer],
    side: Option<usize>,
    kept: impl Fn(Tensor<B, 4>) -> Tensor<B, 4>,
) -> Result<Features<B>, EncoderError> {
    let [_, _, height, width] = image.dims();
    let tiles = Tile::grid([height, width], side, layers, 0);
    let mut layers = layers.to_vec();
    layers.sort();
    layers.dedup();
    let mut whole: Vec<Option<Tensor<B, 4>>> = vec![None; layers.len()];
    let taps: Vec<Tap> = layers.iter().map(|&layer| Tap::features(layer)).collect();
    let reading = PartReading {
        taps: &taps,
        distances: &[],
        margin: 0,
    };
    for part in parts(encoder, image, reading, &tiles) {
        let part = part?;
        for (&layer, whole) in layers.iter().zip(&mut whole) {
            let features = kept(part.features(layer));
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
    use crate::rect::Rect;
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
        assert_eq!(tiles[4].area, Rect::between((336, 656), (336, 656)));
        assert_eq!(tiles[4].window, Rect::between((256, 736), (256, 700)));
        assert_eq!(tiles[11].area, Rect::between((976, 1000), (656, 700)));
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
