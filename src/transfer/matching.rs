//! The targets of losses by matching: which place of the style each place of the result is to resemble.

use burn::module::AutodiffModule;
use burn::tensor::{Bool, Tensor, backend::Backend};

use super::objective::ScaleInputs;
use super::recipe::{Neighbors, Search};
use super::search::{Basis, Columns};
use super::{Request, Style, TransferError};
use crate::encoder::{EncoderError, Vgg19};
use crate::kernel::{AutodiffStyleBackend, StyleBackend};
use crate::layer::Layer;
use crate::loss::{
    Hypercolumns, LayerNeighborsTerm, Loss, NeighborsTerm, PaletteTerm, Part, PixelColumns,
    PixelSample, SampledMomentsTerm, SelfSimilarityTerm, TransportTerm, pixel_colors,
};
use crate::optim::finest_band;
use crate::picture::Picture;

/// Columns of each turned style picture from which a basis is made.
const BASIS_COLUMNS: usize = 2048;

/// Pixels of the image from which those of a step are drawn, at most, along the side of a square.
pub(super) const POOL_SIDE: usize = 128;

/// Positions along the longer side of a layer that the last pass knows of each turned style picture.
const FINAL_POSITIONS: usize = 64;

/// The largest inner product of each query so far, and the column that has it, for each layer.
type Best<B> = (Tensor<B, 1>, Vec<Tensor<B, 2>>);

/// A style with its weight relative to the sum over all styles, and where it is painted.
struct Weighted<'a> {
    index: usize,
    style: &'a Style,
    weight: f64,
}

