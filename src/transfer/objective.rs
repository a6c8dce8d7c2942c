//! The loss of one scale, with its targets.

use burn::module::AutodiffModule;
use burn::tensor::Tensor;

use super::plan::{PlannedScale, RegionGuides};
use super::style_cache::{Statistics, StyleInputs};
use super::{Recipe, Request, Style, StyleLoss, TransferError};
use crate::encoder::Vgg19;
use crate::eval::features_in_tiles;
use crate::kernel::AutodiffStyleBackend;
use crate::layer::Layer;
use crate::loss::{
    ContentTerm, Guide, Loss, MomentsDistance, MomentsTerm, RelativeTerm, StyleTerm, Term,
};
use crate::picture::Picture;

/// Inputs of the loss of one scale.
pub(super) struct ScaleInputs<'a, B: AutodiffStyleBackend> {
    /// With the pooling and padding of the recipe.
    pub encoder: &'a Vgg19<B>,
    /// Of the size that the content picture gives it.
    pub recipe: &'a Recipe,
    /// Index of the scale, from 0.
    pub index: usize,
    pub scale: PlannedScale,
    /// The content picture at the scale, in the colours that the recipe gives it.
    pub content: &'a Picture,
    /// Whether the start has the content's finest band.
    pub has_detail: bool,
    /// The image that the scale starts from, RGB in `[0, 1]`.
    pub start: &'a Tensor<B::InnerBackend, 4>,
    /// The style pictures, in the colours that the recipe gives them.
    pub styles: &'a [Picture],
    /// The guides of each style, where it has a region.
    pub guides: &'a [Option<RegionGuides<B::InnerBackend>>],
}

impl<B: AutodiffStyleBackend> ScaleInputs<'_, B> {
    /// How large the tiles are in which the scale is computed, if it is.
    pub fn tile_size(&self) -> Option<usize> {
        self.scale.computation.tile_size
    }
}

impl<B: AutodiffStyleBackend> Request<B> {
    /// The parts of the loss that the recipe asks for.
    ///
    /// The targets are computed without autodiff, so that nothing of their computation is kept.
    pub fn loss_parts(&self, inputs: &ScaleInputs<'_, B>) -> Result<Vec<Loss<B>>, TransferError> {
        let recipe = inputs.recipe;
        let mut parts = Vec::new();
        if recipe.content_weight > 0.0 {
            let terms = self.content_terms(inputs)?;
            parts.push(Loss::sum("content", recipe.content_weight, terms));
        }
        if recipe.style_weight > 0.0 {
            let terms = self.style_terms(inputs)?;
            parts.push(Loss::sum("style", recipe.style_weight, terms));
        }
        if recipe.neighbors.weight > 0.0 {
            parts.push(self.neighbors_loss(inputs)?);
        }
        if recipe.transport.weight > 0.0 {
            parts.push(self.transport_loss(inputs)?);
        }
        if recipe.tv_weight > 0.0 {
            parts.push(Loss::term("tv", recipe.tv_weight, recipe.tv));
        }
        Ok(parts)
    }

    fn content_terms(&self, inputs: &ScaleInputs<'_, B>) -> Result<Vec<Loss<B>>, TransferError> {
        let layers = inputs.recipe.used_content_layers();
        let (encoder, device) = (inputs.encoder.valid(), inputs.encoder.device());
        let image = inputs.content.to_tensor(&device);
        let targets = features_in_tiles(&encoder, &image, &layers, inputs.tile_size(), |x| x)?;
        let terms = layers.into_iter().map(|layer| {
            let channels = inputs.encoder.channels(layer)?;
            let target = Tensor::from_inner(targets.get(layer).clone());
            let term = ContentTerm::new(layer, channels, target)
                .with_normalization(inputs.recipe.content_normalization);
            let unit = inputs.recipe.relative.then(|| term.zero_feature_loss());
            Ok(leaf(layer, 1.0, term, unit))
        });
        terms.collect()
    }

