//! The loss that is measured: that of the recipe `neural-style` but for its total variation. Gram
//! matrices of five layers with equal weights, and the content at one.

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use impasto::kernel::AutodiffStyleBackend;
use impasto::loss::{ContentTerm, Loss, StyleTerm};
use impasto::optim::{Evaluation, LbfgsConfig, LineSearch, OptimizerConfig};
use impasto::{EncoderError, Evaluator, Layer, Picture, Recipe, Vgg19};

use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

/// A picture to paint and one whose style to use, of the same size.
pub struct Pair {
    pub content: Picture,
    pub style: Picture,
}

/// All layers that the loss reads, shallow to deep.
pub fn layers() -> Vec<Layer> {
    let recipe = Recipe::neural_style();
    let mut layers = [recipe.style_layers, recipe.content_layers].concat();
    layers.sort();
    layers
}

/// The loss with the targets of two pictures.
pub fn evaluator<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    pictures: &Pair,
) -> Result<Evaluator<B>, EncoderError> {
    let recipe = Recipe::neural_style();
    let (plain, device) = (encoder.valid(), encoder.device());
    let features =
        |picture: &Picture, layers: &[Layer]| plain.features(picture.to_tensor(&device), layers);
    let targets = features(&pictures.style, &recipe.style_layers)?;
    let style = recipe.weighted_style_layers().into_iter();
    let style = style.map(|(layer, weight)| {
        let target = Tensor::from_inner(targets.gram(layer));
        let term = StyleTerm::new(layer, encoder.channels(layer)?, recipe.gram, target);
        Ok(Loss::term(layer.to_string(), weight, term))
    });
    let style = style.collect::<Result<_, EncoderError>>()?;
    let targets = features(&pictures.content, &recipe.content_layers)?;
    let content = recipe.content_layers.iter().map(|&layer| {
        let target = Tensor::from_inner(targets.get(layer).clone());
        let term = ContentTerm::new(layer, encoder.channels(layer)?, target);
        let term = term.with_normalization(recipe.content_normalization);
        Ok(Loss::term(layer.to_string(), 1.0, term))
    });
    let content = content.collect::<Result<_, EncoderError>>()?;
    let parts = vec![
        Loss::sum("content", recipe.content_weight, content),
        Loss::sum("style", recipe.style_weight, style),
    ];
    Ok(Evaluator::new(
        encoder.clone(),
        Loss::sum("total", 1.0, parts),
    ))
}

/// Loss and gradient at an image, unless Ctrl-C was pressed.
pub fn evaluate<B: AutodiffStyleBackend>(
    evaluator: &Evaluator<B>,
    image: Tensor<B::InnerBackend, 4>,
    interrupt: &Interrupt,
) -> Result<Evaluation<B::InnerBackend>, Failure> {
    interrupt.check()?;
    let found = evaluator.evaluate(&image).map_err(Failure::other)?;
    Ok(Evaluation {
        loss: found.losses.weighted(),
        gradient: found.gradient,
    })
}

/// L-BFGS with a line search: without one, its first long step can go so far that the loss is no number
/// any more.
pub fn lbfgs() -> OptimizerConfig {
    OptimizerConfig::Lbfgs(LbfgsConfig {
        line_search: LineSearch::StrongWolfe,
        ..LbfgsConfig::default()
    })
}