impl<B: AutodiffStyleBackend> Request<B> {
    /// The styles that are painted. Weights add up to 1, or, where there are regions, to the number of
    /// regions and of what is painted everywhere: those of equal weight count alike in their places.
    fn weighted_styles<'a>(&'a self) -> Vec<Weighted<'a>> {
        let styles = self.styles.iter().enumerate();
        let styles: Vec<_> = styles.filter(|(_, style)| style.weight > 0.0).collect();
        let total: f64 = styles.iter().map(|(_, style)| style.weight).sum();
        let regional = styles.iter().filter(|(_, style)| style.region.is_some());
        let regional = regional.count();
        let groups = regional + usize::from(regional < styles.len());
        let weighted = |(index, style): (usize, &'a Style)| Weighted {
            index,
            style,
            weight: style.weight * groups as f64 / total,
        };
        styles.into_iter().map(weighted).collect()
    }

    /// A style picture as a scale sees it.
    fn style_image(
        &self,
        inputs: &ScaleInputs<'_, B>,
        style: &Weighted<'_>,
    ) -> Tensor<B::InnerBackend, 4> {
        let picture = &inputs.styles[style.index];
        let (size, scale) = (inputs.scale.size, style.style.scale);
        let (width, height) = inputs.recipe.style_dimensions(picture, size, scale);
        picture
            .resize(width, height)
            .to_tensor(&inputs.encoder.device())
    }

    /// The same upright and, if the recipe says so, turned by one to three quarters.
    fn style_images(
        &self,
        inputs: &ScaleInputs<'_, B>,
        style: &Weighted<'_>,
    ) -> Vec<Tensor<B::InnerBackend, 4>> {
        let image = self.style_image(inputs, style);
        let turns = if inputs.recipe.neighbors.rotations {
            4
        } else {
            1
        };
        (0..turns)
            .map(|turns| turned(image.clone(), turns))
            .collect()
    }

    /// Style by nearest neighbours: fixed targets for hypercolumns, or the last pass.
    pub(super) fn neighbors_loss(
        &self,
        inputs: &ScaleInputs<'_, B>,
    ) -> Result<Loss<B>, TransferError> {
        let weight = inputs.recipe.neighbors.weight;
        match inputs.scale.final_pass {
            false => Ok(Loss::term(
                "neighbors",
                weight,
                self.neighbors_term(inputs)?,
            )),
            true => Ok(Loss::sum("neighbors", weight, self.layer_terms(inputs)?)),
        }
    }

    fn neighbors_term(
        &self,
        inputs: &ScaleInputs<'_, B>,
    ) -> Result<NeighborsTerm<B>, TransferError> {
        let settings = &inputs.recipe.neighbors;
        let encoder = inputs.encoder.valid();
        let content = inputs.content.to_tensor(&encoder.device());
        let searched = match inputs.index {
            0 => content,
            _ => {
                let share = settings.content_share;
                // The coarser result has lost its finest band.
                let painted = match inputs.has_detail {
                    true => inputs.start.clone(),
                    false => inputs.start.clone() + finest_band(content.clone()),
                };
                content * share + painted * (1.0 - share)
            }
        };
        let [_, _, height, width] = searched.dims();
        let hypercolumns = Hypercolumns::new(&encoder, &settings.layers, [height, width])?;
        let queries = Columns::of(&encoder, &searched, &hypercolumns, inputs.tile_size())?;
        let count = hypercolumns.count();
        let device = encoder.device();
        let mut term = NeighborsTerm::new(hypercolumns, settings.distance, &device);
        for style in self.weighted_styles() {
            let region = style.style.region.as_ref();
            let guides = inputs.guides[style.index].as_ref();
            // As many times as the position counts, 1 in the mean over the picture.
            let mask = guides.and_then(|guides| guides.content.get(Hypercolumns::GRID_LAYER));
            let mask = mask.map(|mask| mask.clone().powi_scalar(2).reshape([count]));
            let images = self.style_images(inputs, &style);
            let style_mask = region.and_then(|region| region.style.as_ref());
            let found = self.nearest_columns(
                &encoder,
                (&queries, &queries.mean_within(mask.as_ref())),
                &images,
                style_mask,
                (settings, inputs.tile_size()),
            )?;
            let weights = match mask {
                None => Tensor::full([count], style.weight, &device),
                Some(mask) => mask * style.weight,
            };
            let found = found.into_iter().map(Tensor::from_inner);
            term = term.with_targets(found.collect(), Tensor::from_inner(weights));
        }
        Ok(term)
    }

    /// For each query, as seen from their mean, the nearest of a style's hypercolumns: for each layer
    /// `[channels, queries]`.
    fn nearest_columns(
        &self,
        encoder: &Vgg19<B::InnerBackend>,
        (queries, queries_mean): (&Columns<B::InnerBackend>, &Columns<B::InnerBackend>),
        images: &[Tensor<B::InnerBackend, 4>],
        mask: Option<&Picture>,
        (settings, tile_size): (&Neighbors, Option<usize>),
    ) -> Result<Vec<Tensor<B::InnerBackend, 2>>, TransferError> {
        // Turned pictures one after the other, twice: first for their mean, then for the search. Kept
        // together they would need several times the memory.
        let columns = |turns: usize| -> Result<Columns<B::InnerBackend>, TransferError> {
            let image = &images[turns];
            let [_, _, height, width] = image.dims();
            let hypercolumns = Hypercolumns::new(encoder, &settings.layers, [height, width])?;
            let columns = Columns::of(encoder, image, &hypercolumns, tile_size)?;
            let Some(mask) = mask else {
                return Ok(columns);
            };
            Ok(columns.select(&inside(mask, hypercolumns.grid(), turns)))
        };
        let mut samples = Vec::new();
        let mut mean = Columns::zero();
        for turns in 0..images.len() {
            let columns = columns(turns)?;
            if let Search::Projected { .. } = settings.search {
                samples.push(columns.thinned(BASIS_COLUMNS));
            }
            mean = mean.plus_sum_of(&columns);
        }
        let mean = mean.mean();
        let basis = match settings.search {
            Search::Exact => None,
            Search::Projected { dimensions } => Some(Basis::new(&samples, &mean, dimensions)),
        };
        drop(samples);
        let queries = queries.projected(queries_mean, basis.as_ref());
        let mut best: Option<Best<B::InnerBackend>> = None;
        for turns in 0..images.len() {
            let columns = columns(turns)?;
            let candidates = columns.directions_from(&mean, basis.as_ref());
            let (nearest, product) =
                <B::InnerBackend as StyleBackend>::nearest(queries.clone(), candidates);
            let found = columns.select_at(nearest);
            best = Some(match best {
                None => (product, found),
                Some((known, targets)) => {
                    let better = product.clone().greater(known.clone());
                    let pairs = targets.into_iter().zip(found);
                    let targets = pairs.map(|(target, found)| {
                        let better: Tensor<_, 2, Bool> = better.clone().unsqueeze();
                        let better = better.expand(target.dims());
                        target.mask_where(better, found)
                    });
                    let targets = targets.collect();
                    (known.mask_where(better, product), targets)
                }
            });
        }
        Ok(best.map(|(_, targets)| targets).unwrap_or_default())
    }

    /// The last pass: each layer by itself, for each style.
    fn layer_terms(&self, inputs: &ScaleInputs<'_, B>) -> Result<Vec<Loss<B>>, TransferError> {
        let settings = &inputs.recipe.neighbors;
        let encoder = inputs.encoder.valid();
        let styles = self.weighted_styles();
        let several = styles.len() > 1;
        let mut losses = Vec::new();
        for style in styles {
            let region = style.style.region.as_ref();
            let images = self.style_images(inputs, &style);
            let style_mask = region.and_then(|region| region.style.as_ref());
            let columns = self.layer_columns(&encoder, &images, style_mask, &settings.layers)?;
            let layers = settings.layers.iter().zip(columns);
            let terms = layers.map(|(&layer, columns)| {
                let size = [inputs.scale.height, inputs.scale.width];
                let size = size.map(|side| side / layer.stride());
                let inside = region.map(|region| mask(&region.content, size));
                let columns = Tensor::from_inner(columns);
                let term = LayerNeighborsTerm::new(layer, settings.distance, columns, self.seed);
                Loss::term(layer.to_string(), 1.0, term.within(inside))
            });
            let terms = terms.collect::<Vec<_>>();
            match several {
                false => losses = terms,
                true => {
                    let name = format!("style {}", style.index + 1);
                    losses.push(Loss::sum(name, style.weight, terms));
                }
            }
        }
        Ok(losses)
    }

    /// The features of a style at each of some layers, on a grid: `[channels, positions]`.
    fn layer_columns(
        &self,
        encoder: &Vgg19<B::InnerBackend>,
        images: &[Tensor<B::InnerBackend, 4>],
        mask: Option<&Picture>,
        layers: &[Layer],
    ) -> Result<Vec<Tensor<B::InnerBackend, 2>>, TransferError> {
        let mut columns: Vec<Vec<Tensor<B::InnerBackend, 2>>> = vec![Vec::new(); layers.len()];
        for (turns, image) in images.iter().enumerate() {
            let part = whole(encoder, image, layers)?;
            for (&layer, columns) in layers.iter().zip(&mut columns) {
                let points = final_points(part.layer_size(layer), mask, turns);
                columns.push(part.sample(layer, &points).squeeze_dim(0));
            }
        }
        let columns = columns.into_iter();
        Ok(columns.map(|columns| Tensor::cat(columns, 1)).collect())
    }

    /// Style by relaxed optimal transport, content by self-similarity.
    pub(super) fn transport_loss(
        &self,
        inputs: &ScaleInputs<'_, B>,
    ) -> Result<Loss<B>, TransferError> {
        let settings = &inputs.recipe.transport;
        let (encoder, device) = (inputs.encoder.valid(), inputs.encoder.device());
        let layers = &settings.layers;
        let columns = PixelColumns::new(layers.clone()).with_scale(encoder.feature_scale());
        let alpha = settings.content_at(inputs.index);
        let content = whole(&encoder, &inputs.content.to_tensor(&device), layers)?;
        let styles = self.weighted_styles();
        let several = styles.len() > 1;
        let mut groups = Vec::new();
        for style in styles {
            let region = style.style.region.as_ref();
            let image = whole(&encoder, &self.style_image(inputs, &style), layers)?;
            let pool = pool(content.size(), region.map(|region| &region.content));
            let mask = region.and_then(|region| region.style.as_ref());
            let all = pixels(image.size(), 1, mask);
            let sample = PixelSample::new(pool, settings.samples, self.seed);
            let seed = self.seed.wrapping_add(1);
            let pixels = PixelSample::new(all, settings.style_samples, seed).pixels();
            let style_columns = Tensor::from_inner(columns.at(&image, &pixels).squeeze_dim(0));
            let colors = Tensor::from_inner(pixel_colors(&image, &pixels).squeeze_dim(0));
            let kept = columns.at(&content, sample.pool()).squeeze_dim(0);
            let similarity = Tensor::from_inner(kept);
            let (columns, sample) = (|| columns.clone(), || sample.clone());
            let terms = vec![
                Loss::term(
                    "content",
                    alpha,
                    SelfSimilarityTerm::new(columns(), sample(), similarity),
                ),
                Loss::term(
                    "transport",
                    1.0,
                    TransportTerm::new(columns(), sample(), style_columns.clone()),
                ),
                Loss::term(
                    "moments",
                    1.0,
                    SampledMomentsTerm::new(columns(), sample(), style_columns),
                ),
                Loss::term(
                    "palette",
                    1.0 / alpha.max(1.0),
                    PaletteTerm::new(sample(), colors),
                ),
            ];
            match several {
                false => groups = terms,
                true => {
                    let name = format!("style {}", style.index + 1);
                    groups.push(Loss::sum(name, style.weight, terms));
                }
            }
        }
        let weight = settings.weight / (alpha + 2.0);
        Ok(Loss::sum("transport", weight, groups))
    }
}

