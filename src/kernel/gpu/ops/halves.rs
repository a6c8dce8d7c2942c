//! 3×3 convolutions of packed halves.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, empty, input_vectors, one_each, optional, readable, vector};
use super::tensor_cores::{Factors, fastest_tile, magnitudes, mma_channels};
use crate::kernel::Epilogue;
use crate::kernel::gpu::mma::MmaTile;
use crate::kernel::gpu::{conv_halves, pack};

/// Pixels packed in halves.
pub struct Packed<R: CubeRuntime> {
    pixels: CubeTensor<R>,
    magnitudes: Option<CubeTensor<R>>,
}

/// Packs `x`, or the gradient that an epilogue passes on to its input of `height` × `width`, for
/// [`launch_halves`].
pub fn pack_pixels<R: CubeRuntime>(
    x: CubeTensor<R>,
    mask: Option<&CubeTensor<R>>,
    undo: Epilogue,
    [height, width]: [usize; 2],
    factors: Factors,
) -> Packed<R> {
    let [images, channels, ..] = x.meta.shape().dims::<4>();
    let x = readable(x);
    let magnitudes = (factors == Factors::Half).then(|| magnitudes(&x));
    let groups = images * channels.div_ceil(8);
    let pixels = empty(&x, [groups, height, width, 4], DType::U32);
    // Without a mask single pixels are packed faster: what adjacent units write is adjacent.
    let [of_x, size] = match undo {
        Epilogue::None => [1, 1],
        _ => input_vectors(undo, width),
    };
    let (count, dim) = one_each(groups * height * width / size);
    // SAFETY: units beyond the last group do nothing.
    unsafe {
        pack::pack_pixels::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            of_x,
            size,
            array(&x),
            optional(mask),
            optional(magnitudes.as_ref()),
            array(&pixels),
            groups,
            channels,
            height,
            width,
            undo,
            [x.dtype.into(), factors.types()[1]],
        );
    }
    Packed { pixels, magnitudes }
}

/// A launch of a 3×3 convolution of packed halves.
pub struct Halves<'a, R: CubeRuntime> {
    pub factors: Factors,
    pub x: &'a Packed<R>,
    pub packed: &'a CubeTensor<R>,
    pub bias: Option<&'a CubeTensor<R>>,
    pub y: &'a CubeTensor<R>,
    pub mask: Option<&'a CubeTensor<R>>,
    /// The first word of the packed weights.
    pub start: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    /// Height and width without a pool.
    pub size: [usize; 2],
    pub epilogue: Epilogue,
}

pub fn launch_halves<R: CubeRuntime>(launch: Halves<'_, R>) {
    let [height, width] = launch.size;
    let [images, _, _, columns] = launch.y.meta.shape().dims::<4>();
    let channels_out = launch.channels_out;
    let client = &launch.x.pixels.client;
    let tile = halves_tile(client, channels_out, images, launch.size);
    let [across, down, blocks] = tile.count(channels_out, height, width);
    let widest = match launch.epilogue {
        Epilogue::ReluPool(_) => 1,
        _ => 2,
    };
    // SAFETY: `tile.count` covers the result, and the kernel writes nothing outside of it.
    unsafe {
        conv_halves::convolve_halves::launch_unchecked::<R>(
            client,
            cubes([across, down, blocks * images]),
            CubeDim::new_1d(tile.units() as u32),
            vector(columns, widest),
            array(&launch.x.pixels),
            optional(launch.x.magnitudes.as_ref()),
            array(launch.packed),
            optional(launch.bias),
            array(launch.y),
            optional(launch.mask),
            launch.start / 4,
            launch.packed.meta.num_elements() - 4,
            launch.channels_in,
            channels_out,
            height,
            width,
            launch.epilogue,
            tile,
            mma_channels(channels_out) / 16,
            [launch.y.dtype.into(), launch.factors.types()[1]],
        );
    }
}

/// The tile of a convolution of packed halves.
fn halves_tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    channels_out: usize,
    images: usize,
    size: [usize; 2],
) -> MmaTile {
    let candidates = match mma_channels(channels_out) {
        128 => vec![
            (MmaTile::new(4, 2, 2, 2), 0.9),
            (MmaTile::new(2, 2, 2, 2), 0.0),
        ],
        64 => vec![
            (MmaTile::new(4, 2, 1, 4), 1.5),
            (MmaTile::new(2, 2, 2, 2), 0.0),
        ],
        32 => vec![(MmaTile::new(2, 1, 1, 4), 0.0)],
        _ => vec![(MmaTile::new(1, 2, 1, 4), 0.0)],
    };
    fastest_tile(client, &candidates, channels_out, images, size)
}
