//! VGG19's convolutional part as native Burn modules.

use std::ops::Range;
use std::path::Path;
#[cfg(feature = "builtin")]
use std::sync::OnceLock;

use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use xxhash_rust::xxh3::Xxh3;

use super::convolution::FrozenConv2d;
use super::features::Response;
use super::segments::{Step, segment_of, steps_to};
use super::{
    EncoderError, Features, Layer, LayerKind, Normalization, Padding, Pooling, SquaredDistance, Tap,
};
use crate::kernel::{
    self, Epilogue, Moments, Precision, Stage, StageShape, largest_response, segment_tiles,
};
use crate::rect::Rect;
use crate::tile::Tile;
use crate::weights::{Convolution, Vgg19Weights, WeightsError};

/// Shape of a network with VGG19's topology.
#[derive(Config, Debug)]
pub struct Vgg19Config {
    /// Channels of the first block; the blocks have 1, 2, 4, 8 and 8 times as many. 64 is the
    /// published network.
    #[config(default = 64)]
    pub width: usize,
    /// How the blocks are pooled.
    #[config(default = "Pooling::Max")]
    pub pooling: Pooling,
    /// Seed of the random weights.
    #[config(default = 0)]
    pub seed: u64,
}

impl Vgg19Config {
    /// A network with seeded random weights (He et al. 2015), for tests and experiments.
    ///
    /// # Panics
    /// If `width` is zero.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Vgg19<B> {
        Vgg19::from_weights(Vgg19Weights::random(self.width, self.seed), device)
            .with_pooling(self.pooling)
    }
}

/// The 16 convolutions of VGG19 (Simonyan and Zisserman, arXiv 1409.1556), without the classifier.
///
/// The parameters are frozen: only the gradient with respect to the image is ever needed.
///
/// ```no_run
/// use burn::backend::Flex;
/// use impasto::{Layer, Picture, Vgg19};
///
/// let device = Default::default();
/// let encoder = Vgg19::<Flex>::load("vgg19.safetensors", &device)?;
/// let image = Picture::open("photo.jpg")?.to_tensor(&device);
/// let features = encoder.features(image, &[Layer::RELU1_1, Layer::RELU4_2])?;
/// println!("{:?}", features.get(Layer::RELU4_2).dims());
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct Vgg19<B: Backend> {
    convolutions: Vec<FrozenConv2d<B>>,
    #[module(skip)]
    normalization: Normalization,
    #[module(skip)]
    pooling: Pooling,
    #[module(skip)]
    padding: Padding,
    #[module(skip)]
    precision: Precision,
    #[module(skip)]
    checksum: u128,
}

impl<B: Backend> Vgg19<B> {
    /// Reads weights from a file of any kind that [`Vgg19Weights::load`] knows.
    ///
    /// # Errors
    /// See [`Vgg19Weights::load`].
    pub fn load(path: impl AsRef<Path>, device: &B::Device) -> Result<Self, WeightsError> {
        Ok(Self::from_weights(Vgg19Weights::load(path)?, device))
    }

    /// The slim encoder that is part of the crate (see [`Vgg19Weights::builtin`]).
    #[cfg(feature = "builtin")]
    pub fn builtin(device: &B::Device) -> Self {
        Self::from_weights(Vgg19Weights::builtin(), device)
    }

    /// Builds the network from weights in memory.
    pub fn from_weights(weights: Vgg19Weights, device: &B::Device) -> Self {
        let normalization = weights.normalization;
        let checksum = checksum(&weights);
        let mut projections = weights.projections.into_iter();
        let build = |layer| same_size_convolution(layer, device);
        Self {
            convolutions: weights
                .convolutions
                .into_iter()
                .map(|layer| FrozenConv2d::new(build(layer), projections.next().map(build)))
                .collect(),
            normalization,
            pooling: Pooling::default(),
            padding: Padding::default(),
            precision: Precision::default(),
            checksum,
        }
        .no_grad()
    }

