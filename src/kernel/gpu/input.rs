//! How a kernel reads the input of a convolution: as it is, or as the gradient that ReLU, mask and
//! pool pass on.
//!
//! A mask has one bit for each value. A word holds a block of 4 rows × 8 columns of one channel: bit
//! `8 · (row % 4) + column % 8`. The blocks of a channel are in row-major order.

use cubecl::prelude::*;

use crate::kernel::{Epilogue, Pooling};

/// Rows of a block of a mask.
pub const MASK_ROWS: usize = 4;
/// Columns of a block of a mask.
pub const MASK_COLUMNS: usize = 8;

/// Words of a mask for `planes` channels of `height` × `width` values.
pub fn mask_len(planes: usize, height: usize, width: usize) -> usize {
    planes * height.div_ceil(MASK_ROWS) * width.div_ceil(MASK_COLUMNS)
}

/// Index of the word of a position.
#[cube]
pub fn mask_word(plane: usize, y: usize, x: usize, height: usize, width: usize) -> usize {
    (plane * height.div_ceil(4) + y / 4) * width.div_ceil(8) + x / 8
}

/// The value at a position of channel `plane` (counted through the batch), which must lie inside of
/// `height` × `width`.
///
/// With an epilogue to undo, `values` is the gradient with respect to its output, smaller by a pool.
#[cube]
pub fn input_value<F: Float>(
    values: &Array<F>,
    mask: &ComptimeOption<Array<u32>>,
    plane: usize,
    y: usize,
    x: usize,
    height: usize,
    width: usize,
    #[comptime] undo: Epilogue,
) -> f32 {
    let mut value = 0.0f32;
    if comptime!(undo == Epilogue::None) {
        value = f32::cast_from(values[(plane * height + y) * width + x]);
    } else {
        let mut index = (plane * height + y) * width + x;
        let mut exists = true.runtime();
        if comptime!(matches!(undo, Epilogue::ReluPool(_))) {
            // An odd last row or column has no part in the pool.
            let (rows, columns) = (height / 2, width / 2);
            index = (plane * rows + y / 2) * columns + x / 2;
            exists = y / 2 < rows && x / 2 < columns;
        }
        if exists {
            // Both are loaded at once: neither waits for the other.
            let loaded = f32::cast_from(values[index]);
            let word = mask_word(plane, y, x, height, width);
            value = select(passes(mask, word, (y % 4 * 8 + x % 8) as u32), loaded, 0.0);
            if comptime!(undo == Epilogue::ReluPool(Pooling::Average)) {
                value *= 0.25;
            }
        }
    }
    value
}

/// [`input_value`] at `N` adjacent positions of a row.
///
/// The vectors divide the width; those of a gradient before a pool have as many or half as many values.
#[cube]
pub fn input_values<F: Float, G: Size, N: Size>(
    values: &Array<Vector<F, G>>,
    mask: &ComptimeOption<Array<u32>>,
    plane: usize,
    y: usize,
    x: usize,
    height: usize,
    width: usize,
    #[comptime] undo: Epilogue,
) -> Array<f32> {
    let pooled = comptime!(matches!(undo, Epilogue::ReluPool(_)));
    let size = N::value();
    let of_values = G::value();
    let mut index = (plane * height + y) * width + x;
    let mut exists = true.runtime();
    if comptime!(pooled) {
        // An odd last row or column has no part in the pool.
        let (rows, columns) = (height / 2, width / 2);
        index = (plane * rows + y / 2) * columns + x / 2;
        exists = y / 2 < rows && x / 2 < columns;
    }
    let mut found = Array::<f32>::new(size);
    #[unroll]
    for k in 0..size {
        found[k] = 0.0;
    }
    if exists {
        let loaded = values[index / of_values];
        let mut bits = 0xffff_ffffu32.runtime();
        if comptime!(undo != Epilogue::None) {
            #[comptime]
            if let ComptimeOption::Some(mask) = mask {
                bits = mask[mask_word(plane, y, x, height, width)] >> (y % 4 * 8 + x % 8) as u32;
            }
        }
        #[unroll]
        for k in 0..size {
            let mut value = f32::cast_from(loaded[comptime!(k * of_values / size)]);
            if comptime!(undo == Epilogue::ReluPool(Pooling::Average)) {
                value *= 0.25;
            }
            found[k] = select((bits >> comptime!(k as u32)) & 1 == 1, value, 0.0);
        }
    }
    found
}

/// A bit of a word; set where there is no mask.
#[cube]
fn passes(mask: &ComptimeOption<Array<u32>>, word: usize, bit: u32) -> bool {
    #[comptime]
    match mask {
        ComptimeOption::Some(mask) => (mask[word] >> bit) & 1 == 1,
        ComptimeOption::None => true.runtime(),
    }
}
