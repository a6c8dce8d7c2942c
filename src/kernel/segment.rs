//! A segment of the network, computed tile by tile, so that what lies within it is never there as a whole.
//!
//! That is gradient checkpointing (Chen et al., arXiv 1604.06174) cut into tiles: of a segment only its input
//! and its output are kept, and masks of convolutions, at one bit a value. What else backward needs, the
//! responses that are read, by their [`Moments`] or their distance from a target, is computed once more in
//! each tile, and with them the masks of the convolutions up to the last of these. A tile has a halo of pixels
//! around it that its values depend on; what the halos of two tiles add to the gradient is added up.

use burn::tensor::{Tensor, backend::Backend};

use super::{BackwardMask, ConvOps, Epilogue, Moments, PackedConv2d, Precision};
use crate::rect::Rect;
use crate::tile::Tile;

/// One convolution of a segment, with what follows it.
#[derive(Clone, Debug)]
pub struct Stage<B: Backend> {
    /// The weights.
    pub convolution: PackedConv2d<B>,
    /// What follows the convolution.
    pub epilogue: Epilogue,
    /// The moments that are read of the response.
    pub moments: Option<Moments>,
    /// The squared distances that are read of it.
    pub distances: Vec<Target<B>>,
}

/// A linear map of the channels of every pixel, `y = matrix · x + bias`.
#[derive(Clone, Debug)]
pub struct Pointwise<B: Backend> {
    /// `[channels_out, channels_in]`.
    pub matrix: Tensor<B, 2>,
    /// `[channels_out]`.
    pub bias: Tensor<B, 1>,
}

/// What a response is compared with: `Σ (scale · (x − target))²` is read.
#[derive(Clone, Debug)]
pub struct Target<B: Backend> {
    /// Values for the positions that are read, `[1, channels, height, width]`, or for each image of a batch.
    pub values: Tensor<B, 4>,
    /// What differences are multiplied with.
    pub scale: f64,
}

/// The sizes of a [`Stage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageShape {
    /// Channels of the response.
    pub channels: usize,
    /// What follows the convolution.
    pub epilogue: Epilogue,
}

impl<B: ConvOps> Saved<B> {
    /// Any tensor.
    pub fn any(&self) -> &Tensor<B, 4> {
        &self.stages[0].convolution.weight
    }
}

impl<B: Backend> Stage<B> {
    /// Whether something is read of the response.
    fn is_read(&self) -> bool {
        self.moments.is_some() || !self.distances.is_empty()
    }

    /// Its sizes.
    pub fn shape(&self) -> StageShape {
        let channels = match &self.convolution.projection {
            Some(projection) => projection.dims()[0],
            None => self.convolution.weight.dims()[0],
        };
        StageShape {
            channels,
            epilogue: self.epilogue,
        }
    }
}

/// The tiles in which a segment of an image of `size` (height and width) is computed, so that no response
/// within a tile has many more than `values`.
pub(crate) fn tiles(size: [usize; 2], stages: &[StageShape], values: usize) -> Vec<Tile> {
    // Pixels for each position of a convolution, and the same of the last.
    let (mut stride, mut last, mut pixels) = (1, 1, usize::MAX);
    for stage in stages {
        last = stride;
        pixels = pixels.min(values / stage.channels.max(1) * stride * stride);
        stride *= stage.epilogue.stride();
    }
    let side = pixels.isqrt().max(1);
    // All about equally large.
    let sides = size.map(|length| Some(length.div_ceil(length.div_ceil(side).max(1))));
    Tile::cut(size, sides, stride, halo(stages).next_multiple_of(4 * last))
}

/// How many pixels beyond its own a tile looks, if the result is to have the same bits as that of the whole:
/// one for each convolution, and what else the 4×4 tiles of a Winograd convolution read.
fn halo(stages: &[StageShape]) -> usize {
    stages.iter().rev().fold(0, |positions, stage| {
        let positions: usize = positions * stage.epilogue.stride();
        // Of the six rows under a tile, only its last row depends on the last.
        match positions % 4 {
            0 => positions + 1,
            _ => positions.next_multiple_of(4),
        }
    })
}

/// Values of the largest response to the pixels of a tile's window.
pub(crate) fn largest_response(window: Rect, stages: &[StageShape]) -> usize {
    let mut stride = 1;
    let responses = stages.iter().map(|stage| {
        stride *= stage.epilogue.stride();
        stage.channels * window.at_stride(stride).count()
    });
    responses.max().unwrap_or(0)
}

