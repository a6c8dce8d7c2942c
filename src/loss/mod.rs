//! The loss: a tree of named, weighted terms.
//!
//! A [`Loss`] knows nothing of the optimiser. Its leaves are [`Term`]s. A term is a function of sums
//! over the positions of the image, so that it can be computed from parts of the image as well as from
//! the whole: Gram matrices, means, covariances, squared errors and total variation all are. Anyone can
//! write another one:
//!
//! ```
//! use burn::tensor::{Tensor, backend::Backend};
//! use impasto::Layer;
//! use impasto::loss::{Loss, Part, Term, sum_per_image};
//!
//! /// Pulls the mean brightness towards a value.
//! #[derive(Debug)]
//! struct Brightness(f32);
//!
//! impl<B: Backend> Term<B> for Brightness {
//!     fn layers(&self) -> Vec<Layer> {
//!         Vec::new()
//!     }
//!     fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
//!         // Divided by the number of values in the whole image, so that the sum is the mean.
//!         let [height, width] = part.size();
//!         sum_per_image(part.image()).div_scalar((3 * height * width) as f64)
//!     }
//!     fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
//!         (sums - self.0).powi_scalar(2).squeeze_dim(1)
//!     }
//!     fn describe(&self) -> String {
//!         format!("squared distance of the mean brightness from {}", self.0)
//!     }
//! }
//!
//! let loss = Loss::<burn::backend::Flex>::sum("total", 1.0, vec![
//!     Loss::term("brightness", 10.0, Brightness(0.5)),
//! ]);
//! println!("{loss}");
//! ```

mod content;
mod guide;
mod hypercolumn;
mod layer_neighbors;
mod moments;
mod neighbors;
mod part;
mod pixel_sample;
mod relative;
mod similarity;
mod style;
mod term;
mod transport;
mod values;
mod variation;

use std::fmt;

use burn::tensor::{Tensor, backend::Backend};

use crate::encoder::{Features, SquaredDistance, Tap};
use crate::layer::Layer;
use crate::readback;

pub use crate::rect::Rect;

pub use content::{ContentNormalization, ContentTerm};
pub use guide::{EmptyRegion, Guide};
pub use hypercolumn::Hypercolumns;
pub use layer_neighbors::LayerNeighborsTerm;
pub use moments::{MomentsDistance, MomentsTerm};
pub use neighbors::{Distance, NeighborsTerm};
pub use part::{Part, sum_per_image};
pub use pixel_sample::{PixelColumns, PixelSample, pixel_colors};
pub use relative::RelativeTerm;
pub use similarity::SelfSimilarityTerm;
pub use style::{GramNormalization, StyleTerm, gram_matrix};
pub use term::{ScaleView, Term, TermError};
pub use transport::{PaletteTerm, SampledMomentsTerm, TransportTerm};
pub use values::LossValues;
pub use variation::{Reduction, Stencil, TotalVariation, VariationNorm};

/// A named, weighted term, or a named, weighted sum of losses.
#[derive(Debug)]
pub struct Loss<B: Backend> {
    name: String,
    weight: f64,
    kind: Kind<B>,
}

#[derive(Debug)]
enum Kind<B: Backend> {
    Term(Box<dyn Term<B>>),
    Sum(Vec<Loss<B>>),
}

impl<B: Backend> Loss<B> {
    /// A single term.
    pub fn term(name: impl Into<String>, weight: f64, term: impl Term<B> + 'static) -> Self {
        Self {
            name: name.into(),
            weight,
            kind: Kind::Term(Box::new(term)),
        }
    }

