//! Asks for the loss and its gradient at a picture, without an optimiser: where does a photograph
//! differ from a style the most?
//!
//! `cargo run --release --package impasto-tools --example gradient -- [IMAGE STYLE OUTPUT]`

use burn::backend::{Autodiff, Flex};
use impasto::loss::{GramNormalization, Loss, StyleTerm};
use impasto::{Evaluator, Layer, Picture, Vgg19};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or(default.to_string());
    let device = Default::default();
    let open = |path: String| Picture::open(path).map(|picture| picture.resize(512, 384));
    let image = open(argument("assets/scene.jpg"))?.to_tensor(&device);
    let style = open(argument("assets/swirls.jpg"))?.to_tensor(&device);

    let encoder = Vgg19::<Autodiff<Flex>>::builtin(&device);
    let layers = [
        Layer::RELU1_1,
        Layer::RELU2_1,
        Layer::RELU3_1,
        Layer::RELU4_1,
    ];
    let targets = encoder.features(style, &layers)?;
    let terms = layers.map(|layer| {
        let (channels, target) = (encoder.channels(layer)?, targets.gram(layer));
        let term = StyleTerm::new(layer, channels, GramNormalization::PerElement, target);
        Ok(Loss::term(layer.to_string(), 1.0, term))
    });
    let terms = terms
        .into_iter()
        .collect::<Result<_, impasto::EncoderError>>()?;
    let evaluator = Evaluator::new(encoder.clone(), Loss::sum("style", 1.0, terms));

    let found = evaluator.evaluate(&image)?;
    for part in &found.losses.parts {
        println!("{:8} {:.4e}", part.name, part.value);
    }
    // The gradient's strength at each pixel, from black to white.
    let strength = found.gradient.abs().sum_dim(1);
    let largest = strength.clone().max().reshape([1, 1, 1, 1]);
    let shown = (strength / largest).sqrt().repeat_dim(1, 3);
    Ok(Picture::from_tensor(shown)?.save(argument("out.png"))?)
}