/// The gradients with respect to what is read of a stage, as far as there are any.
pub(super) type ReadGradients<B> = Vec<Option<Tensor<B, 3>>>;

/// The masks of some stages, for one tile.
pub(super) type Masks<B> = Vec<Option<BackwardMask<B>>>;

/// What backward keeps of a segment.
#[derive(Clone, Debug)]
pub(super) struct Saved<B: ConvOps> {
    before: Option<Pointwise<B>>,
    stages: Vec<Stage<B>>,
    batch: usize,
    /// Height and width of the input.
    size: [usize; 2],
    /// The pixels of the input that belong to what is read.
    area: Rect,
    /// See [`tiles`].
    values: usize,
    /// Of each tile, those of the stages that are not computed once more.
    masks: Vec<Masks<B>>,
    /// The input, if something is read of the stages.
    x: Option<Tensor<B, 4>>,
}

/// What is read of a stage: its moments, `[batch, channels, channels]` or, with the mean as the last column,
/// `[batch, channels, channels + 1]`, if these are read; then its distances, `[batch, 1, 1]` each.
pub type Read<B> = Vec<Tensor<B, 3>>;

/// The response of the last stage, and what is read of each.
pub(super) struct Output<B: Backend> {
    pub response: Tensor<B, 4>,
    pub read: Vec<Read<B>>,
}

/// The positions of a tile that are read.
struct Own {
    /// As they lie in the tile's window.
    window: Rect,
    /// As they lie in what is read.
    area: Rect,
    /// Their share of what is read.
    share: f64,
}

impl Own {
    /// Those of `tile` at a stride that are within `area`.
    fn new(tile: &Tile, area: Rect, stride: usize) -> Option<Self> {
        let whole = area.at_stride(stride);
        let own = tile.area.at_stride(stride).intersection(whole)?;
        Some(Self {
            window: own.relative_to(tile.window.at_stride(stride)),
            area: own.relative_to(whole),
            share: own.count() as f64 / whole.count() as f64,
        })
    }
}

/// What is read of many tiles, added up in pairs of pairs, so that what is rounded does not grow with their
/// number (Higham, "The Accuracy of Floating Point Summation", 1993).
struct PairwiseSum<B: Backend> {
    /// Sums of ever fewer tiles, each with the logarithm of their number.
    sums: Vec<(u32, Read<B>)>,
}

impl<B: Backend> PairwiseSum<B> {
    fn new() -> Self {
        Self { sums: Vec::new() }
    }

    fn add(&mut self, mut read: Read<B>) {
        let mut level = 0;
        while let Some((_, sum)) = self.sums.pop_if(|(known, _)| *known == level) {
            read = Self::sum(sum, read);
            level += 1;
        }
        self.sums.push((level, read));
    }

    /// The sum of all; nothing if there is none.
    fn total(self) -> Read<B> {
        let sums = self.sums.into_iter().rev().map(|(_, sum)| sum);
        sums.reduce(|sum, larger| Self::sum(larger, sum))
            .unwrap_or_default()
    }

    fn sum(a: Read<B>, b: Read<B>) -> Read<B> {
        a.into_iter().zip(b).map(|(a, b)| a + b).collect()
    }
}

/// How many stages are computed once more for the gradient: those up to the last of which something is read.
fn recomputed<B: Backend>(stages: &[Stage<B>]) -> usize {
    let last = stages.iter().rposition(Stage::is_read);
    last.map_or(0, |last| last + 1)
}

/// The pixels of `x` in a rectangle, as the first stage takes them.
fn input_of<B: ConvOps>(
    x: &Tensor<B, 4>,
    window: Rect,
    before: Option<&Pointwise<B>>,
) -> Tensor<B, 4> {
    let x = B::crop(x.clone(), window);
    match before {
        Some(map) => B::conv1x1(x, map.matrix.clone(), Some(map.bias.clone())),
        None => x,
    }
}