    /// The same network with other pools.
    pub fn with_pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = pooling;
        self
    }

    /// The same network with another border around the image.
    pub fn with_padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// The same network with another precision of its convolutions, where the device has a choice.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self.convolutions = self
            .convolutions
            .into_iter()
            .map(|convolution| convolution.with_precision(precision))
            .collect();
        self
    }

    /// The least precision of the convolutions.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The normalisation that the weights were trained with.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// What brings the features to the size that they have with torchvision's weights:
    /// [`Normalization::feature_scale`], for a slim encoder that of the Caffe training, whose features it
    /// was taught, whatever its own input is.
    pub fn feature_scale(&self) -> f64 {
        let mut convolutions = self.convolutions.iter();
        match convolutions.any(|convolution| convolution.projection().is_some()) {
            true => Normalization::CAFFE.feature_scale(),
            false => self.normalization.feature_scale(),
        }
    }

    /// How the blocks are pooled.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// What lies beyond the border of the image.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// A checksum of the weights that the network was built from: XXH3 with 128 bits of the shapes and
    /// of the values in single precision, little-endian: for each convolution, shallow to deep, its
    /// kernel and its biases, then the same for each projection. Equal weights in files of different
    /// kinds have the same.
    pub fn checksum(&self) -> u128 {
        self.checksum
    }

    /// What the network is called: `builtin` for the encoder inside this crate, `vgg19` for weights of
    /// VGG19's size, else `vgg19-like`.
    pub fn name(&self) -> &'static str {
        #[cfg(feature = "builtin")]
        if self.is_slim() {
            static BUILTIN: OnceLock<u128> = OnceLock::new();
            if self.checksum == *BUILTIN.get_or_init(|| checksum(&Vgg19Weights::builtin())) {
                return "builtin";
            }
        }
        let first = self.widths().first().map(|width| width.channels_out);
        match !self.is_slim() && first == Some(64) {
            true => "vgg19",
            false => "vgg19-like",
        }
    }

    /// Where the parameters live.
    pub fn device(&self) -> B::Device {
        self.convolutions[0].layer().weight.val().device()
    }

    /// Kernels and biases of all convolutions, shallow to deep.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = TensorData> {
        let convolutions = self.convolutions.iter().map(FrozenConv2d::layer);
        let projections = self
            .convolutions
            .iter()
            .filter_map(FrozenConv2d::projection);
        let layers = convolutions.chain(projections);
        layers.flat_map(|layer| {
            let bias = layer.bias.as_ref().map(|bias| bias.val().into_data());
            [Some(layer.weight.val().into_data()), bias]
                .into_iter()
                .flatten()
        })
    }

    /// Channels of each convolution that the weights reach.
    pub(crate) fn widths(&self) -> Vec<Width> {
        let channels = |layer: &Conv2d<B>| layer.weight.val().dims()[0];
        let width = |prepared: &FrozenConv2d<B>| {
            let channels_out = channels(prepared.layer());
            Width {
                channels_out,
                projected: prepared.projection().map_or(channels_out, channels),
            }
        };
        self.convolutions.iter().map(width).collect()
    }

    /// The number of channels to normalise a loss with, `C` in the formulas of the terms: those of the
    /// layer in the network that this one is or, if it is slim, stands for. The projections of a slim
    /// encoder reproduce sums over VGG19's channels from fewer of their own.
    ///
    /// # Errors
    /// [`EncoderError::TooDeep`] if the weights do not reach the layer.
    pub fn channels(&self, layer: Layer) -> Result<usize, EncoderError> {
        match self.convolutions.get(layer.depth() - 1) {
            Some(_) if self.is_slim() => Ok(layer.channels(64)),
            Some(_) => Ok(self.widths()[layer.depth() - 1].projected),
            None => Err(self.too_deep(layer)),
        }
    }

    fn too_deep(&self, layer: Layer) -> EncoderError {
        let deepest = Layer::all()
            .take_while(|layer| layer.depth() <= self.convolutions.len())
            .filter(|layer| layer.kind() == LayerKind::Relu)
            .last()
            .unwrap_or(Layer::RELU1_1);
        EncoderError::TooDeep { layer, deepest }
    }

    /// Whether this is a slim network that stands for VGG19 through projections.
    pub fn is_slim(&self) -> bool {
        let projections = self
            .convolutions
            .iter()
            .filter_map(FrozenConv2d::projection);
        projections.count() > 0
    }

    /// Checks that every layer can be computed from an image of this size (in pixels).
    ///
    /// # Errors
    /// [`EncoderError::TooDeep`], [`EncoderError::NotRelu`] or [`EncoderError::ImageTooSmall`].
    pub fn check(&self, width: usize, height: usize, taps: &[Layer]) -> Result<(), EncoderError> {
        for &layer in taps {
            if layer.depth() > self.convolutions.len() {
                return Err(self.too_deep(layer));
            }
            if self.is_slim() && layer.kind() != LayerKind::Relu {
                return Err(EncoderError::NotRelu { layer });
            }
            let minimum = layer.stride();
            if width.min(height) < minimum {
                return Err(EncoderError::ImageTooSmall {
                    width,
                    height,
                    layer,
                    minimum,
                });
            }
        }
        Ok(())
    }
}

