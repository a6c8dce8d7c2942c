//! Terms relative to a reference value.

use burn::tensor::{Tensor, backend::Backend};

use super::{Part, Term};
use crate::encoder::{Moments, SquaredDistance};
use crate::layer::Layer;

/// A term divided by a reference value, such as its value for an image with no response, so that terms
/// in different units can be compared.
#[derive(Debug)]
pub struct RelativeTerm<B: Backend, T> {
    term: T,
    unit: Tensor<B, 1>,
}

impl<B: Backend, T> RelativeTerm<B, T> {
    /// Divides `term` by `unit`, shape `[1]`, such as its `zero_feature_loss`; a unit of 0 leaves it as
    /// it is.
    pub fn new(term: T, unit: Tensor<B, 1>) -> Self {
        let zero = unit.clone().equal_elem(0).float();
        let unit = unit + zero;
        Self { term, unit }
    }
}

impl<B: Backend, T: Term<B>> Term<B> for RelativeTerm<B, T> {
    fn layers(&self) -> Vec<Layer> {
        self.term.layers()
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        self.term.sums(part)
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        self.term.value(sums) / self.unit.clone()
    }

    fn describe(&self) -> String {
        format!("{}, relative to no response", self.term.describe())
    }

    fn reads_only(&self) -> Option<Moments> {
        self.term.reads_only()
    }

    fn reads_only_distance(&self) -> Option<SquaredDistance<B>> {
        self.term.reads_only_distance()
    }

    fn margin(&self) -> usize {
        self.term.margin()
    }

    fn needs_whole_image(&self) -> bool {
        self.term.needs_whole_image()
    }

    fn is_sampled(&self) -> bool {
        self.term.is_sampled()
    }

    fn begin_step(&mut self, step: usize) {
        self.term.begin_step(step);
    }

    fn begin_scale(
        &mut self,
        view: &super::ScaleView<'_, B>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.term.begin_scale(view)
    }
}
