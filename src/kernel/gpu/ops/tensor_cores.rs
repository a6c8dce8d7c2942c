//! What tensor cores multiply, and the launch of their convolutions.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

use super::launch::{array, cubes, empty, optional, vector};
use crate::kernel::gpu::mma::{self, MmaTile};
use crate::kernel::gpu::pack::Order;
use crate::kernel::gpu::reduce::CUBES;
use crate::kernel::gpu::{conv, scale};
use crate::kernel::{Epilogue, Precision};

/// How tensor cores multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// In f16, each tensor with a scale: the bits of TF32.
    Half,
    /// In bfloat16.
    Bf16,
    /// In TF32.
    Tf32,
    /// As sums of two in TF32: nearly single precision.
    Split,
}

impl Factors {
    /// The type in which they are stored, and that of the factors.
    pub fn types(self) -> [StorageType; 2] {
        let types = match self {
            Self::Half => [FloatKind::F16, FloatKind::F16],
            Self::Bf16 => [FloatKind::BF16, FloatKind::BF16],
            Self::Tf32 => [FloatKind::TF32, FloatKind::TF32],
            Self::Split => [FloatKind::F32, FloatKind::TF32],
        };
        types.map(|kind| ElemType::Float(kind).into())
    }

    /// Whether a word holds two of them.
    pub fn is_half(self) -> bool {
        matches!(self, Self::Half | Self::Bf16)
    }

    /// Input channels of a step of a convolution.
    pub fn depth(self) -> usize {
        match self {
            Self::Split | Self::Tf32 => 16,
            Self::Half | Self::Bf16 => 32,
        }
    }
}

/// How the device's tensor cores multiply in 3×3 convolutions, if it has some that do for a precision.
pub fn factors<R: CubeRuntime>(client: &ComputeClient<R>, precision: Precision) -> Option<Factors> {
    supported(
        client,
        match precision {
            Precision::F32 => Factors::Split,
            Precision::Tf32 => Factors::Half,
            Precision::Bf16 => Factors::Bf16,
        },
    )
}

/// The same of other products, most of whose time goes to memory: they need no type that is shorter.
pub fn product_factors<R: CubeRuntime>(
    client: &ComputeClient<R>,
    precision: Precision,
) -> Option<Factors> {
    supported(
        client,
        match precision {
            Precision::F32 => Factors::Split,
            Precision::Tf32 | Precision::Bf16 => Factors::Tf32,
        },
    )
}

/// These, if the device has tensor cores for them.
pub fn supported<R: CubeRuntime>(client: &ComputeClient<R>, factors: Factors) -> Option<Factors> {
    let [_, factor] = factors.types();
    let config = MmaConfig {
        a_type: factor,
        b_type: factor,
        cd_type: ElemType::Float(FloatKind::F32).into(),
        m: 16,
        n: 8,
        k: factors.depth() as u32 / 2,
    };
    let properties = client.properties();
    let hardware = &properties.hardware;
    let fits = hardware.plane_size_min == 32 && hardware.plane_size_max == 32;
    (fits && properties.features.matmul.mma.contains(&config)).then_some(factors)
}

/// Output channels of a cube of a tensor-core convolution.
pub fn mma_channels(channels_out: usize) -> usize {
    channels_out.next_power_of_two().clamp(16, 128)
}

/// The tile of a tensor-core convolution.
fn mma_tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    factors: Factors,
    channels_out: usize,
    images: usize,
    size: [usize; 2],
) -> MmaTile {
    // The parts of split factors take registers.
    let candidates = match (mma_channels(channels_out), factors) {
        (128, Factors::Split) => vec![(MmaTile::new(4, 1, 2, 4), 0.0)],
        (64, Factors::Split) => vec![(MmaTile::new(2, 1, 2, 4), 0.0)],
        (128, _) => vec![
            (MmaTile::new(4, 2, 2, 4), 1.4),
            (MmaTile::new(2, 2, 2, 2), 0.0),
        ],
        (64, _) => vec![(MmaTile::new(2, 2, 2, 2), 0.0)],
        (32, _) => vec![(MmaTile::new(2, 1, 1, 4), 0.0)],
        _ => vec![(MmaTile::new(1, 2, 1, 4), 0.0)],
    };
    fastest_tile(client, &candidates, channels_out, images, size)
}