/// A picture with its features.
fn whole<B: StyleBackend>(
    encoder: &Vgg19<B>,
    image: &Tensor<B, 4>,
    layers: &[Layer],
) -> Result<Part<B>, EncoderError> {
    let features = encoder.features(image.clone(), layers)?;
    Ok(Part::whole(image.clone(), features))
}

/// A picture turned by some quarters counter-clockwise.
fn turned<B: Backend>(image: Tensor<B, 4>, quarters: usize) -> Tensor<B, 4> {
    match quarters % 4 {
        0 => image,
        1 => image.flip([3]).swap_dims(2, 3),
        2 => image.flip([2, 3]),
        _ => image.swap_dims(2, 3).flip([3]),
    }
}

/// Where a mask is at least half white, or as white as it gets, of some rows and columns.
fn mask(picture: &Picture, [rows, columns]: [usize; 2]) -> Vec<bool> {
    let values = picture.resize(columns, rows).mean_of_channels();
    let most = values.iter().copied().fold(0.0, f32::max);
    let least = most.clamp(f32::MIN_POSITIVE, 0.5);
    values.iter().map(|&value| value >= least).collect()
}

/// The positions inside a mask, of a grid on the picture turned by some quarters.
fn inside(picture: &Picture, [rows, columns]: [usize; 2], quarters: usize) -> Vec<usize> {
    let [height, width] = match quarters % 2 {
        0 => [rows, columns],
        _ => [columns, rows],
    };
    let inside = mask(picture, [height, width]);
    let upright = |position: usize| {
        let (row, column) = (position / columns, position % columns);
        let (row, column) = match quarters % 4 {
            0 => (row, column),
            1 => (column, width - 1 - row),
            2 => (height - 1 - row, width - 1 - column),
            _ => (height - 1 - column, row),
        };
        row * width + column
    };
    let positions = 0..rows * columns;
    positions
        .filter(|&position| inside[upright(position)])
        .collect()
}

