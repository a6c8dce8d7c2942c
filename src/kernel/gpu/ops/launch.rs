//! Tensors, arguments and sizes of launches.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernel::Epilogue;

/// Whether the kernels take values of a type.
pub fn takes(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Units of cubes that have one unit for each value.
pub const UNITS: usize = 256;

/// Cubes along one axis, which every GPU can launch.
pub const MAX_CUBES: usize = 32768;

pub fn empty<R: CubeRuntime>(
    like: &CubeTensor<R>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> CubeTensor<R> {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}

/// The values of a contiguous tensor.
pub fn array<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ArrayArg<R> {
    // SAFETY: the length is that of the buffer.
    unsafe { ArrayArg::from_raw_parts(tensor.handle.clone(), tensor.meta.num_elements()) }
}

pub fn optional<R: CubeRuntime, T: LaunchArg<RuntimeArg<R> = ArrayArg<R>>>(
    tensor: Option<&CubeTensor<R>>,
) -> ComptimeOptionArgs<T, R> {
    tensor.map(array).into()
}

/// Cubes with one unit for each of `count` values.
pub fn one_each(count: usize) -> (CubeCount, CubeDim) {
    let cubes = count.div_ceil(UNITS).max(1);
    let columns = cubes.min(MAX_CUBES);
    let count = CubeCount::Static(columns as u32, cubes.div_ceil(columns) as u32, 1);
    (count, CubeDim::new_1d(UNITS as u32))
}

pub fn cubes([x, y, z]: [usize; 3]) -> CubeCount {
    CubeCount::Static(x as u32, y as u32, z as u32)
}

/// The widest vectors, up to `widest`, that divide rows of `width` values.
pub fn vector(width: usize, widest: usize) -> usize {
    [4, 2, 1]
        .into_iter()
        .find(|&n| n <= widest && width.is_multiple_of(n))
        .unwrap_or(1)
}

/// Values of the vectors in which kernels read the input of a convolution, or the gradient that an
/// epilogue passes on to it, and in which they write it, of `width`.
pub fn input_vectors(undo: Epilogue, width: usize) -> [usize; 2] {
    let size = match width.is_multiple_of(4) {
        true => 4,
        false => 1,
    };
    match undo {
        Epilogue::ReluPool(_) => [size.div_ceil(2), size],
        _ => [size, size],
    }
}

/// A tensor that kernels can be given: without a window of a pool there is no value, and none is read.
pub fn readable<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    match tensor.meta.num_elements() {
        0 => empty(&tensor, [4], tensor.dtype),
        _ => tensor,
    }
}
