//! Neural style transfer in pure Rust on the [Burn](https://burn.dev) framework.
//!
//! A network trained on ImageNet separates what a picture shows from how it is painted (Gatys,
//! Ecker and Bethge, [2015](https://arxiv.org/abs/1508.06576) and CVPR 2016). This crate finds the
//! picture that has the content of one and the style of another, by gradient descent on its pixels.
//! Everything is generic over Burn's backend.
//!
//! ```
//! # #[cfg(all(feature = "flex", feature = "builtin"))] {
//! use burn::backend::{Autodiff, Flex};
//! use impasto::{Picture, Recipe, StyleTransfer, Vgg19};
//!
//! // Any backend with autodiff will do: Autodiff<Cuda>, Autodiff<Wgpu>, …
//! type B = Autodiff<Flex>;
//!
//! // The slim encoder inside the crate; `Vgg19::load("vgg19.onnx", …)` for the real network.
//! let encoder = Vgg19::<B>::builtin(&Default::default());
//! let outcome = StyleTransfer::new(&encoder)
//!     .content(Picture::open("assets/scene.jpg")?)
//!     .style(Picture::open("assets/swirls.jpg")?, 1.0)
//!     .recipe(Recipe { iterations: 3, ..Recipe::default() }.with_size(48))
//!     .run()?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let out = folder.path().join("out.png");
//! outcome.picture.save(&out)?;
//! # }
//! # Ok::<(), impasto::Error>(())
//! ```
//!
//! # How data flows
//!
//! picture → encoder → loss → eval → optim → transfer → picture. The modules stand in that order:
//!
//! | module | what lives there |
//! |---|---|
//! | [`picture`] | files, resizing, pixels ↔ tensors |
//! | [`layer`] | the names of VGG19's layers |
//! | [`weights`] | ONNX, safetensors, PyTorch, the slim encoder inside the crate |
//! | [`encoder`] | the network [`Vgg19`] and the [`Features`] of its layers |
//! | [`loss`] | content, Gram matrices, total variation, terms of your own, as sums over positions |
//! | [`communicator`] | threads, devices, processes and machines that share an evaluation |
//! | [`eval`] | [`Evaluator`]: loss and gradient at an image, whole or in tiles |
//! | [`optim`] | L-BFGS and Adam on a bare image tensor |
//! | [`transfer`] | [`Recipe`], [`StyleTransfer`], and the [`Run`] that its owner steps |
//! | `pretrained` | VGG19's weights from their publishers, a cache, checks (feature `pretrained`) |
//! | `view` | feature maps, the figure of Gatys et al., evolution and curves of a run (feature `views`) |
//! | [`kernel`] | the fast operations under the encoder and the losses, for each backend |
//!
//! Each part is usable alone on plain Burn tensors.
//!
//! # In a browser
//!
//! The crate builds for `wasm32-unknown-unknown`, where there are no files: [`Picture::from_bytes`],
//! [`Picture::to_bytes`], [`Vgg19Weights::from_bytes`], [`transfer::Checkpoint::from_bytes`]. The repository has a page
//! around it (`web/`) and what it took to make (`docs/browser.md`).
//!
//! # Cargo features
//!
//! | feature | what it adds |
//! |---|---|
//! | `flex` (default) | Burn's fast CPU backend |
//! | `builtin` (default) | the slim encoder, 1.0 MB inside the crate |
//! | `ndarray`, `cuda`, `wgpu` | other backends |
//! | `onnx`, `pytorch`, `archives` | reading weights from ONNX models, PyTorch files, tar and zip archives |
//! | `mpi` | painting one picture on many machines, by the system's MPI |
//! | `pretrained` | fetching VGG19's weights, a cache of them, checks of what a file holds |
//! | `views` | sheets of feature maps and reconstructions, animations, curves |
//! | `cli` | the program `impasto` and what only it needs |

#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(hidden)]
pub mod atomic;
pub mod communicator;
pub mod encoder;
mod error;
pub mod eval;
pub mod kernel;
pub mod layer;
pub mod loss;
mod normalization;
pub mod optim;
#[doc(hidden)]
pub mod page;
pub mod picture;
#[cfg(feature = "pretrained")]
pub mod pretrained;
mod readback;
mod rect;
mod suggest;
mod tile;
pub mod transfer;
#[cfg(feature = "views")]
pub mod view;
pub mod weights;

pub use encoder::{
    EncoderError, Features, Layer, Normalization, Padding, Pooling, Vgg19, Vgg19Config,
};
pub use error::Error;
pub use eval::Evaluator;
pub use kernel::{AutodiffStyleBackend, StyleBackend};
pub use picture::{Picture, PictureError};
pub use transfer::{
    Init, Outcome, Recipe, RecipeError, Region, Run, Status, Step, Style, StyleTransfer,
    TransferError,
};
pub use weights::{Vgg19Weights, WeightsError};

/// Compiles the README's example with the tests.
#[cfg(all(doctest, feature = "flex", feature = "builtin"))]
#[doc = include_str!("../README.md")]
struct Readme;
