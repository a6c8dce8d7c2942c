//! The loss of one scale, with its targets.

use std::rc::Rc;

use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::Backend};

use super::{Style, StyleTransfer};
use crate::Error;
use crate::encoder::{Features, Guide, Layer};
use crate::kernel::{self, AutodiffBackend};
use crate::loss::{ContentTerm, Guided, Loss, MomentsTerm, StyleTerm, Term};
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
            let terms = self.style_terms(content, size)?;
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

    /// One group for all styles of the whole picture, which are averaged, and one for each region.
    fn style_terms(&self, content: &Picture, size: usize) -> Result<Vec<Loss<B>>, Error> {
        let styles = self.styles.iter().enumerate();
        let (whole, regional): (Vec<Numbered>, Vec<Numbered>) =
            styles.partition(|(_, style)| style.region.is_none());
        if regional.is_empty() {
            return self.group_terms(&whole, None, size);
        }
        let weight =
            |styles: &[Numbered]| styles.iter().map(|(_, style)| style.weight).sum::<f64>();
        let groups = regional.len() + usize::from(!whole.is_empty());
        let mean = (weight(&whole) + weight(&regional)) / groups as f64;
        let mut losses = Vec::new();
        // Equal weights are 1 each.
        let mut add = |name: String, styles: &[Numbered], guide| -> Result<(), Error> {
            let share = weight(styles) / mean;
            if share > 0.0 {
                let terms = self.group_terms(styles, guide, size)?;
                losses.push(Loss::sum(name, share, terms));
            }
            Ok(())
        };
        add("everywhere".to_string(), &whole, None)?;
        for (index, style) in regional {
            if let Some(region) = &style.region {
                let size = (content.width(), content.height());
                let guide = self.guide(index, &region.content, size)?;
                add(
                    format!("region {}", index + 1),
                    &[(index, style)],
                    Some(guide),
                )?;
            }
        }
        Ok(losses)
    }

    /// A mask carried to the style layers of an image of the given size.
    pub(super) fn guide<G: Backend<Device = B::Device>>(
        &self,
        style: usize,
        mask: &Picture,
        size: (usize, usize),
    ) -> Result<Guide<G>, Error> {
        Guide::new(mask, size, &self.style_layers(), &self.device()).map_err(|source| {
            Error::Region {
                style: style + 1,
                source,
            }
        })
    }

    /// A term for each style layer: the mean of these styles, within a guide if there is one.
    fn group_terms(
        &self,
        styles: &[Numbered],
        guide: Option<Guide<B>>,
        size: usize,
    ) -> Result<Vec<Loss<B>>, Error> {
        let layers = self.style_layers();
        let encoder = self.encoder.valid();
        let total: f64 = styles.iter().map(|(_, style)| style.weight).sum();
        let mut targets: Vec<Option<Target<B::InnerBackend>>> =
            layers.iter().map(|_| None).collect();
        for &(index, style) in styles {
            let (width, height) = self.style_dimensions(&style.picture, size);
            let image = style.picture.resize(width, height);
            let mut features = encoder.features(image.to_tensor(&self.device()), &layers)?;
            if let Some(mask) = style
                .region
                .as_ref()
                .and_then(|region| region.style.as_ref())
            {
                features = features.guided(&self.guide(index, mask, (width, height))?);
            }
            for (target, &layer) in targets.iter_mut().zip(&layers) {
                let share = Target::new(&features, layer, style.weight / total);
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
                Some(match self.recipe.style_loss.moments() {
                    None => {
                        let term = StyleTerm::new(layer, self.recipe.gram, gram);
                        let weight = self.related(weight, term.magnitude(channels));
                        within(layer, weight, term, guide.clone())
                    }
                    Some(distance) => {
                        let term = MomentsTerm::new(layer, distance, mean, gram);
                        let weight = self.related(weight, term.magnitude(channels));
                        within(layer, weight, term, guide.clone())
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

/// A style with its index among all.
type Numbered<'a> = (usize, &'a Style);

/// A leaf of the loss for a layer, confined to a guide if there is one.
fn within<B: Backend>(
    layer: Layer,
    weight: f64,
    term: impl Term<B> + 'static,
    guide: Option<Guide<B>>,
) -> Loss<B> {
    match guide {
        None => Loss::term(layer.to_string(), weight, term),
        Some(guide) => Loss::term(layer.to_string(), weight, Guided::new(term, guide)),
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
