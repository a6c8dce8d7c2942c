//! The order in which kernels read weights and, on tensor cores, pixels.

use cubecl::prelude::*;

use super::input::input_values;
use super::scale::scale;
use crate::kernel::Epilogue;

/// Which weights a kernel means by output channel, input channel and tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weights {
    /// `[output channels, input channels, taps]`.
    Forward,
    /// Those of the backward pass: given as `[input channels, output channels, taps]`, the taps rotated
    /// by 180°.
    Backward,
    /// A square matrix for each image, plus its transpose.
    Symmetric,
}

/// The order of weights in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// That of [`super::mma`]: `[fragments, groups of input channels, taps]`.
    Fragments,
    /// That of [`super::conv_halves`], in blocks of so many fragments: `[blocks, groups of input channels, columns of
    /// the kernel, fragments of a block, rows of the kernel]`.
    Columns(usize),
}

/// Weights in the order of [`super::conv`], from value `start` on: `[blocks of output channels, input channels,
/// taps, channels of a block]`, zeros for channels beyond the last.
#[cube(launch_unchecked)]
pub fn pack_blocks<F: Float>(
    weights: &Array<F>,
    packed: &mut Array<F>,
    start: usize,
    len: usize,
    channels_out: usize,
    channels_in: usize,
    #[comptime] channels: usize,
    #[comptime] taps: usize,
    #[comptime] kind: Weights,
    #[define(F)] _dtype: StorageType,
) {
    let i = ABSOLUTE_POS;
    if i < len {
        let tap = i / channels % taps;
        let input = i / comptime!(channels * taps) % channels_in;
        let output = i / comptime!(channels * taps) / channels_in * channels + i % channels;
        let value = weight::<F>(
            weights,
            0,
            output,
            input,
            tap,
            channels_out,
            channels_in,
            taps,
            kind,
        );
        packed[start + i] = F::cast_from(value);
    }
}

/// Weights times `factor` for tensor cores, from word `start` on: for each image in an [`Order`] of fragments of 16 output
/// channels, groups of input channels and taps `[2 products, 32 units, 4 words]`, zeros for channels
/// beyond the last.
///
/// With `magnitudes` of the weights they are scaled, and word `inverse_at` is the inverse of the scale.
///
/// Unit `4·g + t` has the output channels `g` and `g + 8` of a fragment, in words in turn, and of the
/// input channels, one or two to a word, those of its quarter `t` of a group, in their order.
#[cube(launch_unchecked)]
pub fn pack_fragments<F: Float, E: Float>(
    weights: &Array<F>,
    magnitudes: ComptimeOption<Array<f32>>,
    packed: &mut Array<u32>,
    start: usize,
    len: usize,
    channels_out: usize,
    channels_in: usize,
    image_len: usize,
    inverse_at: usize,
    factor: f32,
    #[comptime] taps: usize,
    #[comptime] order: Order,
    #[comptime] kind: Weights,
    #[define(F, E)] _dtypes: [StorageType; 2],
) {
    let bytes = E::type_size();
    let per_word = comptime!(4 / bytes);
    let size!(W) = per_word;
    let mut factor = factor;
    #[comptime]
    if let ComptimeOption::Some(magnitudes) = &magnitudes {
        let (scale, inverse) = scale(magnitudes);
        factor *= scale;
        if ABSOLUTE_POS == 0 {
            packed[inverse_at] = u32::reinterpret(inverse);
        }
    }
    if ABSOLUTE_POS < len {
        let image = ABSOLUTE_POS / image_len;
        let i = ABSOLUTE_POS % image_len;
        let groups = channels_in.div_ceil(comptime!(16 * per_word));
        let (word, lane, product) = (i % 4, i / 4 % 32, i / 128 % 2);
        let mut tap = i / 256 % taps;
        let mut group = i / comptime!(256 * taps) % groups;
        let mut fragment = i / comptime!(256 * taps) / groups;
        #[comptime]
        if let Order::Columns(block) = order {
            let column = i / comptime!(768 * block) % 3;
            tap = i / 256 % 3 * 3 + column;
            group = i / comptime!(3 * 768 * block) % groups;
            fragment = i / comptime!(3 * 768 * block) / groups * block + i / 768 % block;
        }
        let output = 16 * fragment + 8 * (word % 2) + lane / 4;
        let input = ((4 * group + lane % 4) * 4 + 2 * product + word / 2) * per_word;
        let mut values = Vector::<E, W>::empty();
        #[unroll]
        for k in 0..per_word {
            let value = weight::<F>(
                weights,
                image,
                output,
                input + k,
                tap,
                channels_out,
                channels_in,
                taps,
                kind,
            );
            values[k] = E::cast_from(factor * value);
        }
        packed[start + ABSOLUTE_POS] = u32::reinterpret(values);
    }
}