    /// A weighted sum: its value is `Σ weightᵢ · valueᵢ` over the parts.
    pub fn sum(name: impl Into<String>, weight: f64, parts: Vec<Loss<B>>) -> Self {
        Self {
            name: name.into(),
            weight,
            kind: Kind::Sum(parts),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the value is multiplied with in the sum above.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The parts of a sum, to be put into another one; empty for a single term, which is dropped.
    pub fn into_parts(self) -> Vec<Loss<B>> {
        match self.kind {
            Kind::Term(_) => Vec::new(),
            Kind::Sum(parts) => parts,
        }
    }

    /// All layers that the terms read, without repetition, shallow to deep.
    pub fn layers(&self) -> Vec<Layer> {
        self.taps().into_iter().map(|tap| tap.layer).collect()
    }

    /// The [layers](Self::layers), with what the terms read of each.
    pub fn taps(&self) -> Vec<Tap> {
        let taps = self.terms().flat_map(|(_, term)| {
            let (moments, distance) = (term.reads_only(), term.reads_only_distance());
            let tap = move |layer| match (moments, &distance) {
                (Some(moments), _) => Tap::moments(layer, moments),
                (None, Some(_)) => Tap::distances(layer),
                (None, None) => Tap::features(layer),
            };
            term.layers().into_iter().map(tap)
        });
        Tap::merged(taps.collect())
    }

    /// The distances that are all that terms [read](Term::reads_only_distance) of their layers.
    pub fn distances(&self) -> Vec<SquaredDistance<B>> {
        let terms = self.terms();
        terms
            .filter_map(|(_, term)| term.reads_only_distance())
            .collect()
    }

    /// The largest [`margin`](Term::margin) of the terms, in pixels.
    pub fn margin(&self) -> usize {
        let margins = self.terms().map(|(_, term)| term.margin());
        margins.max().unwrap_or(0)
    }

    /// The name of a term that [needs the whole image](Term::needs_whole_image), if there is one.
    pub fn needs_whole_image(&self) -> Option<&str> {
        let mut terms = self.terms();
        let (name, _) = terms.find(|(_, term)| term.needs_whole_image())?;
        Some(name)
    }

    /// Tells every term that a scale begins, see [`Term::begin_scale`].
    ///
    /// # Errors
    /// [`TermError`] for the first term that fails.
    pub fn begin_scale(&mut self, view: &ScaleView<'_, B>) -> Result<(), TermError> {
        match &mut self.kind {
            Kind::Term(term) => term.begin_scale(view).map_err(|source| TermError {
                name: self.name.clone(),
                source,
            }),
            Kind::Sum(parts) => parts.iter_mut().try_for_each(|part| part.begin_scale(view)),
        }
    }

    /// Tells every term that a step begins, see [`Term::begin_step`].
    pub fn begin_step(&mut self, step: usize) {
        match &mut self.kind {
            Kind::Term(term) => term.begin_step(step),
            Kind::Sum(parts) => parts.iter_mut().for_each(|part| part.begin_step(step)),
        }
    }

    /// Whether the value of a term changes from step to step, see [`Term::is_sampled`].
    pub fn is_sampled(&self) -> bool {
        self.terms().any(|(_, term)| term.is_sampled())
    }

    /// The sums of every term over a part of the image, depth-first.
    pub fn sums(&self, part: &Part<B>) -> Vec<Tensor<B, 2>> {
        self.terms().map(|(_, term)| term.sums(part)).collect()
    }

    /// The value of every term, given the sums of each over the whole image as [`sums`](Self::sums)
    /// orders them. Nothing is read back from the device yet.
    ///
    /// # Panics
    /// If there are fewer sums than terms.
    pub fn value(&self, sums: Vec<Tensor<B, 2>>, device: &B::Device) -> Evaluated<'_, B> {
        let mut values = Vec::new();
        let total = self.collect(&mut sums.into_iter(), device, &mut values);
        Evaluated {
            loss: self,
            total: total.mul_scalar(self.weight),
            values,
        }
    }

    /// The value of every term at an image, `[batch, 3, height, width]`, RGB in `[0, 1]`, with its
    /// features of at least the loss's layers. Nothing is read back from the device yet.
    pub fn evaluate(&self, image: &Tensor<B, 4>, features: &Features<B>) -> Evaluated<'_, B> {
        let part = Part::whole(image.clone(), features.clone());
        self.value(self.sums(&part), &image.device())
    }

