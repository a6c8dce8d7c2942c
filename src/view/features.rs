//! Feature maps: what the channels of a layer respond to.

use burn::tensor::Tensor;

use super::sheet;
use crate::encoder::{EncoderError, Layer, LayerKind, Tap, Vgg19};
use crate::eval::{PartReading, Tile, features_in_tiles, parts};
use crate::kernel::{StyleBackend, indices};
use crate::picture::Picture;
use crate::transfer::Recipe;

/// One channel of a layer's response to a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// Index of the channel.
    pub channel: usize,
    /// Mean of its squared responses.
    pub strength: f32,
    /// Width in positions.
    pub width: usize,
    /// Height in positions.
    pub height: usize,
    /// The responses, row by row from the top.
    pub values: Vec<f32>,
}

/// What is white in the picture of a feature map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scaling {
    /// The largest response of each map on its own: every map uses the whole range.
    #[default]
    Each,
    /// The largest response of all maps shown: weak channels look dark.
    Shared,
}

impl FeatureMap {
    fn range(&self) -> (f32, f32) {
        // The ReLU's zero is black; before the ReLU there is something below it.
        let bounds = (0f32, 0f32);
        let values = self.values.iter();
        values.fold(bounds, |(low, high), &value| {
            (low.min(value), high.max(value))
        })
    }

    /// A grey picture with `black` and all below black, and `white` and all above white.
    pub fn picture(&self, black: f32, white: f32) -> Picture {
        let scale = match white - black {
            range if range > 0.0 => 1.0 / range,
            _ => 0.0,
        };
        let grey = |value: &f32| [(value - black) * scale; 3];
        let rgb = self.values.iter().flat_map(grey).collect();
        Picture::from_rgb(self.width, self.height, rgb).expect("as many values as positions")
    }
}

/// Pixels along a side of the tiles in which a picture's features are computed, of which no more is kept
/// than is shown.
const TILE: usize = 512;

/// All channels of a layer, strongest first.
///
/// # Errors
/// [`EncoderError`] if the encoder cannot compute the layer from this picture.
pub fn feature_maps<B: StyleBackend>(
    encoder: &Vgg19<B>,
    picture: &Picture,
    layer: Layer,
) -> Result<Vec<FeatureMap>, EncoderError> {
    let image = picture.to_tensor(&encoder.device());
    let features = features_in_tiles(encoder, &image, &[layer], Some(TILE), |x| x)?;
    let mut maps = maps_of(features.get(layer).clone());
    maps.sort_by(|a, b| b.strength.total_cmp(&a.strength));
    Ok(maps)
}

/// The strongest `count` channels of a layer, strongest first.
fn strongest<B: StyleBackend>(
    encoder: &Vgg19<B>,
    picture: &Picture,
    layer: Layer,
    count: usize,
) -> Result<Vec<FeatureMap>, EncoderError> {
    let device = encoder.device();
    let image = picture.to_tensor(&device);
    let [_, _, height, width] = image.dims();
    let tiles = Tile::grid([height, width], Some(TILE), &[layer], 0);
    let reading = PartReading {
        taps: &[Tap::features(layer)],
        distances: &[],
        margin: 0,
    };
    let mut squares: Option<Tensor<B, 2>> = None;
    for part in parts(encoder, &image, reading, &tiles) {
        let squared = part?.features(layer).powi_scalar(2);
        let sums = squared.flatten::<3>(2, 3).sum_dim(2).flatten(1, 2);
        squares = Some(match squares {
            Some(squares) => squares + sums,
            None => sums,
        });
    }
    let squares: Vec<f32> = squares.expect("a tile").into_data().iter().collect();
    let mut channels: Vec<usize> = (0..squares.len()).collect();
    channels.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    channels.truncate(count);
    let shown = indices(&channels, &device);
    let features = features_in_tiles(encoder, &image, &[layer], Some(TILE), |x| {
        x.select(1, shown.clone())
    })?;
    let mut maps = maps_of(features.get(layer).clone());
    for (map, channel) in maps.iter_mut().zip(channels) {
        map.channel = channel;
    }
    Ok(maps)
}

