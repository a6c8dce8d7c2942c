//! The figure of Gatys, Ecker and Bethge (arXiv 1508.06576): what each depth keeps of a picture.

use std::ops::ControlFlow;

use super::sheet;
use crate::encoder::{Layer, Vgg19};
use crate::kernel::AutodiffStyleBackend;
use crate::picture::Picture;
use crate::transfer::{End, Recipe, Step, StyleTransfer, TransferError};

/// The first convolution of each block, after its ReLU.
const LAYERS: [Layer; 5] = [
    Layer::RELU1_1,
    Layer::RELU2_1,
    Layer::RELU3_1,
    Layer::RELU4_1,
    Layer::RELU5_1,
];

/// Size and effort of a [`figure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FigureOptions {
    /// Longest side of each picture in pixels.
    pub size: usize,
    /// Steps of the optimiser at each scale; those of the reconstruction recipes if none.
    pub iterations: Option<usize>,
    /// Seed of the noise that every reconstruction starts from.
    pub seed: u64,
    /// See [`StyleTransfer::memory_limit`].
    pub memory_limit: Option<u64>,
    /// See [`StyleTransfer::tile_size`].
    pub tile_size: Option<usize>,
}

impl Default for FigureOptions {
    /// 256 pixels.
    fn default() -> Self {
        Self {
            size: 256,
            iterations: None,
            seed: 0,
            memory_limit: None,
            tile_size: None,
        }
    }
}

/// Reconstructs `style` from the Gram matrices of relu1_1, relu1_1 and relu2_1, … up to relu5_1, and
/// `content` from each of these layers alone, all from noise, on one labelled sheet: the style and
/// its reconstructions above, the content and its reconstructions below.
///
/// `on_step` is called at each evaluation, with the number of the picture from 0 to 9; on `Break`
/// the sheet is returned as far as it has come.
///
/// # Errors
/// See [`StyleTransfer::run`].
pub fn figure<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    content: &Picture,
    style: &Picture,
    options: FigureOptions,
    mut on_step: impl FnMut(usize, &Step<'_, B::InnerBackend>) -> ControlFlow<()>,
) -> Result<Picture, TransferError> {
    let styles = (1..=LAYERS.len()).map(|count| {
        let label = match count {
            1 => "style: relu1_1".to_string(),
            count => format!("+ {}", LAYERS[count - 1]),
        };
        (label, style, Recipe::style_reconstruction(&LAYERS[..count]))
    });
    let contents = LAYERS.map(|layer| {
        let label = format!("content: {layer}");
        (label, content, Recipe::content_reconstruction(layer))
    });
    let dimensions = |picture: &Picture| Recipe::default().dimensions(picture, options.size);
    let original = |label: &str, picture: &Picture| {
        let (width, height) = dimensions(picture);
        (label.to_string(), picture.resize(width, height))
    };
    let mut rows = vec![
        vec![original("style", style)],
        vec![original("content", content)],
    ];
    for (index, (label, picture, mut recipe)) in styles.chain(contents).enumerate() {
        recipe.size = options.size;
        if let Some(iterations) = options.iterations {
            recipe.iterations = iterations;
            recipe.coarse_iterations = vec![iterations];
        }
        let mut transfer = StyleTransfer::new(encoder)
            .content(picture.clone())
            .style(picture.clone(), 1.0)
            .recipe(recipe)
            .seed(options.seed)
            .on_step(|step| on_step(index, step));
        if let Some(bytes) = options.memory_limit {
            transfer = transfer.memory_limit(bytes);
        }
        if let Some(pixels) = options.tile_size {
            transfer = transfer.tile_size(pixels);
        }
        let outcome = transfer.run()?;
        rows[index / LAYERS.len()].push((label, outcome.picture));
        if outcome.end == End::Stopped {
            break;
        }
    }
    let sizes = [dimensions(content), dimensions(style)];
    let [width, height] = [sizes[0].0.max(sizes[1].0), sizes[0].1.max(sizes[1].1)];
    Ok(sheet(&rows, width, height))
}
