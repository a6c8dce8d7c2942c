//! The loss of one scale, with its targets.

use std::borrow::Cow;
use std::rc::Rc;

use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::Backend};

use super::style::{Look, Statistics, StyleCache};
use super::{Recipe, Style, StyleTransfer};
use crate::Error;
use crate::encoder::{Guide, Layer, Vgg19};
use crate::kernel::AutodiffStyleBackend;
use crate::loss::{ContentTerm, Guided, Loss, MomentsTerm, StyleTerm, Term};
use crate::picture::Picture;

/// What the losses of all scales of a run are made of.
pub(super) struct Subject<'a, B: AutodiffStyleBackend> {
    /// With pools and border as the recipe has them.
    pub encoder: &'a Vgg19<B>,
    /// Of the size that the content picture gives it.
    pub recipe: &'a Recipe,
    /// The style pictures, in the colours that the recipe gives them.
    pub styles: &'a [Cow<'a, Picture>],
    /// What was seen in them before.
    pub seen: &'a StyleCache<B::InnerBackend>,
}

impl<B: AutodiffStyleBackend> StyleTransfer<'_, B> {
    /// The recipe's loss for a result of the content's size; `size` is that of the scale.
    ///
    /// The targets are computed without autodiff, so that nothing of their way is kept.
    pub(super) fn objective(
        &self,
        subject: &Subject<'_, B>,
        content: &Picture,
        size: usize,
    ) -> Result<Loss<B>, Error> {
        let recipe = subject.recipe;
        let mut parts = Vec::new();
        if recipe.content_weight > 0.0 {
            let terms = self.content_terms(subject, content)?;
            parts.push(Loss::sum("content", recipe.content_weight, terms));
        }
        if recipe.style_weight > 0.0 {
            let terms = self.style_terms(subject, content, size)?;
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

    fn content_terms(
        &self,
        subject: &Subject<'_, B>,
        content: &Picture,
    ) -> Result<Vec<Loss<B>>, Error> {
        let layers = self.content_layers();
        let encoder = subject.encoder.valid();
        let features = encoder.features(content.to_tensor(&self.device()), &layers)?;
        Ok(layers
            .into_iter()
            .map(|layer| {
                let target = Tensor::from_inner(features.get(layer).clone());
                let term = ContentTerm::new(layer, target)
                    .with_normalization(self.recipe.content_normalization);
                let weight = self.related(1.0, term.magnitude(features.channels(layer)));
                Loss::term(layer.to_string(), weight, term)
            })
            .collect())
    }

    /// One group for all styles of the whole picture, which are averaged, and one for each region.
    fn style_terms(
        &self,
        subject: &Subject<'_, B>,
        content: &Picture,
        size: usize,
    ) -> Result<Vec<Loss<B>>, Error> {
        let styles = self.styles.iter().enumerate();
        let (whole, regional): (Vec<Numbered>, Vec<Numbered>) =
            styles.partition(|(_, style)| style.region.is_none());
        if regional.is_empty() {
            return self.group_terms(subject, &whole, None, size);
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
                let terms = self.group_terms(subject, styles, guide, size)?;
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
        subject: &Subject<'_, B>,
        styles: &[Numbered],
        guide: Option<Guide<B>>,
        size: usize,
    ) -> Result<Vec<Loss<B>>, Error> {
        let layers = self.style_layers();
        let encoder = subject.encoder.valid();
        let total: f64 = styles.iter().map(|(_, style)| style.weight).sum();
        let mut targets: Vec<Option<Statistics<B::InnerBackend>>> = vec![None; layers.len()];
        for &(index, style) in styles {
            let picture = &subject.styles[index];
            let region = style.region.as_ref();
            let look = Look {
                picture,
                mask: region.and_then(|region| region.style.as_ref()),
                size: subject.recipe.style_dimensions(picture, size, style.scale),
                layers: &layers,
            };
            let guide = |mask: &Picture| self.guide(index, mask, look.size);
            let seen = subject.seen.look(&encoder, look, guide)?;
            for (target, seen) in targets.iter_mut().zip(seen) {
                *target = Some(Statistics::add(target.take(), style.weight / total, seen));
            }
        }
        let weights = self.recipe.weighted_style_layers().into_iter();
        let terms = weights
            .zip(targets)
            .filter_map(|((layer, weight), target)| {
                let Statistics {
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
