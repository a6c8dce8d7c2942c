//! Trains a small network that paints any picture in one style in a single pass, on impasto's
//! perceptual loss (Johnson, Alahi and Fei-Fei 2016, arXiv 1603.08155), with Burn's own optimiser.
//!
//! `cargo run --release --package impasto-tools --example feed_forward -- [STYLE CONTENT OUTPUT SECONDS]`
//!
//! The loss is a tree of impasto's terms for a batch of crops: what it says of a batch is the mean over
//! its images. The training pictures are those of `assets/`, so a minute is enough to see the style.

use std::error::Error;
use std::time::{Duration, Instant};

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::interpolate::{Interpolate2d, Interpolate2dConfig, InterpolateMode};
use burn::nn::{InstanceNorm, InstanceNormConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use impasto::loss::{
    ContentTerm, GramNormalization, Loss, Reduction, Stencil, StyleTerm, TotalVariation,
    VariationNorm,
};
use impasto::{EncoderError, Features, Layer, Picture, Vgg19};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

type B = Autodiff<Flex>;
type Failure = Box<dyn Error>;

/// Side of a training crop and crops in a batch.
const CROP: usize = 80;
const BATCH: usize = 2;
const LEARNING_RATE: f64 = 6e-3;
const STYLE_LAYERS: [Layer; 4] = [
    Layer::RELU1_1,
    Layer::RELU2_1,
    Layer::RELU3_1,
    Layer::RELU4_1,
];
const CONTENT_LAYER: Layer = Layer::RELU3_1;
const CONTENT_WEIGHT: f64 = 30.0;
const STYLE_WEIGHT: f64 = 100.0;

/// A convolution without change of size, normalised for each image and channel.
#[derive(Module, Debug)]
struct Block<B: Backend> {
    convolution: Conv2d<B>,
    norm: InstanceNorm<B>,
}

impl<B: Backend> Block<B> {
    fn new(channels: [usize; 2], stride: usize, device: &B::Device) -> Self {
        let convolution = Conv2dConfig::new(channels, [3, 3])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        Self {
            convolution: convolution.init(device),
            norm: InstanceNormConfig::new(channels[1]).init(device),
        }
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        self.norm.forward(self.convolution.forward(x))
    }
}

/// Halves the size twice, changes what it sees there, and enlarges it again.
#[derive(Module, Debug)]
struct Painter<B: Backend> {
    first: Block<B>,
    halve: Vec<Block<B>>,
    residual: Vec<Block<B>>,
    enlarge: Vec<Block<B>>,
    last: Conv2d<B>,
    double: Interpolate2d,
}

impl<B: Backend> Painter<B> {
    fn new(device: &B::Device) -> Self {
        let block = |channels, stride| Block::new(channels, stride, device);
        let last = Conv2dConfig::new([12, 3], [3, 3]);
        Self {
            first: block([3, 12], 1),
            halve: vec![block([12, 24], 2), block([24, 48], 2)],
            residual: (0..6).map(|_| block([48, 48], 1)).collect(),
            enlarge: vec![block([48, 24], 1), block([24, 12], 1)],
            last: last
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device),
            double: Interpolate2dConfig::new()
                .with_scale_factor(Some([2.0, 2.0]))
                .with_mode(InterpolateMode::Nearest)
                .init(),
        }
    }

    /// `[batch, 3, height, width]` in `[0, 1]` to the same, for sides that are multiples of 4. Some
    /// of the image passes the network by, so that a minute is enough for the style.
    fn forward(&self, image: Tensor<B, 4>) -> Tensor<B, 4> {
        let kept = image.clone().clamp(0.03, 0.97);
        let kept = kept.clone().log() - (kept.neg() + 1.0).log();
        let mut x = relu(self.first.forward(image * 2.0 - 1.0));
        for block in &self.halve {
            x = relu(block.forward(x));
        }
        for pair in self.residual.chunks(2) {
            let inner = relu(pair[0].forward(x.clone()));
            x = x + pair[1].forward(inner);
        }
        for block in &self.enlarge {
            x = relu(block.forward(self.double.forward(x)));
        }
        sigmoid(kept * 0.4 + self.last.forward(x))
    }
}