/// Pixels in halves, as [`super::conv_halves`] reads them: `[batch, groups of 8 channels, height, width, 8 channels]`,
/// zeros for channels beyond the last. With an epilogue to undo, `x` is the gradient with respect to its
/// output. A unit packs `N` pixels of a row.
///
/// With `magnitudes` of `x` they are scaled.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn pack_pixels<F: Float, G: Size, N: Size, E: Float>(
    x: &Array<Vector<F, G>>,
    mask: ComptimeOption<Array<u32>>,
    magnitudes: ComptimeOption<Array<f32>>,
    packed: &mut Array<Vector<u32, Const<4>>>,
    groups: usize,
    channels: usize,
    height: usize,
    width: usize,
    #[comptime] undo: Epilogue,
    #[define(F, E)] _dtypes: [StorageType; 2],
) {
    let size!(W) = 2usize;
    let pixels = N::value();
    let mut factor = 1.0f32;
    #[comptime]
    if let ComptimeOption::Some(magnitudes) = &magnitudes {
        factor = scale(magnitudes).0;
    }
    let position = ABSOLUTE_POS * pixels;
    let group = position / (height * width);
    if group < groups {
        let (row, column) = (position / width % height, position % width);
        let of_image = channels.div_ceil(8usize);
        let first = group % of_image * 8;
        let plane = group / of_image * channels + first;
        let mut values = Array::<f32>::new(comptime!(8 * pixels));
        #[unroll]
        for i in 0..8usize {
            #[unroll]
            for k in 0..pixels {
                values[comptime!(pixels * i + k)] = 0.0;
            }
            if first + i < channels {
                let found =
                    input_values::<F, G, N>(x, &mask, plane + i, row, column, height, width, undo);
                #[unroll]
                for k in 0..pixels {
                    values[comptime!(pixels * i + k)] = found[k];
                }
            }
        }
        #[unroll]
        for k in 0..pixels {
            let mut words = Vector::<u32, Const<4>>::empty();
            #[unroll]
            for i in 0..4usize {
                let mut pair = Vector::<E, W>::empty();
                pair[0] = E::cast_from(factor * values[comptime!(2 * i * pixels + k)]);
                pair[1] = E::cast_from(factor * values[comptime!((2 * i + 1) * pixels + k)]);
                words[i] = u32::reinterpret(pair);
            }
            packed[position + k] = words;
        }
    }
}

/// One weight; 0 for channels beyond the last.
#[cube]
#[allow(clippy::too_many_arguments)]
fn weight<F: Float>(
    weights: &Array<F>,
    image: usize,
    output: usize,
    input: usize,
    tap: usize,
    channels_out: usize,
    channels_in: usize,
    #[comptime] taps: usize,
    #[comptime] kind: Weights,
) -> f32 {
    let mut value = 0.0f32;
    if output < channels_out && input < channels_in {
        let forward = output * channels_in + input;
        let backward = input * channels_out + output;
        if comptime!(kind == Weights::Forward) {
            value = f32::cast_from(weights[forward * taps + tap]);
        } else if comptime!(kind == Weights::Backward) {
            value = f32::cast_from(weights[backward * taps + comptime!(taps - 1) - tap]);
        } else {
            let start = image * channels_out * channels_in;
            value = f32::cast_from(weights[start + forward])
                + f32::cast_from(weights[start + backward]);
        }
    }
    value
}