impl<B: kernel::StyleBackend> Vgg19<B> {
    /// Packs the weights of all layers up to the deepest of `taps`, which
    /// [`features`](Self::features) does otherwise at its first call. Clones share packed weights, at
    /// whatever time they are packed; [`valid`](burn::module::AutodiffModule::valid) shares those that
    /// are packed already.
    pub fn prepare(&self, taps: &[Layer]) {
        let depth = taps.iter().map(|layer| layer.depth()).max().unwrap_or(0);
        for convolution in self.convolutions.iter().take(depth) {
            convolution.weights();
        }
    }

    /// The responses of the layers in `taps` to `image`, computed no further than the deepest of them.
    ///
    /// # Shapes
    /// - `image`: `[batch, 3, height, width]`, RGB in `[0, 1]` (other values are not clamped)
    /// - each tap: `[batch, channels, ⌊height / stride⌋, ⌊width / stride⌋]` for the layer's
    ///   [`channels`](Layer::channels) and [`stride`](Layer::stride)
    ///
    /// # Errors
    /// See [`Vgg19::check`]; [`EncoderError::NotRgb`] for another number of channels.
    pub fn features(
        &self,
        image: Tensor<B, 4>,
        taps: &[Layer],
    ) -> Result<Features<B>, EncoderError> {
        let [_, _, height, width] = image.dims();
        let taps: Vec<Tap> = taps.iter().map(|&layer| Tap::features(layer)).collect();
        self.read(image, Reading::whole(&taps, [height, width]))
    }

    /// [`features`](Self::features) of which no more is kept than is read.
    pub(crate) fn read(
        &self,
        image: Tensor<B, 4>,
        reading: Reading<'_, B>,
    ) -> Result<Features<B>, EncoderError> {
        let [_, channels, height, width] = image.dims();
        if channels != 3 {
            return Err(EncoderError::NotRgb { channels });
        }
        let layers: Vec<Layer> = reading.taps.iter().map(|tap| tap.layer).collect();
        self.check(width, height, &layers)?;
        let steps = steps_to(layers.iter().max().copied());
        let values = reading.segment_values;
        let segments = self.segments([height, width], &steps, reading.taps, values);
        let mut responses = Responses {
            reading,
            found: Vec::new(),
            distances: Vec::new(),
        };
        // Segments normalise tile by tile.
        let mut x = match segments.first() {
            Some(segment) if segment.steps.start == 0 => image,
            _ => self.normalization.apply(image),
        };
        let mut padded = self.padding.apply(&x);
        let mut first = 0;
        while let Some(step) = steps.get(first) {
            let segment = segments.iter().find(|segment| segment.steps.start == first);
            x = match (segment, padded.take()) {
                (Some(segment), _) => self.segment(x, segment, &steps, &mut responses),
                (None, None) => self.step(x, first, step, &mut responses, |y| y),
                (None, Some(wide)) => self.step(wide, first, step, &mut responses, |y| {
                    y.narrow(2, 1, height).narrow(3, 1, width)
                }),
            };
            first = segment.map_or(first + 1, |segment| segment.steps.end);
        }
        let Responses {
            found, distances, ..
        } = responses;
        Ok(Features::with_responses(found, distances, self.precision))
    }

