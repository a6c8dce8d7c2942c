//! Convolutions of large images in strips of rows, so that what lies between two operations is never there
//! as a whole.
//!
//! At the size of the image a response of 64 channels takes 256 bytes a pixel, more than all that is kept
//! of the deeper layers. Each strip is computed with a few rows around it that its values depend on;
//! those begin at multiples of four rows, as the tiles of a Winograd convolution do.

use std::ops::Range;

use burn::tensor::{Tensor, backend::Backend};

use super::{BackwardMask, ConvOps, Epilogue, PackedConv2d};
use crate::rect::Rect;

/// Rows around a strip: two convolutions look one row further each, and a tile has four.
const HALO: usize = 4;

/// Strips begin at multiples of as many rows, so that neither pools nor tiles are cut.
const GRID: usize = 8;

/// A strip of the rows of an image.
struct Strip {
    rows: Range<usize>,
    /// The same with the halo, as far as the image reaches.
    window: Range<usize>,
}

impl Strip {
    /// The rows of the strip within its window, at a layer of this stride.
    fn own(&self, stride: usize) -> Range<usize> {
        let first = self.window.start;
        (self.rows.start - first) / stride..(self.rows.end - first) / stride
    }
}

/// Whether an image of `size` (height and width) has several strips of `pixels` each.
pub(super) fn are_several([height, width]: [usize; 2], pixels: usize) -> bool {
    height * width >= 2 * pixels && height >= 4 * GRID
}

/// The strips of an image, of about `pixels` each.
fn strips([height, width]: [usize; 2], pixels: usize) -> Vec<Strip> {
    let step = (pixels / width.max(1)).next_multiple_of(GRID).max(GRID);
    // What is left over belongs to the last strip, unless it is one itself.
    let count = (height / step).max(1);
    (0..count)
        .map(|index| {
            let last = index + 1 == count;
            let rows = index * step..if last { height } else { (index + 1) * step };
            let window = rows.start.saturating_sub(HALO)..(rows.end + HALO).min(height);
            Strip { rows, window }
        })
        .collect()
}

/// The masks of both convolutions of [`block`], for each strip.
pub(super) type BlockMasks<B> = Vec<[Option<BackwardMask<B>>; 2]>;

/// Two convolutions: one with a ReLU, one with the given epilogue. With `save_mask` also the masks for
/// [`block_backward`].
pub(super) fn block<B: ConvOps>(
    x: Tensor<B, 4>,
    [first, second]: [&PackedConv2d<B>; 2],
    epilogue: Epilogue,
    save_mask: bool,
) -> (Tensor<B, 4>, BlockMasks<B>) {
    let [_, _, height, width] = x.dims();
    let stride = epilogue.stride();
    let size = [height / stride, width / stride];
    let (mut output, mut masks) = (None, Vec::new());
    for strip in strips([height, width], B::STRIP_PIXELS) {
        let window = B::crop(x.clone(), Rect::rows(strip.window.clone(), width));
        let (y, first_mask) = B::convolve(window, first, Epilogue::Relu, save_mask);
        let (y, mask) = B::convolve(y, second, epilogue, save_mask);
        let y = B::crop(y, Rect::rows(strip.own(stride), size[1]));
        let rows = strip.rows.start / stride..strip.rows.end / stride;
        output = Some(B::crop_backward(y, Rect::rows(rows, size[1]), size, output));
        masks.push([first_mask, mask]);
    }
    (output.expect("a strip"), masks)
}