/// Of tiles from the fastest where there are enough cubes to those that give every multiprocessor work, with
/// how many cubes each multiprocessor must have, as measured on an H200: the first that has them, or else the
/// last.
pub fn fastest_tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    candidates: &[(MmaTile, f64)],
    channels_out: usize,
    images: usize,
    [height, width]: [usize; 2],
) -> MmaTile {
    let hardware = &client.properties().hardware;
    let processors = f64::from(hardware.num_streaming_multiprocessors.unwrap_or(64));
    let fills = |(tile, least): &&(MmaTile, f64)| {
        let cubes: usize = tile.count(channels_out, height, width).iter().product();
        (cubes * images) as f64 >= least * processors
    };
    let found = candidates.iter().find(fills).or(candidates.last());
    found.expect("there are candidates").0
}

/// The weights of a convolution, packed for a kernel.
#[derive(Clone, Copy)]
pub struct Layout {
    /// The type of the factors on tensor cores, if they are used.
    pub factors: Option<Factors>,
    pub channels_out: usize,
    pub channels_in: usize,
}

impl Layout {
    /// For `channels_out` and `channels_in` of one direction.
    pub fn new<R: CubeRuntime>(
        client: &ComputeClient<R>,
        precision: Precision,
        channels_out: usize,
        channels_in: usize,
    ) -> Self {
        Self {
            factors: factors(client, precision),
            channels_out,
            channels_in,
        }
    }

    /// Output channels with those added that fill the last block.
    pub fn padded(self) -> usize {
        let block = match self.factors {
            Some(_) => mma_channels(self.channels_out),
            None => conv::Tile::new(self.channels_out).channels(),
        };
        self.channels_out.next_multiple_of(block)
    }

    /// The order of 3×3 weights for tensor cores.
    pub fn order(self, factors: Factors) -> Order {
        match factors.is_half() {
            true => Order::Columns(mma_channels(self.channels_out) / 16),
            false => Order::Fragments,
        }
    }

    /// Values of packed weights for `taps`: words on tensor cores.
    pub fn len(self, taps: usize) -> usize {
        match self.factors {
            Some(factors) => {
                self.padded() / 16 * self.channels_in.div_ceil(factors.depth()) * taps * 256
            }
            None => self.padded() * self.channels_in * taps,
        }
    }
}

/// Largest absolute values of the parts of a tensor, for the scale of half precision.
pub fn magnitudes<R: CubeRuntime>(x: &CubeTensor<R>) -> CubeTensor<R> {
    let parts = empty(x, [CUBES], DType::F32);
    let values = x.meta.num_elements();
    let size = vector(values, 4);
    // SAFETY: units take no vector beyond the last.
    unsafe {
        scale::magnitudes::launch_unchecked::<R>(
            &x.client,
            CubeCount::Static(CUBES as u32, 1, 1),
            CubeDim::new_1d(CUBES as u32),
            size,
            array(x),
            array(&parts),
            values / size,
            x.dtype.into(),
        );
    }
    parts
}

/// A launch of a tensor-core convolution.
pub struct Mma<'a, R: CubeRuntime> {
    pub factors: Factors,
    pub x: &'a CubeTensor<R>,
    pub packed: &'a CubeTensor<R>,
    pub bias: Option<&'a CubeTensor<R>>,
    pub y: &'a CubeTensor<R>,
    pub mask: Option<&'a CubeTensor<R>>,
    /// The first word of the packed weights.
    pub start: usize,
    /// Words of packed weights from one image to the next; 0 for the same for all.
    pub image_len: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    /// Height and width without a pool.
    pub size: [usize; 2],
    pub taps: usize,
    pub epilogue: Epilogue,
    pub accumulate: bool,
}

pub fn launch_mma<R: CubeRuntime>(launch: Mma<'_, R>) {
    let [height, width] = launch.size;
    let [images, _, _, columns] = launch.y.meta.shape().dims::<4>();
    let channels_out = launch.channels_out;
    let client = &launch.x.client;
    let tile = mma_tile(client, launch.factors, channels_out, images, launch.size);
    let [across, down, blocks] = tile.count(channels_out, height, width);
    let widest = match launch.epilogue {
        Epilogue::ReluPool(_) => 1,
        _ => 2,
    };
    let [stored, factor] = launch.factors.types();
    // SAFETY: `tile.count` covers the result, and the kernel writes nothing outside of it.
    unsafe {
        mma::convolve_mma::launch_unchecked::<R>(
            client,
            cubes([across, down, blocks * images]),
            CubeDim::new_1d(tile.units() as u32),
            vector(columns, widest),
            array(launch.x),
            array(launch.packed),
            optional(launch.bias),
            array(launch.y),
            optional(launch.mask),
            launch.start / 4,
            launch.image_len / 4,
            launch.channels_in,
            channels_out,
            height,
            width,
            launch.taps,
            launch.epilogue,
            launch.accumulate,
            tile,
            launch.factors == Factors::Split,
            [launch.x.dtype.into(), stored, factor],
        );
    }
}