    /// Those of some steps that are computed as segments, for an image of `size` (height and width), see
    /// [`Reading::segment_values`].
    pub(crate) fn segments(
        &self,
        size: [usize; 2],
        steps: &[Step],
        taps: &[Tap],
        values: Option<usize>,
    ) -> Vec<Segment> {
        // Without a number of values only the first block of a large image: its responses are the largest of
        // all, and cost the least to compute once more.
        let first_block = steps.partition_point(|step| step.convolution.block() == 1);
        let (values, least, last) = match values {
            Some(values) => (values, 0, steps.len()),
            None => (B::SEGMENT_VALUES, LARGE * B::SEGMENT_VALUES, first_block),
        };
        let widths = self.widths();
        let shape = |(step, width): (&Step, &Width)| StageShape {
            channels: width.projected,
            epilogue: step.epilogue(self.pooling),
        };
        // What lies beyond the border of the image is the first convolution's alone.
        let mut first = usize::from(self.padding != Padding::Zero);
        let mut segments = Vec::new();
        while first < last {
            let stride = steps[first].convolution.stride();
            let end = first + segment_of(&steps[first..last], taps);
            let shapes = steps[first..end].iter().zip(&widths[first..end]).map(shape);
            let shapes: Vec<StageShape> = shapes.collect();
            let size = size.map(|side| side / stride);
            let tiles = segment_tiles(size, &shapes, values);
            let is_large = largest_response(Rect::whole(size), &shapes) > least;
            // In one tile there is nothing to save.
            if end > first && tiles.len() > 1 && is_large {
                segments.push(Segment {
                    steps: first..end,
                    values,
                    tile_values: largest_response(Tile::largest(&tiles).window, &shapes),
                });
            }
            first = end.max(first + 1);
        }
        segments
    }

    /// Several convolutions of which no more than the last one's response is there as a whole.
    fn segment(
        &self,
        x: Tensor<B, 4>,
        segment: &Segment,
        steps: &[Step],
        responses: &mut Responses<'_, B>,
    ) -> Tensor<B, 4> {
        let steps = &steps[segment.steps.clone()];
        let (last, within) = steps.split_last().expect("a step at least");
        // The response of the last one is there as a whole.
        let read = within.iter().map(|step| responses.read_of(step.response()));
        let read: Vec<_> = read.chain([(None, Vec::new())]).collect();
        let prepared = self.convolutions[segment.steps.clone()].iter().zip(steps);
        let stages = prepared
            .zip(&read)
            .map(|((prepared, step), (moments, of))| Stage {
                convolution: prepared.weights(),
                epilogue: step.epilogue(self.pooling),
                moments: *moments,
                distances: of.iter().map(SquaredDistance::of_stage).collect(),
            });
        let stride = steps[0].convolution.stride();
        let area = responses.reading.area.at_stride(stride);
        let before = match segment.steps.start {
            0 => Some(self.normalization.pointwise(&x.device(), x.dtype())),
            _ => None,
        };
        let (x, found) = B::convolve_segment(x, before, stages.collect(), area, segment.values);
        for (step, (read, found)) in within.iter().zip(read.into_iter().zip(found)) {
            let ((moments, distances), mut found) = (read, found.into_iter());
            let layer = step.response();
            let moments = moments.and_then(|_| found.next());
            if responses.tap(layer).is_some() {
                responses.found.push((layer, Response::Moments(moments)));
            }
            let found = found.map(|found| found.flatten(0, 2));
            responses.distances.extend(distances.into_iter().zip(found));
        }
        responses.keep(last.response(), || x.clone());
        x
    }

    /// One convolution, fused with what follows it unless what lies between is read. `crop` is applied to
    /// its response.
    fn step(
        &self,
        x: Tensor<B, 4>,
        index: usize,
        step: &Step,
        responses: &mut Responses<'_, B>,
        crop: impl Fn(Tensor<B, 4>) -> Tensor<B, 4>,
    ) -> Tensor<B, 4> {
        let tapped = |layer| responses.tap(layer).is_some();
        let epilogue = match (step.relu, step.pool) {
            (Some(relu), Some(_)) if !tapped(step.convolution) && !tapped(relu) => {
                Epilogue::ReluPool(self.pooling)
            }
            (Some(_), _) if !tapped(step.convolution) => Epilogue::Relu,
            _ => Epilogue::None,
        };
        let mut weights = self.convolutions[index].weights();
        // The projection comes after the pool: where the pool is not fused, neither is the projection.
        let separate = match (epilogue, step.pool) {
            (Epilogue::Relu, Some(_)) => weights.projection.take(),
            _ => None,
        };
        let project = |x: Tensor<B, 4>| match &separate {
            Some(projection) => B::conv1x1(x, projection.clone(), None),
            None => x,
        };
        let mut x = crop(B::convolve(x, &weights, epilogue));
        responses.keep(step.convolution, || x.clone());
        if let Some(layer) = step.relu {
            if epilogue == Epilogue::None {
                x = relu(x);
            }
            responses.keep(layer, || project(x.clone()));
        }
        if let Some(layer) = step.pool {
            if !matches!(epilogue, Epilogue::ReluPool(_)) {
                x = project(B::pool(x, self.pooling));
            }
            responses.keep(layer, || x.clone());
        }
        x
    }
}

