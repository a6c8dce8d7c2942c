//! The 3×3 convolution in single precision: a direct one, tiled in shared memory, without plane
//! operations, so that it runs on every GPU.
//!
//! A cube computes a tile of rows and columns for a block of output channels. For a few input
//! channels at a time it copies the tile's pixels with their border, and the weights, to shared memory.
//! A unit holds 2 channels × 4 rows × 8 columns of the output in registers: the block of one word of a
//! mask, and whole 2×2 windows, so that bias, ReLU, mask and pool need no other unit.

use cubecl::prelude::*;

use super::epilogue::write_block;
use super::input::input_value;
use crate::kernel::Epilogue;

/// Sides of a kernel's cube.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Pairs of output channels.
    pub pairs: usize,
    /// Blocks of 8 columns.
    pub columns: usize,
    /// Blocks of 4 rows.
    pub rows: usize,
    /// Input channels in shared memory at once.
    pub depth: usize,
}

impl Tile {
    /// For a number of output channels.
    pub fn new(channels_out: usize) -> Self {
        let pairs = channels_out.div_ceil(2).next_power_of_two().clamp(2, 32);
        let (rows, depth) = match pairs {
            32 => (2, 4),
            16 => (4, 4),
            _ => (8, 2),
        };
        Self {
            pairs,
            columns: 4,
            rows,
            depth,
        }
    }

    /// Output channels of a cube.
    pub fn channels(self) -> usize {
        2 * self.pairs
    }

    /// Units of a cube.
    pub fn units(self) -> usize {
        self.pairs * self.columns * self.rows
    }

    /// Cubes along the columns and the rows of an image, and for its channels.
    pub fn count(self, channels_out: usize, height: usize, width: usize) -> [usize; 3] {
        [
            width.div_ceil(8 * self.columns),
            height.div_ceil(4 * self.rows),
            channels_out.div_ceil(self.channels()),
        ]
    }
}

/// The convolution of `x`, `[batch, channels_in, height, width]`, with weights `[blocks of output
/// channels, channels_in, 3·3, channels of a block]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn convolve<F: Float, N: Size>(
    x: &Array<F>,
    undo_mask: ComptimeOption<Array<u32>>,
    weights: &Array<F>,
    bias: ComptimeOption<Array<F>>,
    y: &mut Array<Vector<F, N>>,
    mut mask: ComptimeOption<Array<u32>>,
    weights_start: usize,
    channels_in: usize,
    channels_out: usize,
    height: usize,
    width: usize,
    #[comptime] undo: Epilogue,
    #[comptime] epilogue: Epilogue,
    #[comptime] tile: Tile,
    #[define(F)] _dtype: StorageType,
) {
    let channels = comptime!(tile.channels());
    let units = comptime!(tile.units());
    let patch_width = comptime!(8 * tile.columns + 2);
    let patch_height = comptime!(4 * tile.rows + 2);
    let patch_len = comptime!(patch_width * patch_height);
    let mut patch = SharedMemory::<f32>::new(comptime!(tile.depth * patch_len));
    let mut taps = SharedMemory::<f32>::new(comptime!(tile.depth * 9 * channels));

    let unit = UNIT_POS as usize;
    let block_x = unit % tile.columns;
    let pair = unit / tile.columns % tile.pairs;
    let block_y = unit / comptime!(tile.columns * tile.pairs);
    let left = CUBE_POS_X as usize * comptime!(8 * tile.columns);
    let top = CUBE_POS_Y as usize * comptime!(4 * tile.rows);
    let blocks = channels_out.div_ceil(channels);
    let block = CUBE_POS_Z as usize % blocks;
    let batch = CUBE_POS_Z as usize / blocks;

    let mut sums = Array::<f32>::new(64usize);
    #[unroll]
    for i in 0..64usize {
        sums[i] = 0.0;
    }

    for first in range_stepped(0, channels_in, tile.depth) {
        let mut i = unit;
        while i < comptime!(tile.depth * patch_len) {
            let channel = first + i / patch_len;
            // One more than the position, so that it is not negative.
            let row = top + i % patch_len / patch_width;
            let column = left + i % patch_width;
            let inside = row > 0 && row <= height && column > 0 && column <= width;
            let mut value = 0.0f32;
            if inside && channel < channels_in {
                let plane = batch * channels_in + channel;
                value = input_value::<F>(
                    x,
                    &undo_mask,
                    plane,
                    row - 1,
                    column - 1,
                    height,
                    width,
                    undo,
                );
            }
            patch[i] = value;
            i += units;
        }
        let mut i = unit;
        let start = weights_start + (block * channels_in + first) * comptime!(9 * channels);
        while i < comptime!(tile.depth * 9 * channels) {
            let mut value = 0.0f32;
            if first + i / comptime!(9 * channels) < channels_in {
                value = f32::cast_from(weights[start + i]);
            }
            taps[i] = value;
            i += units;
        }
        sync_cube();

        for channel in 0..tile.depth {
            let mut weight = Array::<f32>::new(18usize);
            #[unroll]
            for tap in 0..9usize {
                #[unroll]
                for half in 0..2usize {
                    weight[2 * tap + half] = taps[(channel * 9 + tap) * channels + 2 * pair + half];
                }
            }
            #[unroll]
            for row in 0..6usize {
                let mut values = Array::<f32>::new(10usize);
                let start =
                    (channel * patch_height + 4 * block_y + row) * patch_width + 8 * block_x;
                #[unroll]
                for i in 0..10usize {
                    values[i] = patch[start + i];
                }
                #[unroll]
                for ky in 0..3usize {
                    if comptime!(row >= ky && row - ky < 4) {
                        #[unroll]
                        for kx in 0..3usize {
                            #[unroll]
                            for half in 0..2usize {
                                #[unroll]
                                for column in 0..8usize {
                                    let i = comptime!(32 * half + 8 * (row - ky) + column);
                                    sums[i] = fma(
                                        values[comptime!(column + kx)],
                                        weight[comptime!(2 * (3 * ky + kx) + half)],
                                        sums[i],
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
        sync_cube();
    }

    let row = top + 4 * block_y;
    let column = left + 8 * block_x;
    #[unroll]
    for half in 0..2usize {
        let channel = block * channels + 2 * pair + half;
        if channel < channels_out && row < height && column < width {
            let mut values = Array::<f32>::new(32usize);
            let offset = bias_of::<F>(&bias, channel);
            #[unroll]
            for i in 0..32usize {
                values[i] = sums[comptime!(32 * half + i)] + offset;
            }
            let plane = batch * channels_out + channel;
            write_block::<F, N>(
                &mut values,
                y,
                &mut mask,
                plane,
                row,
                column,
                height,
                width,
                epilogue,
            );
        }
    }
}

/// The bias of a channel, or 0.
#[cube]
pub fn bias_of<F: Float>(bias: &ComptimeOption<Array<F>>, channel: usize) -> f32 {
    #[comptime]
    match bias {
        ComptimeOption::Some(bias) => f32::cast_from(bias[channel]),
        ComptimeOption::None => 0.0f32.runtime(),
    }
}
