//! What a loss is made of.

use std::error::Error;
use std::fmt;

use burn::tensor::{Tensor, backend::Backend};

use super::Part;
use crate::encoder::{Moments, SquaredDistance, Vgg19};
use crate::layer::Layer;
use crate::picture::Picture;

/// A leaf of the loss: a function of sums over the positions of an image.
///
/// The loss of a batch is the mean of the losses of its images, for every term.
pub trait Term<B: Backend>: fmt::Debug + Send {
    /// The layers whose features [`sums`](Self::sums) reads.
    fn layers(&self) -> Vec<Layer>;

    /// Sums over the positions of a part of the image, `[batch, sums]`, differentiable with respect to
    /// its pixels and features.
    ///
    /// They are additive: over disjoint parts that cover the image they add up to the sums of the
    /// whole. To get a mean, divide by the count of the whole image, not of the part. (A term that
    /// [needs the whole image](Self::needs_whole_image) may return anything that `value` understands.)
    fn sums(&self, part: &Part<B>) -> Tensor<B, 2>;

    /// The unweighted value for each image of a batch, shape `[batch]`, given the sums over all
    /// positions, `[batch, sums]`.
    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1>;

    /// A few words for the printed tree.
    fn describe(&self) -> String;

    /// What [`sums`](Self::sums) reads of its layers, where that is nothing but moments:
    /// [`Part::gram_sum`], with [`Moments::GramAndMean`] also [`Part::mean_sum`], both without a guide.
    /// Features need not be kept then where they take much memory. `None` if it reads them in another way.
    fn reads_only(&self) -> Option<Moments> {
        None
    }

    /// What [`sums`](Self::sums) reads of its layer, where that is nothing but [`Part::distance_sum`] of this:
    /// the same at each call. Features need not be kept then either.
    fn reads_only_distance(&self) -> Option<SquaredDistance<B>> {
        None
    }

    /// How many pixels beyond the part on each side [`sums`](Self::sums) reads by
    /// [`Part::pixels`] and [`Part::sample`].
    fn margin(&self) -> usize {
        0
    }

    /// Whether the value is no function of sums over positions: the largest value, or an order of all
    /// values. Such a term cannot be computed in tiles.
    fn needs_whole_image(&self) -> bool {
        false
    }

    /// Whether the value changes from step to step, because [`begin_step`](Self::begin_step) draws
    /// what it looks at. The losses of two steps cannot be compared then.
    fn is_sampled(&self) -> bool {
        false
    }

    /// Called before each step of the optimiser, with the number of steps taken at this scale: the
    /// place to draw a sample of positions. What is drawn must depend on nothing but the step, so that
    /// a resumed run draws the same.
    fn begin_step(&mut self, _: usize) {}

    /// Called when a scale of a run begins, again when the recipe is changed during the scale, and when a
    /// run is resumed in it: the place to make a target of the scale's size.
    ///
    /// # Errors
    /// Whatever makes the term impossible at this scale; the run ends with it.
    fn begin_scale(&mut self, _: &ScaleView<'_, B>) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

/// What a term may look at when a scale begins.
#[derive(Debug)]
pub struct ScaleView<'a, B: Backend> {
    /// The network, with the pooling and padding of the run.
    pub encoder: &'a Vgg19<B>,
    /// The content picture at the size of the scale, in the colours that the run works in.
    pub content: &'a Picture,
    /// The image that the scale started from, `[1, 3, height, width]`, RGB in `[0, 1]`; the same when a
    /// run is resumed.
    pub start: Tensor<B, 4>,
    /// Index of the scale, from 0.
    pub scale: usize,
    /// How many scales there are.
    pub scales: usize,
}

/// A term that could not begin a scale.
#[derive(Debug, thiserror::Error)]
#[error("the loss term `{name}` cannot begin a scale")]
pub struct TermError {
    /// The name of the term.
    pub name: String,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// What a term is, and whether it is confined to a region.
pub(super) fn in_region(words: &str, guided: bool) -> String {
    match guided {
        true => format!("{words}, in a region"),
        false => words.to_string(),
    }
}
