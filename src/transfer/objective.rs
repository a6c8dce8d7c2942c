//! The loss of one scale, with its targets.

use std::rc::Rc;

use crate::kernel::AutodiffBackend;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;

use super::StyleTransfer;
use crate::Error;
use crate::encoder::Layer;
use crate::loss::{ContentTerm, Loss, StyleTerm};
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
        let normalization = self.recipe.gram;
        let layers = self.style_layers();
        let encoder = self.encoder.valid();
        let total: f64 = self.styles.iter().map(|(_, weight)| weight).sum();
        // Each with the channels that the layer stands for.
        let mut targets: Vec<Option<(Tensor<B::InnerBackend, 3>, usize)>> =
            vec![None; layers.len()];
        for (style, weight) in &self.styles {
            let (width, height) = self.style_dimensions(style, size);
            let image = style.resize(width, height).to_tensor(&self.device());
            let features = encoder.features(image, &layers)?;
            for (target, &layer) in targets.iter_mut().zip(&layers) {
                let gram = features.gram(layer);
                let gram = gram.mul_scalar(weight / total);
                let sum = match target.take() {
                    Some((sum, _)) => sum + gram,
                    None => gram,
                };
                *target = Some((sum, features.channels(layer)));
            }
        }
        let weights = self.recipe.weighted_style_layers();
        let term = |((layer, weight), target): ((Layer, f64), Option<_>)| {
            let (target, channels) = target?;
            let term = StyleTerm::new(layer, normalization, Tensor::from_inner(target));
            let weight = self.related(weight, term.magnitude(channels));
            Some(Loss::term(layer.to_string(), weight, term))
        };
        Ok(weights.into_iter().zip(targets).filter_map(term).collect())
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