fn maps_of<B: StyleBackend>(response: Tensor<B, 4>) -> Vec<FeatureMap> {
    let [_, _, height, width] = response.dims();
    let values: Vec<f32> = response.into_data().iter().collect();
    let map = |(channel, values): (usize, &[f32])| FeatureMap {
        channel,
        strength: values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32,
        width,
        height,
        values: values.to_vec(),
    };
    values
        .chunks_exact(height * width)
        .enumerate()
        .map(map)
        .collect()
}

/// The pictures of maps, each with its channel for a label.
fn cells(maps: &[FeatureMap], scaling: Scaling) -> Vec<(String, Picture)> {
    let ranges = || maps.iter().map(FeatureMap::range);
    let shared = ranges().fold((0f32, 0f32), |a, b| (a.0.min(b.0), a.1.max(b.1)));
    let cell = |(map, own): (&FeatureMap, (f32, f32))| {
        let (black, white) = match scaling {
            Scaling::Each => own,
            Scaling::Shared => shared,
        };
        (map.channel.to_string(), map.picture(black, white))
    };
    maps.iter().zip(ranges()).map(cell).collect()
}

/// The strongest `count` channels of a layer in a square grid, each under its index; the longer
/// side of each map has `cell` pixels.
///
/// # Errors
/// See [`feature_maps`].
pub fn feature_sheet<B: StyleBackend>(
    encoder: &Vgg19<B>,
    picture: &Picture,
    layer: Layer,
    count: usize,
    scaling: Scaling,
    cell: usize,
) -> Result<Picture, EncoderError> {
    let maps = strongest(encoder, picture, layer, count.max(1))?;
    let columns = (maps.len() as f64).sqrt().ceil() as usize;
    let rows: Vec<_> = cells(&maps, scaling)
        .chunks(columns)
        .map(<[_]>::to_vec)
        .collect();
    let (width, height) = Recipe::default().dimensions(picture, cell.max(1));
    Ok(sheet(&rows, width, height))
}