/// The loss of Johnson et al. for a batch of contents.
fn perceptual_loss(
    encoder: &Vgg19<B>,
    style: &Features<B>,
    contents: Tensor<B, 4>,
) -> Result<Loss<B>, EncoderError> {
    let content = encoder.features(contents, &[CONTENT_LAYER])?;
    let target = content.get(CONTENT_LAYER).clone().detach();
    let content = ContentTerm::new(CONTENT_LAYER, encoder.channels(CONTENT_LAYER)?, target);
    let mut styles = Vec::new();
    for layer in STYLE_LAYERS {
        let (channels, gram) = (encoder.channels(layer)?, style.gram(layer));
        let term = StyleTerm::new(layer, channels, GramNormalization::PerElement, gram);
        styles.push(Loss::term(layer.to_string(), 1.0, term));
    }
    let smoothness = TotalVariation {
        norm: VariationNorm::L2,
        reduction: Reduction::Mean,
        stencil: Stencil::Axes,
        range: 255.0,
    };
    Ok(Loss::sum(
        "total",
        1.0,
        vec![
            Loss::term("content", CONTENT_WEIGHT, content),
            Loss::sum("style", STYLE_WEIGHT, styles),
            Loss::term("tv", 0.05, smoothness),
        ],
    ))
}

/// Random crops of random pictures, `[BATCH, 3, CROP, CROP]`.
fn crops(pictures: &[Picture], rng: &mut StdRng) -> Tensor<B, 4> {
    let mut values = Vec::with_capacity(BATCH * 3 * CROP * CROP);
    for _ in 0..BATCH {
        let picture = &pictures[rng.random_range(0..pictures.len())];
        let left = rng.random_range(0..=picture.width() - CROP);
        let top = rng.random_range(0..=picture.height() - CROP);
        for channel in 0..3 {
            for row in top..top + CROP {
                let at = |x| 3 * (row * picture.width() + left + x) + channel;
                values.extend((0..CROP).map(|x| picture.rgb()[at(x)]));
            }
        }
    }
    let data = TensorData::new(values, [BATCH, 3, CROP, CROP]);
    Tensor::from_data(data, &Default::default())
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or(default.to_string());
    let (style, content) = (argument("assets/swirls.jpg"), argument("assets/scene.jpg"));
    let output = argument("out.png");
    let time = Duration::from_secs(argument("60").parse()?);

    let device = Default::default();
    let encoder = Vgg19::<B>::builtin(&device);
    let style = Picture::open(style)?.resize(256, 192).to_tensor(&device);
    let style = encoder.features(style, &STYLE_LAYERS)?;
    let pictures = ["scene", "dots", "glass", "swirls", "woodcut"].map(|name| {
        let picture = Picture::open(format!("assets/{name}.jpg"))?;
        Ok(picture.resize(256, 192))
    });
    let pictures = pictures.into_iter().collect::<Result<Vec<_>, Failure>>()?;

    let mut rng = StdRng::seed_from_u64(0);
    let mut painter = Painter::<B>::new(&device);
    let mut optimizer = AdamConfig::new().init();
    let (began, mut step) = (Instant::now(), 0);
    while began.elapsed() < time {
        let contents = crops(&pictures, &mut rng);
        let loss = perceptual_loss(&encoder, &style, contents.clone())?;
        let painted = painter.forward(contents);
        let features = encoder.features(painted.clone(), &loss.layers())?;
        let evaluated = loss.evaluate(&painted, &features);
        let gradients = evaluated.total.backward();
        let gradients = GradientsParams::from_grads(gradients, &painter);
        painter = optimizer.step(LEARNING_RATE, painter, gradients);
        step += 1;
        if step % 100 == 1 {
            println!("{step}: {}", evaluated.read());
        }
    }
    let content = Picture::open(content)?.resize(384, 288);
    let image = painter.valid().forward(content.to_tensor(&device));
    Picture::from_tensor(image)?.save(&output)?;
    println!("{step} steps; {output}");
    Ok(())
}
