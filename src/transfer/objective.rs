//! The loss of one scale, with its targets.

use std::rc::Rc;

use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::Backend};

use super::StyleTransfer;
use crate::Error;
use crate::encoder::{Features, Layer};
use crate::kernel::{self, AutodiffBackend};
use crate::loss::{ContentTerm, Loss, MomentsTerm, StyleTerm};
use crate::picture::Picture;

impl<B: AutodiffBackend> StyleTransfer<'_, B> {
    /// The recipe's loss for a result of the content's size; `size` is that of the scale.
    ///
    /// The targets are computed without autodiff, so that nothing of their way is kept.
    pub(super) fn objective(&self, content: &Picture, size: usize) -> Result<Loss<B>, Error> {
        let recipe = &self.recipe;
        // Before copies without autodiff are made of it, so that they share what was prepared.
        self.encoder.prepare(&self.layers());
        let mut parts = Vec::new();
        if recipe.content_weight > 0.0 {
            let terms = self.content_terms(content)?;
            parts.push(Loss::sum("content", recipe.content_weight, terms));
        }
        if recipe.style_weight > 0.0 {
            let terms = self.style_terms(size)?;
            parts.push(Loss::sum("style", recipe.style_weight, terms));
        }
        if recipe.tv_weight > 0.0 {
            parts.push(Loss::term("tv", recipe.tv_weight, recipe.tv));
        }
        for (name, weight, term) in &self.terms {
            parts.push(Loss::term(name.clone(), *weight, Rc::clone(term)));
        }
        Ok(Loss::sum("total", 1.0, parts))
    }

    fn content_terms(&self, content: &Picture) -> Result<Vec<Loss<B>>, Error> {
        let layers = self.content_layers();
        let encoder = self.encoder.valid();
        let features = encoder.features(content.to_tensor(&self.device()), &layers)?;
        Ok(layers
            .into_iter()
            .map(|layer| {
                let target = Tensor::from_inner(features.get(layer).clone());
                let term = ContentTerm::new(layer, target);
                let weight = self.related(1.0, term.magnitude(features.channels(layer)));
                Loss::term(layer.to_string(), weight, term)
            })
            .collect())
    }

    fn style_terms(&self, size: usize) -> Result<Vec<Loss<B>>, Error> {
        let layers = self.style_layers();
        let encoder = self.encoder.valid();
        let total: f64 = self.styles.iter().map(|(_, weight)| weight).sum();
        let mut targets: Vec<Option<Target<B::InnerBackend>>> =
            layers.iter().map(|_| None).collect();
        for (style, weight) in &self.styles {
            let (width, height) = self.style_dimensions(style, size);
            let image = style.resize(width, height).to_tensor(&self.device());
            let features = encoder.features(image, &layers)?;
            for (target, &layer) in targets.iter_mut().zip(&layers) {
                let share = Target::new(&features, layer, weight / total);
                *target = Some(match target.take() {
                    Some(sum) => sum.plus(share),
                    None => share,
                });
            }
        }
        let weights = self.recipe.weighted_style_layers().into_iter();
        let terms = weights
            .zip(targets)
            .filter_map(|((layer, weight), target)| {
                let Target {
                    mean,
                    gram,
                    channels,
                } = target?;
                let (mean, gram) = (Tensor::from_inner(mean), Tensor::from_inner(gram));
                let name = layer.to_string();
                Some(match self.recipe.style_loss.moments() {
                    None => {
                        let term = StyleTerm::new(layer, self.recipe.gram, gram);
                        let weight = self.related(weight, term.magnitude(channels));
                        Loss::term(name, weight, term)
                    }
                    Some(distance) => {
                        let term = MomentsTerm::new(layer, distance, mean, gram);
                        let weight = self.related(weight, term.magnitude(channels));
                        Loss::term(name, weight, term)
                    }
                })
            });
        Ok(terms.collect())
    }

    /// The weight of a term whose value would be `magnitude` for an image without any response.
    fn related(&self, weight: f64, magnitude: f64) -> f64 {
        match self.recipe.relative && magnitude > 0.0 {
            true => weight / magnitude,
            false => weight,
        }
    }

    /// Where the encoder's parameters live.
    pub(super) fn device(&self) -> B::Device {
        self.encoder.device()
    }
}

/// What the styles have at one layer: weighted means of their moments.
struct Target<B: Backend> {
    mean: Tensor<B, 3>,
    gram: Tensor<B, 3>,
    /// As in [`Features::channels`].
    channels: usize,
}

impl<B: kernel::Backend> Target<B> {
    fn new(features: &Features<B>, layer: Layer, weight: f64) -> Self {
        Self {
            mean: features.mean(layer).mul_scalar(weight),
            gram: features.gram(layer).mul_scalar(weight),
            channels: features.channels(layer),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            mean: self.mean + other.mean,
            gram: self.gram + other.gram,
            channels: self.channels,
        }
    }
}
