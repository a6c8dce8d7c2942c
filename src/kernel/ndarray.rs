//! The CPU kernels on NdArray; each result is copied once.

use std::ops::Deref;

use burn::backend::NdArray;
use burn::backend::ndarray::{
    FloatNdArrayElement, IntNdArrayElement, NdArrayTensor, QuantElement, SharedArray,
};
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive};
use half::bf16;

use super::BackwardMask;
use super::cpu::buffer_pool::PooledBuffer;
use super::cpu_backend::optimizers::Kept;
use super::cpu_backend::{CpuBackend, impl_conv_ops};

impl_conv_ops!(
    [E: FloatNdArrayElement, I: IntNdArrayElement, Q: QuantElement] NdArray<E, I, Q>,
    where
        NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
);

impl<E: FloatNdArrayElement, I: IntNdArrayElement, Q: QuantElement> CpuBackend for NdArray<E, I, Q>
where
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    type Floats = Floats;
    type Halves = Vec<bf16>;
    type MaskBytes = MaskBytes;

    fn floats<const D: usize>(x: &Tensor<Self, D>) -> Option<Floats> {
        match x.clone().into_primitive().tensor() {
            NdArrayTensor::F32(values) => Some(Floats(contiguous(values.into_shared()))),
            _ => None,
        }
    }

    /// Tensors in half precision are none of this backend.
    fn kept<const D: usize>(x: &Tensor<Self, D>) -> Option<Kept<Self::Floats, Vec<bf16>>> {
        Self::floats(x).map(Kept::Single)
    }

    fn from_buffer<const D: usize>(buffer: PooledBuffer, shape: [usize; D]) -> Tensor<Self, D> {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&buffer);
        let tensor = NdArrayTensor::from_data(TensorData::new(values, shape));
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    fn modify<const D: usize>(
        x: Tensor<Self, D>,
        modify: impl FnOnce(&mut [f32]),
    ) -> Tensor<Self, D> {
        let tensor = match x.into_primitive().tensor() {
            NdArrayTensor::F32(values) => {
                let mut values = contiguous(values.into_shared());
                values.as_slice_mut().map(modify);
                values.into()
            }
            other => other,
        };
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    fn mask_bytes(mask: &BackwardMask<Self>) -> MaskBytes {
        match mask.clone().into_primitive() {
            NdArrayTensor::U16(words) => MaskBytes(words.into_shared()),
            other => unreachable!("masks have 16 bits, not {other:?}"),
        }
    }

    fn mask_from_buffer(buffer: PooledBuffer) -> BackwardMask<Self> {
        // As 16-bit words, so that they are aligned when they are read.
        let words: Vec<u16> = bytemuck::pod_collect_to_vec(&buffer);
        let shape = [words.len()];
        let tensor = NdArrayTensor::from_data(TensorData::new(words, shape));
        Tensor::<Self, 1, Int>::from_primitive(tensor)
    }
}

/// The array in row-major order, copied if it is not.
fn contiguous<T: Clone>(array: SharedArray<T>) -> SharedArray<T> {
    match array.is_standard_layout() {
        true => array,
        false => array.as_standard_layout().into_owned().into_shared(),
    }
}

/// The values of a contiguous tensor.
pub(super) struct Floats(SharedArray<f32>);

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_slice().expect("a contiguous array")
    }
}

/// The bytes of a mask.
pub(super) struct MaskBytes(SharedArray<u16>);

impl Deref for MaskBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(self.0.as_slice().expect("a contiguous array"))
    }
}