/// The first block of an image is a segment in any case if its responses have more values than this many
/// tiles. On a CPU at 1024² that takes a quarter less memory, and 4 to 5 % more time.
const LARGE: usize = 4;

/// Steps that are computed as a segment, see [`segment_of`].
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub steps: Range<usize>,
    /// About how many values the largest response within a tile has.
    pub values: usize,
    /// How many it has, with the halo of the tile.
    pub tile_values: usize,
}

/// What is read of an image's features.
#[derive(Clone, Debug)]
pub(crate) struct Reading<'a, B: Backend> {
    /// The layers.
    pub taps: &'a [Tap],
    /// The distances of those that are [read by them](Tap::distances), with targets for `area`.
    pub distances: &'a [SquaredDistance<B>],
    /// Whether the whole network is computed in segments, so that of a large image no more is kept than is
    /// read: less memory, and more time. About how many values a response has within a tile of a segment.
    /// Without it, only the first block of an image is one whose responses have more than [`LARGE`] times
    /// [`SEGMENT_VALUES`](kernel::StyleBackend::SEGMENT_VALUES).
    pub segment_values: Option<usize>,
    /// The pixels whose moments are read.
    pub area: Rect,
    /// Those whose features are read: more, for terms that look beyond their part. Corners of both are
    /// corners of positions of all layers.
    pub seen: Rect,
}

impl<'a, B: Backend> Reading<'a, B> {
    /// Layers of a whole image of `size` (height and width), compared with nothing.
    fn whole(taps: &'a [Tap], size: [usize; 2]) -> Self {
        let area = Rect::whole(size);
        Self {
            taps,
            distances: &[],
            segment_values: None,
            area,
            seen: area,
        }
    }
}

/// The responses so far.
struct Responses<'a, B: Backend> {
    reading: Reading<'a, B>,
    found: Vec<(Layer, Response<B>)>,
    distances: Vec<(SquaredDistance<B>, Tensor<B, 1>)>,
}

impl<B: kernel::StyleBackend> Responses<'_, B> {
    fn tap(&self, layer: Layer) -> Option<&Tap> {
        self.reading.taps.iter().find(|tap| tap.layer == layer)
    }

    /// What is read of a layer besides its features.
    fn read_of(&self, layer: Layer) -> (Option<Moments>, Vec<SquaredDistance<B>>) {
        let distances = self.reading.distances.iter();
        let distances = distances.filter(|distance| distance.layer == layer);
        let moments = self.tap(layer).and_then(|tap| tap.moments);
        (moments, distances.cloned().collect())
    }

    /// Keeps the response of a layer where it is read.
    fn keep(&mut self, layer: Layer, response: impl FnOnce() -> Tensor<B, 4>) {
        if self.tap(layer).is_some() {
            let seen = self.reading.seen.at_stride(layer.stride());
            let response = Response::Kept(B::crop(response(), seen));
            self.found.push((layer, response));
        }
    }
}

/// Channels of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Width {
    /// Its own.
    pub channels_out: usize,
    /// Those of its projection, which are all that the next layer sees; its own where it has none.
    pub projected: usize,
}