/// Rows and columns of a grid with this spacing.
fn grid(size: [usize; 2], spacing: usize) -> impl Iterator<Item = [usize; 2]> {
    let first = size.map(|side| (spacing / 2).min(side.saturating_sub(1)));
    let rows = (first[0]..size[0]).step_by(spacing);
    rows.flat_map(move |row| {
        let columns = (first[1]..size[1]).step_by(spacing);
        columns.map(move |column| [row, column])
    })
}

/// The points of a layer of this size (rows and columns) that the last pass reads of a turned style
/// picture: those of a grid, or all where a region lies between them.
fn final_points(size: [usize; 2], mask: Option<&Picture>, quarters: usize) -> Vec<[f32; 2]> {
    let spacing = (size[0].max(size[1]) / FINAL_POSITIONS).max(1);
    let inside = mask.map(|mask| inside(mask, size, quarters));
    let is_inside = |&[row, column]: &[usize; 2]| {
        let position = row * size[1] + column;
        let found = |inside: &Vec<usize>| inside.binary_search(&position).is_ok();
        inside.as_ref().is_none_or(found)
    };
    let mut points: Vec<_> = grid(size, spacing).filter(is_inside).collect();
    if points.is_empty() {
        points = grid(size, 1).filter(is_inside).collect();
    }
    points
        .into_iter()
        .map(|point| point.map(|at| at as f32))
        .collect()
}

/// The pixels of an image that lie on a grid and inside a mask, as rows and columns; all inside the mask
/// where it lies between those of the grid.
fn pixels(size: [usize; 2], spacing: usize, mask: Option<&Picture>) -> Vec<[usize; 2]> {
    let inside = mask.map(|picture| self::mask(picture, size));
    let is_inside = |&[row, column]: &[usize; 2]| {
        let found = |inside: &Vec<bool>| inside[row * size[1] + column];
        inside.as_ref().is_none_or(found)
    };
    let pixels: Vec<_> = grid(size, spacing).filter(is_inside).collect();
    match pixels.is_empty() {
        true => grid(size, 1).filter(is_inside).collect(),
        false => pixels,
    }
}

/// The pixels from which those of a step are drawn.
fn pool(size: [usize; 2], mask: Option<&Picture>) -> Vec<[usize; 2]> {
    let spacing = ((size[0] * size[1]) as f64).sqrt() / POOL_SIDE as f64;
    pixels(size, (spacing.ceil() as usize).max(1), mask)
}