/// Every ReLU output of the encoder that `picture` is large enough for, a row each, with the same
/// `count` channels (the first): how the maps become more and smaller with depth. The first cell
/// of a row is the mean over all channels.
///
/// # Errors
/// See [`feature_maps`].
pub fn feature_sheet_of_all_layers<B: StyleBackend>(
    encoder: &Vgg19<B>,
    picture: &Picture,
    count: usize,
    scaling: Scaling,
    cell: usize,
) -> Result<Picture, EncoderError> {
    let fits = |&layer: &Layer| {
        let check = encoder.check(picture.width(), picture.height(), &[layer]);
        layer.kind() == LayerKind::Relu && check.is_ok()
    };
    let layers: Vec<Layer> = Layer::all().filter(fits).collect();
    let image = picture.to_tensor(&encoder.device());
    let shown = features_in_tiles(encoder, &image, &layers, Some(TILE), |response| {
        let [_, channels, _, _] = response.dims();
        let first = response.clone().narrow(1, 0, count.clamp(1, channels));
        Tensor::cat(vec![response.mean_dim(1), first], 1)
    })?;
    let mut rows = Vec::new();
    for (&layer, width_of_layer) in layers.iter().zip(encoder.widths()) {
        let response = shown.get(layer).clone();
        let [_, cells_of_row, height, width] = response.dims();
        let mut mean = maps_of(response.clone().narrow(1, 0, 1));
        let (black, white) = mean[0].range();
        let channels = width_of_layer.projected;
        let label = format!("{layer} {channels}×{width}×{height}");
        let mut row = vec![(label, mean.remove(0).picture(black, white))];
        let shown = response.narrow(1, 1, cells_of_row - 1);
        row.extend(cells(&maps_of(shown), scaling));
        rows.push(row);
    }
    let (width, height) = Recipe::default().dimensions(picture, cell.max(1));
    Ok(sheet(&rows, width, height))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::encoder::Vgg19Config;
    use burn::backend::Flex;

    fn picture(width: usize, height: usize) -> Picture {
        let rgb = (0..3 * width * height).map(|i| (i * 37 % 101) as f32 / 100.0);
        Picture::from_rgb(width, height, rgb.collect()).unwrap()
    }

    #[test]
    fn maps_are_the_responses_strongest_first() {
        let encoder = Vgg19Config::new()
            .with_width(4)
            .init::<Flex>(&Default::default());
        let picture = picture(10, 6);
        let maps = feature_maps(&encoder, &picture, Layer::RELU2_1).unwrap();
        assert_eq!(maps.len(), 8);
        assert!(maps.is_sorted_by(|a, b| a.strength >= b.strength));
        let features = encoder.features(picture.to_tensor(&Default::default()), &[Layer::RELU2_1]);
        let expected: Vec<f32> = features
            .unwrap()
            .get(Layer::RELU2_1)
            .to_data()
            .iter()
            .collect();
        for map in &maps {
            assert_eq!((map.width, map.height), (5, 3));
            assert_eq!(map.values, expected[15 * map.channel..][..15]);
        }
    }

    #[test]
    fn maps_of_large_pictures_are_put_together_from_tiles() {
        let encoder = Vgg19Config::new()
            .with_width(4)
            .init::<Flex>(&Default::default());
        let (picture, layer) = (picture(2 * TILE + 70, 40), Layer::RELU2_1);
        let whole = encoder.features(picture.to_tensor(&Default::default()), &[layer]);
        let mut expected = maps_of(whole.unwrap().get(layer).clone());
        expected.sort_by(|a, b| b.strength.total_cmp(&a.strength));
        let near = |a: &FeatureMap, b: &FeatureMap| {
            assert_eq!(
                (a.channel, a.width, a.height),
                (b.channel, b.width, b.height)
            );
            let pairs = a.values.iter().zip(&b.values);
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
        };
        let all = feature_maps(&encoder, &picture, layer).unwrap();
        assert_eq!(all.len(), 8);
        all.iter().zip(&expected).for_each(|(a, b)| near(a, b));
        let three = strongest(&encoder, &picture, layer, 3).unwrap();
        assert_eq!(three.len(), 3);
        three.iter().zip(&expected).for_each(|(a, b)| near(a, b));
    }

    #[test]
    fn shared_scaling_keeps_weak_channels_dark() {
        let map = |channel, top| FeatureMap {
            channel,
            strength: top,
            width: 2,
            height: 1,
            values: vec![0.0, top],
        };
        let maps = [map(3, 4.0), map(1, 1.0)];
        let brightest = |scaling| -> Vec<f32> {
            let cells = cells(&maps, scaling);
            cells.iter().map(|(_, picture)| picture.rgb()[3]).collect()
        };
        assert_eq!(brightest(Scaling::Each), [1.0, 1.0]);
        assert_eq!(brightest(Scaling::Shared), [1.0, 0.25]);
        // A map without any response is black, not undefined.
        assert_eq!(map(0, 0.0).picture(0.0, 0.0).rgb(), [0.0; 6]);
    }

    #[test]
    fn sheets_have_a_cell_for_each_channel() {
        let encoder = Vgg19Config::new()
            .with_width(4)
            .init::<Flex>(&Default::default());
        let picture = picture(16, 8);
        let sheet = |count| {
            feature_sheet(&encoder, &picture, Layer::RELU1_1, count, Scaling::Each, 20).unwrap()
        };
        let (three, one) = (sheet(3), sheet(1));
        // Two columns and two rows against one of each, with the gap of the border.
        assert_eq!(2 * (one.width() - 4), three.width() - 4);
        assert_eq!(2 * (one.height() - 4), three.height() - 4);
        let all = feature_sheet_of_all_layers(&encoder, &picture, 2, Scaling::Shared, 20).unwrap();
        // relu1_1 to relu4_4: stride 8 is all that 8 pixels allow.
        assert_eq!((all.height() - 4) % 12, 0);
        assert_eq!(3 * (one.width() - 4), all.width() - 4);
    }
}