/// See [`Vgg19::checksum`].
fn checksum(weights: &Vgg19Weights) -> u128 {
    let mut sum = Xxh3::new();
    let mut values = |values: &[f32]| {
        sum.update(&(values.len() as u64).to_le_bytes());
        #[cfg(target_endian = "little")]
        sum.update(bytemuck::cast_slice(values));
        #[cfg(target_endian = "big")]
        values
            .iter()
            .for_each(|value| sum.update(&value.to_le_bytes()));
    };
    for layer in weights.convolutions.iter().chain(&weights.projections) {
        values(&layer.shape.map(|side| side as f32));
        values(&layer.weight);
        values(layer.bias.as_deref().unwrap_or_default());
    }
    sum.digest128()
}

/// A same-size convolution with stride 1 that holds the given values.
fn same_size_convolution<B: Backend>(layer: Convolution, device: &B::Device) -> Conv2d<B> {
    let [channels_out, channels_in, height, width] = layer.shape;
    let mut convolution = Conv2dConfig::new([channels_in, channels_out], [height, width])
        .with_padding(PaddingConfig2d::Explicit(
            height / 2,
            width / 2,
            height / 2,
            width / 2,
        ))
        .with_bias(layer.bias.is_some())
        // Never drawn: the parameter is lazy, and replaced in the next line.
        .with_initializer(burn::nn::Initializer::Zeros)
        .init(device);
    let weight = TensorData::new(layer.weight, layer.shape);
    convolution.weight = Param::initialized(ParamId::new(), Tensor::from_data(weight, device));
    convolution.bias = layer.bias.map(|bias| {
        let bias = TensorData::new(bias, [channels_out]);
        Param::initialized(ParamId::new(), Tensor::from_data(bias, device))
    });
    convolution
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Distribution, Tolerance};

    use super::*;

    /// A network whose first block has eight channels.
    fn encoder() -> Vgg19<Flex> {
        Vgg19::from_weights(Vgg19Weights::random(8, 1), &Default::default())
    }

    /// First step and end of the segments of a square image, if no number of values is asked for.
    fn segments(encoder: &Vgg19<Flex>, side: usize, taps: &[Tap]) -> Vec<[usize; 2]> {
        let steps = steps_to(taps.iter().map(|tap| tap.layer).max());
        let segments = encoder.segments([side, side], &steps, taps, None);
        let steps = segments.iter().map(|segment| &segment.steps);
        steps.map(|steps| [steps.start, steps.end]).collect()
    }

    #[test]
    fn the_first_block_of_a_large_image_is_a_segment() {
        let encoder = encoder();
        let gram = |layer| Tap::moments(layer, Moments::Gram);
        let taps = [
            gram(Layer::RELU1_1),
            gram(Layer::RELU2_1),
            gram(Layer::RELU3_1),
        ];
        let large = (LARGE * <Flex as kernel::StyleBackend>::SEGMENT_VALUES / 8).isqrt();
        assert!(segments(&encoder, large, &taps).is_empty());
        assert_eq!(segments(&encoder, large + 1, &taps), [[0, 2]]);
        // Not if its features are read, or if it ends with its first convolution.
        let features = [Tap::features(Layer::RELU1_1), gram(Layer::RELU2_1)];
        assert!(segments(&encoder, 2 * large, &features).is_empty());
        assert!(segments(&encoder, 2 * large, &taps[..1]).is_empty());
        let replicated = encoder.with_padding(Padding::Replicate);
        assert!(segments(&replicated, 2 * large, &taps).is_empty());
    }

    #[test]
    fn moments_are_those_of_the_features() {
        let encoder = encoder();
        let device = Default::default();
        let image = Tensor::random([1, 3, 83, 70], Distribution::Uniform(0.0, 1.0), &device);
        let layers = [Layer::RELU1_1, Layer::RELU2_1];
        let taps = layers.map(|layer| Tap::moments(layer, Moments::GramAndMean));
        let reading = Reading::whole(&taps, [83, 70]);
        let found = encoder.read(image.clone(), reading).unwrap();
        let expected = encoder.features(image, &layers).unwrap();
        assert!(matches!(found.response(layers[0]), Response::Moments(_)));
        for layer in layers {
            let tolerance = Tolerance::<f32>::relative(1e-4);
            let gram = expected.gram(layer).into_data();
            found
                .gram(layer)
                .into_data()
                .assert_approx_eq(&gram, tolerance);
            let mean = expected.mean(layer).into_data();
            found
                .mean(layer)
                .into_data()
                .assert_approx_eq(&mean, tolerance);
        }
    }
}
