//! What a picture is judged by: a tree of named, weighted terms.
//!
//! A [`Loss`] knows nothing of the optimiser. Its leaves are [`Term`]s, functions of the image and
//! of the encoder's [`Features`]; anyone can write another one:
//!
//! ```
//! use burn::tensor::{Tensor, backend::Backend};
//! use impasto::loss::{Loss, Term};
//! use impasto::{Features, Layer};
//!
//! /// Pulls the mean brightness towards a value.
//! #[derive(Debug)]
//! struct Brightness(f32);
//!
//! impl<B: Backend> Term<B> for Brightness {
//!     fn layers(&self) -> Vec<Layer> {
//!         Vec::new()
//!     }
//!     fn value(&self, image: &Tensor<B, 4>, _: &Features<B>) -> Tensor<B, 1> {
//!         (image.clone().mean() - self.0).powi_scalar(2)
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
mod guided;
mod moments;
mod style;
mod variation;

use std::fmt;
use std::rc::Rc;

use burn::tensor::{Tensor, backend::Backend};
use serde::Serialize;

use crate::encoder::{Features, Layer};

pub use content::{ContentNormalization, ContentTerm};
pub use guided::Guided;
pub use moments::{MomentsDistance, MomentsTerm};
pub use style::{GramNormalization, StyleTerm, gram_matrix};
pub use variation::{Reduction, Stencil, TotalVariation, VariationNorm};

/// A leaf of the loss: a function of the image and of what the encoder sees in it.
pub trait Term<B: Backend>: fmt::Debug {
    /// The layers that [`value`](Self::value) reads.
    fn layers(&self) -> Vec<Layer>;

    /// The unweighted value, shape `[1]`, differentiable with respect to `image` and `features`.
    ///
    /// `image` has the shape `[1, 3, height, width]`, RGB in `[0, 1]`; `features` hold at least the
    /// layers asked for.
    fn value(&self, image: &Tensor<B, 4>, features: &Features<B>) -> Tensor<B, 1>;

    /// A few words for the printed tree.
    fn describe(&self) -> String;
}

/// A term that several losses share.
impl<B: Backend, T: Term<B> + ?Sized> Term<B> for Rc<T> {
    fn layers(&self) -> Vec<Layer> {
        (**self).layers()
    }

    fn value(&self, image: &Tensor<B, 4>, features: &Features<B>) -> Tensor<B, 1> {
        (**self).value(image, features)
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}

/// A named and weighted term, or a sum of such.
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

    /// All layers that the terms read, without repetition, shallow to deep.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = match &self.kind {
            Kind::Term(term) => term.layers(),
            Kind::Sum(parts) => parts.iter().flat_map(Loss::layers).collect(),
        };
        layers.sort();
        layers.dedup();
        layers
    }

    /// The value of every term. Nothing is read back from the device yet.
    pub fn evaluate(&self, image: &Tensor<B, 4>, features: &Features<B>) -> Evaluated<'_, B> {
        let mut values = Vec::new();
        let total = self.collect(image, features, &mut values);
        Evaluated {
            loss: self,
            total: total.mul_scalar(self.weight),
            values,
        }
    }

    /// The unweighted value; those of the terms are appended to `values` in depth-first order.
    fn collect(
        &self,
        image: &Tensor<B, 4>,
        features: &Features<B>,
        values: &mut Vec<Tensor<B, 1>>,
    ) -> Tensor<B, 1> {
        match &self.kind {
            Kind::Term(term) => {
                let value = term.value(image, features);
                values.push(value.clone());
                value
            }
            Kind::Sum(parts) => parts
                .iter()
                .map(|part| {
                    part.collect(image, features, values)
                        .mul_scalar(part.weight)
                })
                .reduce(|sum, value| sum + value)
                .unwrap_or_else(|| Tensor::zeros([1], &image.device())),
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
        let numbers: Vec<f64> = if self.values.is_empty() {
            Vec::new()
        } else {
            Tensor::cat(self.values, 0).into_data().iter().collect()
        };
        self.loss.values(&mut numbers.into_iter())
    }
}

/// The tree of a loss with its values, in memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossValues {
    /// Name of the term or sum.
    pub name: String,
    /// What it is multiplied with in the sum above.
    pub weight: f64,
    /// The value before that: of the term, or the weighted sum of the parts.
    pub value: f64,
    /// The parts of a sum.
    pub parts: Vec<LossValues>,
}

impl LossValues {
    /// `weight · value`: what the term adds to the sum above it.
    pub fn weighted(&self) -> f64 {
        self.weight * self.value
    }

    /// The part with this path, such as `style` or `style/relu3_1`.
    pub fn get(&self, path: &str) -> Option<&LossValues> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let part = self.parts.iter().find(|part| part.name == first)?;
        if rest.is_empty() {
            Some(part)
        } else {
            part.get(rest)
        }
    }
}

/// `total 1.2e3 (content 0.3, style 12, tv 8e-4)`: the total and the unweighted parts.
impl fmt::Display for LossValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.4e}", self.name, self.weighted())?;
        for (index, part) in self.parts.iter().enumerate() {
            let open = if index == 0 { " (" } else { ", " };
            write!(f, "{open}{} {:.4e}", part.name, part.value)?;
        }
        if self.parts.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
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
        fn value(&self, image: &Tensor<B, 4>, _: &Features<B>) -> Tensor<B, 1> {
            Tensor::full([1], self.0, &image.device())
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
