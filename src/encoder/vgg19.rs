//! VGG19's convolutional part as native Burn modules.

use std::path::Path;

use burn::config::Config;
use burn::module::{Module, Param, ParamId};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::convolution::Prepared;
use super::{EncoderError, Guide, Layer, LayerKind, Normalization, Padding, Pooling};
use crate::kernel::{self, Epilogue};
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
    convolutions: Vec<Prepared<B>>,
    #[module(skip)]
    normalization: Normalization,
    #[module(skip)]
    pooling: Pooling,
    #[module(skip)]
    padding: Padding,
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
        let mut projections = weights.projections.into_iter();
        let build = |layer| same_size_convolution(layer, device);
        Self {
            convolutions: weights
                .convolutions
                .into_iter()
                .map(|layer| Prepared::new(build(layer), projections.next().map(build)))
                .collect(),
            normalization,
            pooling: Pooling::default(),
            padding: Padding::default(),
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

    /// The normalisation that the weights were trained with.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// How the blocks are pooled.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// What lies beyond the border of the image.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// Where the parameters live.
    pub fn device(&self) -> B::Device {
        self.convolutions[0].layer().weight.val().device()
    }

    /// Kernels and biases of all convolutions, shallow to deep.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = TensorData> {
        let convolutions = self.convolutions.iter().map(Prepared::layer);
        let projections = self.convolutions.iter().filter_map(Prepared::projection);
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
        let width = |prepared: &Prepared<B>| {
            let channels_out = channels(prepared.layer());
            Width {
                channels_out,
                shown: prepared.projection().map_or(channels_out, channels),
            }
        };
        self.convolutions.iter().map(width).collect()
    }

    /// Channels of a layer in the network that this one is or stands for.
    fn channels(&self, layer: Layer) -> usize {
        match self.is_slim() {
            true => layer.channels(64),
            false => self.widths()[layer.depth() - 1].shown,
        }
    }

    /// Whether this is a slim network that stands for VGG19 through read-outs.
    pub fn is_slim(&self) -> bool {
        let projections = self.convolutions.iter().filter_map(Prepared::projection);
        projections.count() > 0
    }

    /// Checks that every layer can be computed from an image of this size (in pixels).
    ///
    /// # Errors
    /// [`EncoderError::TooDeep`], [`EncoderError::NoReadout`] or [`EncoderError::ImageTooSmall`].
    pub fn check(&self, width: usize, height: usize, taps: &[Layer]) -> Result<(), EncoderError> {
        for &layer in taps {
            if layer.depth() > self.convolutions.len() {
                let deepest = Layer::all()
                    .take_while(|layer| layer.depth() <= self.convolutions.len())
                    .filter(|layer| layer.kind() == LayerKind::Relu)
                    .last()
                    .unwrap_or(Layer::RELU1_1);
                return Err(EncoderError::TooDeep { layer, deepest });
            }
            if self.is_slim() && layer.kind() != LayerKind::Relu {
                return Err(EncoderError::NoReadout { layer });
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
    /// Prepares the weights of all layers up to the deepest of `taps`, which
    /// [`features`](Self::features) does otherwise at its first call. A copy made afterwards, such as
    /// [`valid`](burn::module::AutodiffModule::valid), shares what was prepared.
    pub fn prepare(&self, taps: &[Layer]) {
        let depth = taps.iter().map(|layer| layer.depth()).max().unwrap_or(0);
        for convolution in self.convolutions.iter().take(depth) {
            convolution.weights();
        }
    }

    /// What the layers in `taps` respond to `image`, computed no further than the deepest of them.
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
        let [_, channels, height, width] = image.dims();
        if channels != 3 {
            return Err(EncoderError::NotRgb { channels });
        }
        self.check(width, height, taps)?;
        let mut features = Features { taps: Vec::new() };
        let Some(&deepest) = taps.iter().max() else {
            return Ok(features);
        };
        let tapped = |layer| taps.contains(&layer);
        let mut keep = |layer, x: &Tensor<B, 4>| {
            if tapped(layer) {
                features.taps.push(Tap {
                    layer,
                    channels: self.channels(layer),
                    response: x.clone(),
                    guide: None,
                });
            }
        };

        let mut x = self.normalization.apply(image);
        let mut padded = self.padding.apply(&x);
        let mut layers = Layer::all()
            .take_while(|&layer| layer <= deepest)
            .peekable();
        // A convolution goes together with what follows it, as far as nobody looks in between.
        for prepared in &self.convolutions {
            let Some(convolution) = layers.next() else {
                break;
            };
            let rectified = layers.next_if(|layer| layer.kind() == LayerKind::Relu);
            let pooled = layers.next_if(|layer| layer.kind() == LayerKind::Pool);
            let then = match (rectified, pooled) {
                (Some(relu), Some(_)) if !tapped(convolution) && !tapped(relu) => {
                    Epilogue::ReluPool(self.pooling)
                }
                (Some(_), _) if !tapped(convolution) => Epilogue::Relu,
                _ => Epilogue::None,
            };
            let mut weights = prepared.weights();
            // The pool is before the read-out: where it is apart, so is the read-out.
            let apart = match (then, pooled) {
                (Epilogue::Relu, Some(_)) => weights.projection.take(),
                _ => None,
            };
            let read_out = |x: Tensor<B, 4>| match &apart {
                Some(readout) => B::conv1x1(x, readout.clone(), None),
                None => x,
            };
            x = match padded.take() {
                None => B::convolve(x, &weights, then),
                Some(wide) => B::convolve(wide, &weights, then)
                    .narrow(2, 1, height)
                    .narrow(3, 1, width),
            };
            keep(convolution, &x);
            if let Some(layer) = rectified {
                if then == Epilogue::None {
                    x = relu(x);
                }
                if tapped(layer) {
                    keep(layer, &read_out(x.clone()));
                }
            }
            if let Some(layer) = pooled {
                if !matches!(then, Epilogue::ReluPool(_)) {
                    x = read_out(B::pool(x, self.pooling));
                }
                keep(layer, &x);
            }
        }
        Ok(features)
    }
}

/// Channels of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Width {
    /// Its own.
    pub channels_out: usize,
    /// Those that are read out of them, which are all that leaves it.
    pub shown: usize,
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

/// The responses of the layers that were asked for.
#[derive(Clone, Debug)]
pub struct Features<B: Backend> {
    taps: Vec<Tap<B>>,
}

#[derive(Clone, Debug)]
struct Tap<B: Backend> {
    layer: Layer,
    channels: usize,
    response: Tensor<B, 4>,
    /// How much each position counts, see [`Features::guided`].
    guide: Option<Tensor<B, 4>>,
}

impl<B: kernel::StyleBackend> Tap<B> {
    /// The response times a power of the guide.
    fn guided(&self, power: i32) -> Tensor<B, 4> {
        match &self.guide {
            None => self.response.clone(),
            Some(guide) => self.response.clone() * guide.clone().powi_scalar(power),
        }
    }
}

impl<B: kernel::StyleBackend> Features<B> {
    /// The response of one layer, `[batch, channels, height, width]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn get(&self, layer: Layer) -> &Tensor<B, 4> {
        &self.tap(layer).response
    }

    /// The Gram matrix of one layer, [`gram_matrix`](crate::loss::gram_matrix) of its response:
    /// `[batch, channels, channels]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn gram(&self, layer: Layer) -> Tensor<B, 3> {
        B::gram(self.tap(layer).guided(1))
    }

    /// The mean of one layer's channels over all positions, `[batch, 1, channels]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn mean(&self, layer: Layer) -> Tensor<B, 3> {
        let tap = self.tap(layer);
        let [batch, channels, ..] = tap.response.dims();
        let flat = tap.guided(2).reshape([batch as i32, channels as i32, -1]);
        flat.mean_dim(2).transpose()
    }

    /// The responses with their layers, shallow to deep.
    pub fn iter(&self) -> impl Iterator<Item = (Layer, &Tensor<B, 4>)> {
        self.taps.iter().map(|tap| (tap.layer, &tap.response))
    }
}

impl<B: Backend> Features<B> {
    /// The same features, of which [`gram`](Self::gram) and [`mean`](Self::mean) see a region only,
    /// at the layers that the guide knows.
    pub fn guided(&self, guide: &Guide<B>) -> Self {
        let mut features = self.clone();
        for tap in &mut features.taps {
            tap.guide = guide.get(tap.layer).cloned();
        }
        features
    }

    /// The number of channels to normalise a loss with: those of the layer in the network that the
    /// encoder stands for. The read-outs of a slim encoder reproduce sums over VGG19's channels
    /// from fewer of their own.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn channels(&self, layer: Layer) -> usize {
        self.tap(layer).channels
    }

    fn tap(&self, layer: Layer) -> &Tap<B> {
        match self.taps.iter().find(|tap| tap.layer == layer) {
            Some(tap) => tap,
            None => panic!("{layer} was not among the layers asked for"),
        }
    }
}
