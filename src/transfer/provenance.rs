//! How a picture was made, for the file that it is written to.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::{Recipe, Step, Style};
use crate::encoder::{Normalization, Padding, Pooling, Vgg19};
use crate::layer::Layer;
use crate::picture::{Metadata, Picture, PictureError};

/// How a picture was made: all that another run needs beside the pictures to make it again. It names
/// no files and no people.
///
/// ```no_run
/// # use impasto::{Outcome, transfer::Provenance};
/// # fn example(outcome: Outcome) -> Result<(), impasto::Error> {
/// let metadata = outcome.provenance.to_metadata();
/// outcome.picture.with_metadata(metadata).save("out.png")?;
///
/// let provenance = Provenance::read("out.png")?.expect("it was just written");
/// println!("{} with seed {}", provenance.recipe.name, provenance.seed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Provenance {
    /// Version of this crate.
    pub version: String,
    /// The recipe in force at the end, with the size that it gave to the content picture. A recipe
    /// that is not of this crate is called `custom`, and its source is left out.
    pub recipe: Recipe,
    /// Seed of the noise.
    pub seed: u64,
    /// The network.
    pub encoder: EncoderInfo,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Evaluations of loss and gradient.
    pub evaluations: usize,
    /// Whether all steps were taken.
    pub finished: bool,
    /// Width and height of the content picture in pixels, as it was given to the run.
    pub content: [usize; 2],
    /// The styles, in their order.
    pub styles: Vec<StyleInfo>,
    /// Whether the run began from a picture of its own, which the recipe does not know.
    #[serde(default)]
    pub start_picture: bool,
    /// Side of the tiles in pixels, if it was computed in tiles.
    #[serde(default)]
    pub tile_size: Option<usize>,
    /// How many loss terms of its own the calling program added.
    #[serde(default)]
    pub own_terms: usize,
}

/// The network that a run used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EncoderInfo {
    /// `builtin` for the encoder inside this crate, `vgg19` for weights of VGG19's size, else
    /// `vgg19-like`.
    pub name: String,
    /// [`Vgg19::checksum`] in hexadecimal digits.
    pub checksum: String,
    /// The normalisation of the weights.
    pub normalization: Normalization,
    /// How it pooled where the recipe leaves that open.
    pub pooling: Pooling,
    /// What it saw beyond the border where the recipe leaves that open.
    pub padding: Padding,
}

/// A style of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StyleInfo {
    /// Width of its picture in pixels.
    pub width: usize,
    /// Height of its picture in pixels.
    pub height: usize,
    /// Its weight beside the other styles.
    pub weight: f64,
    /// Its scale beside that of the recipe.
    pub scale: f64,
    /// Whether it was confined to a region.
    pub region: bool,
}

/// Why it cannot be told how a picture was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// The file cannot be read, or is no picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// What the file says is damaged, or was written by another version.
    #[error(
        "{}: {program} wrote how it made the picture, in a form that impasto {} cannot read ({problem})",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The program that wrote it, with its version.
        program: String,
        /// What was found.
        problem: String,
    },
}

impl Provenance {
    /// Reads how a picture file was made; `None` if it does not say, or was not made by this crate.
    ///
    /// # Errors
    /// [`ProvenanceError`].
    pub fn read(path: impl AsRef<Path>) -> Result<Option<Self>, ProvenanceError> {
        let path = path.as_ref();
        let Some(metadata) = Metadata::read(path)? else {
            return Ok(None);
        };
        let provenance = serde_json::from_str(&metadata.provenance);
        provenance
            .map(Some)
            .map_err(|error| ProvenanceError::Format {
                path: path.into(),
                program: match metadata.creator_tool.as_str() {
                    "" => "another program".to_string(),
                    program => program.chars().take(40).collect(),
                },
                problem: error.to_string(),
            })
    }

    /// The form in which a picture's file keeps it.
    pub fn to_metadata(&self) -> Metadata {
        Metadata {
            creator_tool: format!("impasto {}", self.version),
            // Numbers, names and lists of them always have a form.
            provenance: serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// That of the picture at an evaluation of the run.
    pub fn at_step<B: Backend>(&self, step: &Step<'_, B>) -> Self {
        Self {
            width: step.width,
            height: step.height,
            evaluations: step.evaluation,
            finished: false,
            ..self.clone()
        }
    }
}

impl EncoderInfo {
    pub(super) fn new<B: Backend>(encoder: &Vgg19<B>) -> Self {
        Self {
            name: encoder.name().to_string(),
            checksum: format!("{:032x}", encoder.checksum()),
            normalization: encoder.normalization(),
            pooling: encoder.pooling(),
            padding: encoder.padding(),
        }
    }
}

impl StyleInfo {
    pub(super) fn new(style: &Style) -> Self {
        Self {
            width: style.picture.width(),
            height: style.picture.height(),
            weight: style.weight,
            scale: style.scale,
            region: style.region.is_some(),
        }
    }
}

/// Width and height.
pub(super) fn size_of(picture: &Picture) -> [usize; 2] {
    [picture.width(), picture.height()]
}

/// The same recipe without words of its owner, in which there may be names.
pub(super) fn without_prose(recipe: &Recipe) -> Recipe {
    let named = Recipe::named(&recipe.name);
    let reconstructions = [
        Recipe::content_reconstruction(Layer::RELU1_1),
        Recipe::style_reconstruction(&[]),
    ];
    let known = named.into_iter().chain(reconstructions);
    let mut known = known.filter(|known| known.name == recipe.name);
    let (name, source) = match known.next() {
        Some(known) => (known.name, known.source),
        None => ("custom".to_string(), String::new()),
    };
    Recipe {
        name,
        source,
        ..recipe.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_owner_stay_out() {
        let owner = Recipe {
            name: "for-ann".to_string(),
            source: "/home/ann/recipes".to_string(),
            ..Recipe::gram()
        };
        let kept = without_prose(&owner);
        assert_eq!((&kept.name[..], &kept.source[..]), ("custom", ""));
        let renamed = Recipe {
            name: "gram".to_string(),
            ..owner.clone()
        };
        assert_eq!(without_prose(&renamed), Recipe::gram());
        let reconstruction = Recipe::content_reconstruction(Layer::RELU2_1);
        assert_eq!(without_prose(&reconstruction), reconstruction);
    }
}