/// The segment that `stages` are, applied to what `before` makes of `x`, with what is read of the positions
/// in `area`, in tiles of about `values`; with `save` also what [`backward`] needs.
pub(super) fn forward<B: ConvOps>(
    x: Tensor<B, 4>,
    before: Option<Pointwise<B>>,
    stages: Vec<Stage<B>>,
    area: Rect,
    values: usize,
    save: bool,
) -> (Output<B>, Option<Saved<B>>) {
    let [batch, _, height, width] = x.dims();
    let shapes: Vec<StageShape> = stages.iter().map(Stage::shape).collect();
    let (mut output, mut masks) = (None, Vec::new());
    let mut sums: Vec<_> = stages.iter().map(|_| PairwiseSum::new()).collect();
    let recomputed = recomputed(&stages);
    for tile in tiles([height, width], &shapes, values) {
        let mut response = input_of(&x, tile.window, before.as_ref());
        let (mut stride, mut tile_masks) = (1, Vec::new());
        for (index, (stage, sum)) in stages.iter().zip(&mut sums).enumerate() {
            let save = save && index >= recomputed;
            let (y, mask) = B::convolve(response, &stage.convolution, stage.epilogue, save);
            response = y;
            if save {
                tile_masks.push(mask);
            }
            stride *= stage.epilogue.stride();
            if stage.is_read()
                && let Some(own) = Own::new(&tile, area, stride)
            {
                sum.add(read_of(&response, stage, &own));
            }
        }
        masks.push(tile_masks);
        let area = tile.area.at_stride(stride);
        let response = B::crop(response, area.relative_to(tile.window.at_stride(stride)));
        let size = [height / stride, width / stride];
        output = Some(B::crop_backward(response, area, size, output));
    }
    let output = Output {
        response: output.expect("a tile"),
        read: sums.into_iter().map(PairwiseSum::total).collect(),
    };
    let saved = save.then(|| Saved {
        x: (recomputed > 0).then_some(x),
        before,
        stages,
        batch,
        size: [height, width],
        area,
        values,
        masks,
    });
    (output, saved)
}

/// The gradient with respect to the input of a segment, from those with respect to its response and to what
/// is read of its stages; added to `sum`, the gradient so far from other uses of the input.
pub(super) fn backward<B: ConvOps>(
    gradient: Option<Tensor<B, 4>>,
    read: Vec<ReadGradients<B>>,
    saved: Saved<B>,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let Saved {
        before,
        stages,
        batch,
        size,
        area,
        values,
        masks,
        x,
    } = saved;
    let shapes: Vec<StageShape> = stages.iter().map(Stage::shape).collect();
    let is_some = |gradients: &ReadGradients<B>| gradients.iter().any(Option::is_some);
    let recomputed = recomputed(&stages);
    // The pixels for each position of every stage.
    let mut strides = vec![1];
    strides.extend(shapes.iter().scan(1, |stride, shape| {
        *stride *= shape.epilogue.stride();
        Some(*stride)
    }));
    let mut sum = sum;
    for (tile, saved) in tiles(size, &shapes, values).iter().zip(masks) {
        // The masks of all stages, and the responses that are read.
        let (mut masks, mut kept) = (Vec::new(), Vec::new());
        if let Some(x) = &x {
            let mut response = input_of(x, tile.window, before.as_ref());
            for (stage, read) in stages.iter().zip(&read).take(recomputed) {
                let (y, mask) = B::convolve(response, &stage.convolution, stage.epilogue, true);
                response = y;
                masks.push(mask);
                kept.push(is_some(read).then(|| response.clone()));
            }
        }
        masks.extend(saved);
        kept.resize(stages.len(), None);
        let stride = strides[stages.len()];
        let rows = tile.area.at_stride(stride);
        let window = tile.window.at_stride(stride);
        let mut y = match &gradient {
            Some(gradient) => {
                let own = B::crop(gradient.clone(), rows);
                let size = [window.height, window.width];
                B::crop_backward(own, rows.relative_to(window), size, None)
            }
            None => {
                let weight = &stages[0].convolution.weight;
                let channels = shapes[shapes.len() - 1].channels;
                let shape = [batch, channels, window.height, window.width];
                Tensor::zeros(shape, (&weight.device(), weight.dtype()))
            }
        };
        for (index, (stage, mask)) in stages.iter().zip(masks).enumerate().rev() {
            let [before, after] = [strides[index], strides[index + 1]];
            if let Some(response) = kept[index].take()
                && let Some(own) = Own::new(tile, area, after)
            {
                y = read_backward(response, stage, &own, &read[index], y);
            }
            let window = tile.window.at_stride(before);
            let size = [window.height, window.width];
            y = B::convolve_backward(y, &stage.convolution, stage.epilogue, mask, size);
        }
        if let Some(map) = &before {
            y = B::conv1x1_backward(y, map.matrix.clone(), None);
        }
        sum = Some(B::crop_backward(y, tile.window, size, sum));
    }
    sum.expect("a tile")
}

