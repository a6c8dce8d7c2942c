//! Losses confined to a part of the picture.

use burn::tensor::{Tensor, backend::Backend};

use super::Term;
use crate::encoder::{Features, Guide, Layer};

/// A term that sees a region only: one of those that read Gram matrices and means.
#[derive(Debug)]
pub struct Guided<B: Backend, T> {
    term: T,
    guide: Guide<B>,
}

impl<B: Backend, T> Guided<B, T> {
    /// Confines a term to the region that `guide` describes.
    pub fn new(term: T, guide: Guide<B>) -> Self {
        Self { term, guide }
    }
}

impl<B: Backend, T: Term<B>> Term<B> for Guided<B, T> {
    fn layers(&self) -> Vec<Layer> {
        self.term.layers()
    }

    fn value(&self, image: &Tensor<B, 4>, features: &Features<B>) -> Tensor<B, 1> {
        self.term.value(image, &features.guided(&self.guide))
    }

    fn describe(&self) -> String {
        format!("{}, in a region", self.term.describe())
    }
}
