//! The pictures, the recipe and all else that a run is asked for.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::fingerprint::Fingerprint;
use super::{Checkpoint, Computation, Recipe, Style, StyleCache, TransferError};
use crate::communicator::{CommunicationError, Communicator};
use crate::encoder::Tap;
use crate::encoder::Vgg19;
use crate::kernel::AutodiffStyleBackend;
use crate::loss::Loss;
use crate::picture::Picture;
use serde::Serialize;

/// What a run is asked to do.
#[derive(Debug)]
pub(super) struct Request<B: AutodiffStyleBackend> {
    pub encoder: Vgg19<B>,
    pub content: Option<Picture>,
    pub styles: Vec<Style>,
    pub start: Option<Picture>,
    pub recipe: Recipe,
    pub seed: u64,
    pub own_terms: OwnTerms<B>,
    pub cache: StyleCache<B::InnerBackend>,
    pub tile_size: Option<usize>,
    pub memory_limit: Option<u64>,
    /// The ranks that paint the picture together.
    pub communicator: Option<Arc<dyn Communicator>>,
    /// How the scales of a resumed run are computed.
    pub computations: Vec<Computation>,
    pub resume: Option<Checkpoint>,
}

/// Terms of the user's own. While a scale is under way they are part of its loss; what else is asked of
/// them stays here.
#[derive(Debug)]
pub(super) struct OwnTerms<B: AutodiffStyleBackend> {
    pub losses: Vec<Loss<B>>,
    pub count: usize,
    pub taps: Vec<Tap>,
    /// The largest margin, in pixels.
    pub margin: usize,
    /// Names, weights and descriptions, a line each.
    pub description: String,
    /// The name of one that needs the whole image.
    pub needs_whole_image: Option<String>,
}

impl<B: AutodiffStyleBackend> OwnTerms<B> {
    pub fn push(&mut self, term: Loss<B>) {
        self.count += 1;
        self.taps.extend(term.taps());
        self.margin = self.margin.max(term.margin());
        self.description.push_str(&format!("{term}\n"));
        let name = term.needs_whole_image().map(str::to_string);
        self.needs_whole_image = self.needs_whole_image.take().or(name);
        self.losses.push(term);
    }
}

/// Checks that weights of styles can be normalised.
pub(super) fn check_style_weights(weights: &[f64]) -> Result<(), TransferError> {
    let total: f64 = weights.iter().sum();
    let negative = weights.iter().any(|&weight| weight < 0.0);
    match !weights.is_empty() && (negative || !total.is_finite() || total <= 0.0) {
        true => Err(TransferError::StyleWeights),
        false => Ok(()),
    }
}

impl<B: AutodiffStyleBackend> Request<B> {
    pub fn new(encoder: Vgg19<B>) -> Self {
        Self {
            encoder,
            content: None,
            styles: Vec::new(),
            start: None,
            recipe: Recipe::default(),
            seed: 0,
            own_terms: OwnTerms {
                losses: Vec::new(),
                count: 0,
                taps: Vec::new(),
                margin: 0,
                description: String::new(),
                needs_whole_image: None,
            },
            cache: StyleCache::default(),
            tile_size: None,
            memory_limit: None,
            communicator: None,
            computations: Vec::new(),
            resume: None,
        }
    }

    /// How much each style counts, in their order.
    pub fn style_weights(&self) -> Vec<f64> {
        self.styles.iter().map(|style| style.weight).collect()
    }

    /// Changes how much each style counts; an error changes nothing.
    pub fn set_style_weights(&mut self, weights: &[f64]) -> Result<(), TransferError> {
        if weights.len() != self.styles.len() {
            return Err(TransferError::StyleWeights);
        }
        check_style_weights(weights)?;
        for (style, &weight) in self.styles.iter_mut().zip(weights) {
            style.weight = weight;
        }
        Ok(())
    }

    pub fn content(&self) -> Result<&Picture, TransferError> {
        self.content.as_ref().ok_or(TransferError::NoContent)
    }

    /// Content and styles at their own sizes, in the colours that the recipe gives them.
    pub fn recolored(&self, recipe: &Recipe) -> Result<(Picture, Vec<Picture>), TransferError> {
        let (colors, content) = (recipe.colors, self.content()?);
        let styles = self.styles.iter();
        let styles = styles.map(|style| colors.preprocess_style(&style.picture, content));
        let styles = styles.map(|style| style.into_owned()).collect();
        Ok((colors.preprocess_content(content).into_owned(), styles))
    }

    /// Takes the least memory that a rank may take for that of all, so that all plan the same.
    pub fn share_memory_limit(&mut self) -> Result<(), CommunicationError> {
        if let Some(ranks) = &self.communicator {
            let own = self.memory_limit.unwrap_or(u64::MAX).to_le_bytes();
            let all = ranks.all_gather(own.to_vec())?;
            let limits = all.iter().map(|limit| limit[..].try_into());
            let limits = limits.map(|limit| limit.map_or(0, u64::from_le_bytes));
            self.memory_limit = limits.min().filter(|&limit| limit < u64::MAX);
        }
        Ok(())
    }

    /// Checks that all ranks do the same.
    pub fn check_ranks(&self, own: &impl Serialize) -> Result<(), CommunicationError> {
        let Some(ranks) = &self.communicator else {
            return Ok(());
        };
        let mut sum = Fingerprint::default();
        sum.add(own);
        let all = ranks.all_gather(sum.sum().to_le_bytes().to_vec())?;
        match all.iter().all(|other| *other == all[0]) {
            true => Ok(()),
            false => Err(CommunicationError::OtherRun),
        }
    }

    /// What all ranks are to do, if one wants to stop.
    pub fn agree(&self, flow: ControlFlow<()>) -> Result<ControlFlow<()>, CommunicationError> {
        let Some(ranks) = &self.communicator else {
            return Ok(flow);
        };
        let all = ranks.all_gather(vec![u8::from(flow.is_break())])?;
        match all.iter().any(|other| *other == [1]) {
            true => Ok(ControlFlow::Break(())),
            false => Ok(ControlFlow::Continue(())),
        }
    }

    /// A check sum of everything that the course of a run depends on.
    pub fn fingerprint(&self) -> u128 {
        let mut sum = Fingerprint::default();
        let recipe = Recipe {
            // Prose.
            name: String::new(),
            source: String::new(),
            ..self.recipe.clone()
        };
        sum.add(&recipe);
        sum.add(&(self.seed, self.tile_size, &self.own_terms.description));
        let encoder = &self.encoder;
        sum.add(&(
            encoder.normalization(),
            encoder.pooling(),
            encoder.padding(),
        ));
        let styles = self.styles.iter().flat_map(|style| {
            let region = style.region.iter();
            let masks = region.flat_map(|region| [Some(&region.content), region.style.as_ref()]);
            [Some(&style.picture)].into_iter().chain(masks).flatten()
        });
        for picture in self.content.iter().chain(styles).chain(&self.start) {
            sum.picture(picture);
        }
        for style in &self.styles {
            let region = style.region.as_ref().map(|region| region.style.is_some());
            sum.add(&(style.weight, style.scale, region));
        }
        for parameter in encoder.parameters() {
            sum.tensor(&parameter);
        }
        sum.sum()
    }
}