/// What is read of the positions of a stage's response that are a tile's own.
fn read_of<B: ConvOps>(response: &Tensor<B, 4>, stage: &Stage<B>, own: &Own) -> Read<B> {
    let precision = stage.convolution.precision;
    let moments = stage
        .moments
        .map(|moments| moments_of(response, own.window, moments, precision).mul_scalar(own.share));
    let distances = stage.distances.iter().map(|target| {
        let seen = B::crop(response.clone(), own.window);
        let values = B::crop(target.values.clone(), own.area);
        let (seen, values) = (seen.flatten(1, 3), values.flatten(1, 3));
        let distances = B::squared_distances(seen, values, target.scale);
        let [batch] = distances.dims();
        distances.reshape([batch, 1, 1])
    });
    moments.into_iter().chain(distances).collect()
}

/// The gradient of [`read_of`] with respect to the response, added to `sum`.
fn read_backward<B: ConvOps>(
    response: Tensor<B, 4>,
    stage: &Stage<B>,
    own: &Own,
    gradients: &ReadGradients<B>,
    mut sum: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let [_, _, height, width] = response.dims();
    let mut gradients = gradients.iter();
    let moments = stage.moments.and_then(|_| gradients.next().cloned());
    for (target, gradient) in stage.distances.iter().zip(gradients) {
        let Some(gradient) = gradient.clone() else {
            continue;
        };
        let seen = B::crop(response.clone(), own.window);
        let shape = seen.dims();
        let values = B::crop(target.values.clone(), own.area).flatten(1, 3);
        let [batch, ..] = gradient.dims();
        let gradient = gradient.reshape([batch]);
        let seen = seen.flatten(1, 3);
        let added = B::squared_distances_backward(gradient, seen, values, target.scale);
        sum = B::crop_backward(added.reshape(shape), own.window, [height, width], Some(sum));
    }
    match moments.flatten() {
        Some(gradient) => {
            let gradient = gradient.mul_scalar(own.share);
            let precision = stage.convolution.precision;
            moments_backward(response, own.window, gradient, sum, precision)
        }
        None => sum,
    }
}

/// The moments of features `[batch, channels, height, width]` within a rectangle, see [`Read`].
fn moments_of<B: ConvOps>(
    features: &Tensor<B, 4>,
    area: Rect,
    moments: Moments,
    precision: Precision,
) -> Tensor<B, 3> {
    let gram = B::gram(features.clone(), area, precision);
    match moments {
        Moments::Gram => gram,
        Moments::GramAndMean => {
            let seen = B::crop(features.clone(), area);
            Tensor::cat(vec![gram, channel_means(seen).transpose()], 2)
        }
    }
}

/// The gradient of [`moments_of`] with respect to the features, added to `sum`.
fn moments_backward<B: ConvOps>(
    features: Tensor<B, 4>,
    area: Rect,
    gradient: Tensor<B, 3>,
    sum: Tensor<B, 4>,
    precision: Precision,
) -> Tensor<B, 4> {
    let [batch, channels, height, width] = features.dims();
    let [_, _, columns] = gradient.dims();
    if columns == channels {
        return B::gram_backward(features, area, gradient, Some(sum), precision);
    }
    let mean = gradient.clone().narrow(2, channels, 1);
    let mean = mean.div_scalar(area.count() as f64);
    let mean = mean.reshape([batch, channels, 1, 1]);
    let mean = mean.expand([batch, channels, area.height, area.width]);
    let sum = B::crop_backward(mean, area, [height, width], Some(sum));
    let gradient = gradient.narrow(2, 0, channels);
    B::gram_backward(features, area, gradient, Some(sum), precision)
}

/// The mean of each channel over all positions, `[batch, channels, height, width]` to
/// `[batch, 1, channels]`.
pub(crate) fn channel_means<B: Backend>(response: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, channels, height, width] = response.dims();
    let rows = response.reshape([batch, channels, height * width]);
    rows.mean_dim(2).transpose()
}