    /// One group for all styles of the whole picture, which are averaged, and one for each region.
    fn style_terms(&self, inputs: &ScaleInputs<'_, B>) -> Result<Vec<Loss<B>>, TransferError> {
        let styles = self.styles.iter().enumerate();
        let (whole, regional): (Vec<Numbered>, Vec<Numbered>) =
            styles.partition(|(_, style)| style.region.is_none());
        if regional.is_empty() {
            return self.group_terms(inputs, &whole, None);
        }
        let weight =
            |styles: &[Numbered]| styles.iter().map(|(_, style)| style.weight).sum::<f64>();
        let groups = regional.len() + usize::from(!whole.is_empty());
        let mean = (weight(&whole) + weight(&regional)) / groups as f64;
        let mut losses = Vec::new();
        // Equal weights are 1 each.
        let mut add = |name: String,
                       styles: &[Numbered],
                       guide: Option<&Guide<B>>|
         -> Result<(), TransferError> {
            let share = weight(styles) / mean;
            if share > 0.0 {
                let terms = self.group_terms(inputs, styles, guide)?;
                losses.push(Loss::sum(name, share, terms));
            }
            Ok(())
        };
        add("everywhere".to_string(), &whole, None)?;
        for (index, style) in regional {
            if let Some(guides) = &inputs.guides[index] {
                let guide = Guide::from_inner(&guides.content);
                let name = format!("region {}", index + 1);
                add(name, &[(index, style)], Some(&guide))?;
            }
        }
        Ok(losses)
    }

    /// A term for each style layer: the mean of these styles, within a guide if there is one.
    fn group_terms(
        &self,
        inputs: &ScaleInputs<'_, B>,
        styles: &[Numbered],
        guide: Option<&Guide<B>>,
    ) -> Result<Vec<Loss<B>>, TransferError> {
        let recipe = inputs.recipe;
        let targets = self.style_targets(inputs, styles)?;
        let layers = recipe.weighted_style_layers().into_iter().zip(targets);
        let terms = layers.map(|((layer, weight), target)| {
            let channels = inputs.encoder.channels(layer)?;
            let (mean, gram) = (
                Tensor::from_inner(target.mean),
                Tensor::from_inner(target.gram),
            );
            let moments = |distance| {
                let term = MomentsTerm::new(layer, channels, distance, mean.clone(), gram.clone());
                let term = term.within(guide);
                let unit = recipe.relative.then(|| term.zero_feature_loss());
                leaf(layer, weight, term, unit)
            };
            Ok(match recipe.style_loss {
                StyleLoss::Gram => {
                    let term = StyleTerm::new(layer, channels, recipe.gram, gram.clone());
                    let term = term.within(guide);
                    let unit = recipe.relative.then(|| term.zero_feature_loss());
                    leaf(layer, weight, term, unit)
                }
                StyleLoss::MeanStd => moments(MomentsDistance::MeanStd),
                StyleLoss::Wasserstein => moments(MomentsDistance::Wasserstein),
            })
        });
        terms.collect()
    }

    /// The weighted mean of the statistics of some styles, for each style layer.
    fn style_targets(
        &self,
        inputs: &ScaleInputs<'_, B>,
        styles: &[Numbered],
    ) -> Result<Vec<Statistics<B::InnerBackend>>, TransferError> {
        let layers = inputs.recipe.used_style_layers();
        let encoder = inputs.encoder.valid();
        let total: f64 = styles.iter().map(|(_, style)| style.weight).sum();
        let mut targets: Vec<Statistics<B::InnerBackend>> = Vec::new();
        for &(index, style) in styles {
            let picture = &inputs.styles[index];
            let region = style.region.as_ref();
            let guides = inputs.guides[index].as_ref();
            let size = inputs
                .recipe
                .style_dimensions(picture, inputs.scale.size, style.scale);
            let statistics = self.cache.statistics(
                &encoder,
                StyleInputs {
                    picture,
                    mask: region.and_then(|region| region.style.as_ref()),
                    guide: guides.and_then(|guides| guides.style.as_ref()),
                    size,
                    layers: &layers,
                    tile_size: inputs.tile_size(),
                },
            )?;
            let weighted = statistics.into_iter();
            let weighted = weighted.map(|statistics| statistics.times(style.weight / total));
            targets = match targets.is_empty() {
                true => weighted.collect(),
                false => {
                    let pairs = targets.into_iter().zip(weighted);
                    pairs.map(|(sum, added)| sum.plus(added)).collect()
                }
            };
        }
        Ok(targets)
    }
}

/// A style with its index among all.
type Numbered<'a> = (usize, &'a Style);

/// A leaf of the loss for a layer, in this unit if there is one.
fn leaf<B: AutodiffStyleBackend>(
    layer: Layer,
    weight: f64,
    term: impl Term<B> + 'static,
    unit: Option<Tensor<B, 1>>,
) -> Loss<B> {
    match unit {
        None => Loss::term(layer.to_string(), weight, term),
        Some(unit) => Loss::term(layer.to_string(), weight, RelativeTerm::new(term, unit)),
    }
}
