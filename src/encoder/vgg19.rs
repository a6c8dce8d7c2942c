//! VGG19's convolutional part as native Burn modules.

use std::path::Path;
use std::sync::Arc;
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
use super::features::{Recomputed, Response};
use super::{EncoderError, Features, Layer, LayerKind, Normalization, Padding, Pooling};
use crate::kernel::{self, Epilogue, Precision};
use crate::rect::Rect;
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
        let reading = Reading {
            taps,
            kept: None,
            area: None,
        };
        self.read(image, reading)
    }

    /// Whether the first block is computed in strips for an image of `size` (height and width): if it is
    /// asked for, and no response within the block is needed as a whole.
    pub(crate) fn reads_in_strips(&self, size: [usize; 2], reading: Reading<'_>) -> bool {
        let within = |layer: &Layer| *layer < Layer::POOL1;
        let only_grams = |layer: &Layer| *layer == Layer::RELU1_1;
        reading.kept.is_some_and(|kept| {
            self.padding == Padding::Zero
                && B::has_strips(size)
                && reading.taps.iter().any(|layer| !within(layer))
                && reading.taps.iter().filter(|l| within(l)).all(only_grams)
                && !kept.iter().any(within)
        })
    }

    /// [`features`](Self::features) of which no more is kept than is read.
    pub(crate) fn read(
        &self,
        image: Tensor<B, 4>,
        reading: Reading<'_>,
    ) -> Result<Features<B>, EncoderError> {
        let taps = reading.taps;
        let [_, channels, height, width] = image.dims();
        let area = reading.area.unwrap_or(Rect::whole([height, width]));
        if channels != 3 {
            return Err(EncoderError::NotRgb { channels });
        }
        self.check(width, height, taps)?;
        let mut responses = Vec::new();
        let Some(&deepest) = taps.iter().max() else {
            return Ok(Features::with_responses(responses, self.precision));
        };
        let tapped = |layer| taps.contains(&layer);

        let mut x = self.normalization.apply(image);
        let mut padded = self.padding.apply(&x);
        let mut layers = Layer::all()
            .take_while(|&layer| layer <= deepest)
            .peekable();
        let mut convolutions = self.convolutions.iter();
        // The first two at once, where nothing between them and the pool is kept.
        if let [first, second, ..] = &self.convolutions[..]
            && self.reads_in_strips([height, width], reading)
        {
            let [first, second] = [first.weights(), second.weights()];
            let input = x;
            x = B::convolve_block(
                input.clone(),
                [&first, &second],
                Epilogue::ReluPool(self.pooling),
            );
            if tapped(Layer::RELU1_1) {
                let recomputed = Recomputed {
                    x: input,
                    convolution: first,
                    area,
                    response: Arc::default(),
                };
                let response = Response::Recomputed(Box::new(recomputed));
                responses.push((Layer::RELU1_1, response));
            }
            if tapped(Layer::POOL1) {
                let area = area.at_stride(Layer::POOL1.stride());
                responses.push((Layer::POOL1, Response::Kept(B::crop(x.clone(), area))));
            }
            convolutions.nth(1);
            layers.find(|&layer| layer == Layer::POOL1);
        }
        let mut keep = |layer, x: &Tensor<B, 4>| {
            if tapped(layer) {
                let response = B::crop(x.clone(), area.at_stride(layer.stride()));
                responses.push((layer, Response::Kept(response)));
            }
        };
        // A convolution is fused with what follows it unless a tap reads what lies between.
        for prepared in convolutions {
            let Some(convolution) = layers.next() else {
                break;
            };
            let rectified = layers.next_if(|layer| layer.kind() == LayerKind::Relu);
            let pooled = layers.next_if(|layer| layer.kind() == LayerKind::Pool);
            let epilogue = match (rectified, pooled) {
                (Some(relu), Some(_)) if !tapped(convolution) && !tapped(relu) => {
                    Epilogue::ReluPool(self.pooling)
                }
                (Some(_), _) if !tapped(convolution) => Epilogue::Relu,
                _ => Epilogue::None,
            };
            let mut weights = prepared.weights();
            // The projection comes after the pool: where the pool is not fused, neither is the projection.
            let separate = match (epilogue, pooled) {
                (Epilogue::Relu, Some(_)) => weights.projection.take(),
                _ => None,
            };
            let project = |x: Tensor<B, 4>| match &separate {
                Some(projection) => B::conv1x1(x, projection.clone(), None),
                None => x,
            };
            x = match padded.take() {
                None => B::convolve(x, &weights, epilogue),
                Some(wide) => B::convolve(wide, &weights, epilogue)
                    .narrow(2, 1, height)
                    .narrow(3, 1, width),
            };
            keep(convolution, &x);
            if let Some(layer) = rectified {
                if epilogue == Epilogue::None {
                    x = relu(x);
                }
                if tapped(layer) {
                    keep(layer, &project(x.clone()));
                }
            }
            if let Some(layer) = pooled {
                if !matches!(epilogue, Epilogue::ReluPool(_)) {
                    x = project(B::pool(x, self.pooling));
                }
                keep(layer, &x);
            }
        }
        Ok(Features::with_responses(responses, self.precision))
    }
}

/// What is read of an image's features.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    /// The layers.
    pub taps: &'a [Layer],
    /// Those of which more than Gram matrices and means are read; the first block of the network is then
    /// computed in strips, so that its responses to a large image are never there as a whole. `None`: at
    /// once, which is faster.
    pub kept: Option<&'a [Layer]>,
    /// The pixels of which features are read, as corners of positions of all layers; all if `None`.
    pub area: Option<Rect>,
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