    /// All terms with their names, depth-first.
    fn terms(&self) -> Box<dyn Iterator<Item = (&str, &dyn Term<B>)> + '_> {
        match &self.kind {
            Kind::Term(term) => Box::new(std::iter::once((&self.name[..], term.as_ref()))),
            Kind::Sum(parts) => Box::new(parts.iter().flat_map(Loss::terms)),
        }
    }

    /// The unweighted value; those of the terms are appended to `values` in depth-first order.
    fn collect(
        &self,
        sums: &mut impl Iterator<Item = Tensor<B, 2>>,
        device: &B::Device,
        values: &mut Vec<Tensor<B, 1>>,
    ) -> Tensor<B, 1> {
        match &self.kind {
            Kind::Term(term) => {
                let sums = sums.next().expect("sums for each term");
                let value = mean_over_batch(term.value(sums));
                values.push(value.clone());
                value
            }
            Kind::Sum(parts) => parts
                .iter()
                .map(|part| part.collect(sums, device, values).mul_scalar(part.weight))
                .reduce(|sum, value| sum + value)
                .unwrap_or_else(|| Tensor::zeros([1], device)),
        }
    }

    fn values(&self, numbers: &mut impl Iterator<Item = f64>) -> LossValues {
        let (value, parts) = match &self.kind {
            Kind::Term(_) => (numbers.next().unwrap_or(f64::NAN), Vec::new()),
            Kind::Sum(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| part.values(numbers)).collect();
                (parts.iter().map(LossValues::weighted).sum(), parts)
            }
        };
        LossValues {
            name: self.name.clone(),
            weight: self.weight,
            value,
            parts,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: &str, branch: &str) -> fmt::Result {
        write!(f, "{indent}{branch}{}", self.name)?;
        if self.weight != 1.0 {
            write!(f, " × {}", self.weight)?;
        }
        let indent = match branch {
            "├ " => format!("{indent}│ "),
            "└ " => format!("{indent}  "),
            _ => indent.to_string(),
        };
        match &self.kind {
            Kind::Term(term) => write!(f, ": {}", term.describe()),
            Kind::Sum(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let last = index + 1 == parts.len();
                    writeln!(f)?;
                    part.write(f, &indent, if last { "└ " } else { "├ " })?;
                }
                Ok(())
            }
        }
    }
}

/// The tree with weights, a line for each term.
impl<B: Backend> fmt::Display for Loss<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "", "")
    }
}

/// The mean, shape `[1]`: the value itself where there is one image.
fn mean_over_batch<B: Backend>(values: Tensor<B, 1>) -> Tensor<B, 1> {
    match values.dims() {
        [1] => values,
        _ => values.mean(),
    }
}

/// A loss at one image, still on the device.
#[derive(Debug)]
pub struct Evaluated<'a, B: Backend> {
    loss: &'a Loss<B>,
    /// The weighted total, shape `[1]`, to call `backward` on.
    pub total: Tensor<B, 1>,
    values: Vec<Tensor<B, 1>>,
}

impl<B: Backend> Evaluated<'_, B> {
    /// Reads all terms back at once.
    pub fn read(self) -> LossValues {
        let numbers = readback::numbers(self.values);
        self.loss.values(&mut numbers.into_iter())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::encoder::Vgg19Config;
    use burn::backend::Flex;

    #[derive(Debug)]
    struct Constant(f32);

    impl<B: Backend> Term<B> for Constant {
        fn layers(&self) -> Vec<Layer> {
            vec![Layer::RELU2_1, Layer::RELU1_1]
        }
        fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
            Tensor::full([part.batch(), 1], self.0, &part.image().device())
        }
        fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
            sums.squeeze_dim(1)
        }
        fn describe(&self) -> String {
            format!("always {}", self.0)
        }
    }

    fn tree() -> Loss<Flex> {
        Loss::sum(
            "total",
            1.0,
            vec![
                Loss::term("a", 2.0, Constant(3.0)),
                Loss::sum(
                    "b",
                    10.0,
                    vec![
                        Loss::term("x", 1.0, Constant(0.5)),
                        Loss::term("y", 4.0, Constant(0.25)),
                    ],
                ),
            ],
        )
    }

    #[test]
    fn weights_multiply_along_the_tree() {
        let device = Default::default();
        let image = Tensor::zeros([1, 3, 4, 4], &device);
        let encoder = Vgg19Config::new().with_width(2).init::<Flex>(&device);
        let features = encoder.features(image.clone(), &[]).unwrap();
        let loss = tree();
        let evaluated = loss.evaluate(&image, &features);
        let total: f32 = evaluated.total.clone().into_scalar();
        let values = evaluated.read();
        assert_eq!(total, 21.0);
        assert_eq!(values.weighted(), 21.0);
        assert_eq!(values.get("b").unwrap().value, 1.5);
        assert_eq!(values.get("b/y").unwrap().value, 0.25);
        assert!(values.get("b/z").is_none());
        assert_eq!(loss.layers(), [Layer::RELU1_1, Layer::RELU2_1]);
    }

    #[test]
    fn the_tree_prints_one_line_for_each_term() {
        assert_eq!(
            tree().to_string(),
            "total\n\
             ├ a × 2: always 3\n\
             └ b × 10\n  \
               ├ x: always 0.5\n  \
               └ y × 4: always 0.25"
        );
    }
}