/// The gradient of [`block`] with respect to an `x` of `size` (height and width).
pub(super) fn block_backward<B: ConvOps>(
    gradient: Tensor<B, 4>,
    [first, second]: [&PackedConv2d<B>; 2],
    epilogue: Epilogue,
    masks: BlockMasks<B>,
    size: [usize; 2],
) -> Tensor<B, 4> {
    let [_, width] = size;
    let stride = epilogue.stride();
    let columns = width / stride;
    let mut sum = None;
    for (strip, [first_mask, mask]) in strips(size, B::STRIP_PIXELS).into_iter().zip(masks) {
        let rows = strip.rows.start / stride..strip.rows.end / stride;
        let window = [strip.window.len(), width];
        let own = B::crop(gradient.clone(), Rect::rows(rows, columns));
        let within = Rect::rows(strip.own(stride), columns);
        let y = B::crop_backward(own, within, [window[0] / stride, columns], None);
        let y = B::convolve_backward(y, second, epilogue, mask, window);
        let y = B::convolve_backward(y, first, Epilogue::Relu, first_mask, window);
        let area = Rect::rows(strip.window, width);
        sum = Some(B::crop_backward(y, area, size, sum));
    }
    sum.expect("a strip")
}

/// The strips that have positions in `area`, each with its window, its positions in the area as they lie in
/// the window, and their share of the area.
fn within(size: [usize; 2], area: Rect, pixels: usize) -> impl Iterator<Item = (Rect, Rect, f64)> {
    strips(size, pixels).into_iter().filter_map(move |strip| {
        let rows = strip.rows.start.max(area.top)..strip.rows.end.min(area.bottom());
        let first = strip.window.start;
        let own = Rect {
            top: rows.start.checked_sub(first)?,
            left: area.left,
            height: rows.len(),
            width: area.width,
        };
        let share = own.count() as f64 / area.count() as f64;
        (!rows.is_empty()).then(|| (Rect::rows(strip.window, size[1]), own, share))
    })
}

/// The mean, over the positions in `area`, of what `measure` makes of a convolution with a ReLU, itself a mean
/// over positions.
fn mean_over_strips<B: ConvOps>(
    x: &Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    area: Rect,
    measure: impl Fn(Tensor<B, 4>) -> Tensor<B, 3>,
) -> Tensor<B, 3> {
    let [_, _, height, width] = x.dims();
    let parts = within([height, width], area, B::STRIP_PIXELS).map(|(window, own, share)| {
        let window = B::crop(x.clone(), window);
        let (features, _) = B::convolve(window, convolution, Epilogue::Relu, false);
        measure(B::crop(features, own)).mul_scalar(share)
    });
    parts.reduce(|a, b| a + b).expect("a strip in the area")
}

/// The Gram matrices of the positions in `area` of a convolution with a ReLU.
pub(super) fn gram<B: ConvOps>(
    x: &Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    area: Rect,
) -> Tensor<B, 3> {
    mean_over_strips(x, convolution, area, |features| {
        B::gram(features, convolution.precision)
    })
}

/// The gradient of [`gram`] with respect to `x`.
pub(super) fn gram_backward<B: ConvOps>(
    gradient: Tensor<B, 3>,
    x: &Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    area: Rect,
) -> Tensor<B, 4> {
    let [_, _, height, width] = x.dims();
    let size = [height, width];
    let mut sum = None;
    for (window, own, share) in within(size, area, B::STRIP_PIXELS) {
        let pixels = B::crop(x.clone(), window);
        let (features, mask) = B::convolve(pixels, convolution, Epilogue::Relu, true);
        let within = [window.height, window.width];
        let features = B::crop(features, own);
        let gradient = gradient.clone().mul_scalar(share);
        let y = B::gram_backward(features, gradient, None, convolution.precision);
        let y = B::crop_backward(y, own, within, None);
        let y = B::convolve_backward(y, convolution, Epilogue::Relu, mask, within);
        sum = Some(B::crop_backward(y, window, size, sum));
    }
    sum.expect("a strip in the area")
}

/// The mean of each channel over the positions in `area` of a convolution with a ReLU,
/// `[batch, 1, channels]`.
pub(super) fn mean<B: ConvOps>(
    x: &Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    area: Rect,
) -> Tensor<B, 3> {
    mean_over_strips(x, convolution, area, channel_means)
}

/// The mean of each channel over all positions, `[batch, channels, height, width]` to
/// `[batch, 1, channels]`.
pub(crate) fn channel_means<B: Backend>(response: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, channels, height, width] = response.dims();
    let rows = response.reshape([batch, channels, height * width]);
    rows.mean_dim(2).transpose()
}
