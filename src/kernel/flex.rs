//! The CPU kernels on Flex, without copies.

use std::ops::Deref;

use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Int, Shape, Tensor, TensorPrimitive};
use half::bf16;

use super::BackwardMask;
use super::cpu::buffer_pool::PooledBuffer;
use super::cpu_backend::optimizers::Kept;
use super::cpu_backend::{CpuBackend, impl_conv_ops};

impl_conv_ops!([] Flex,);

impl CpuBackend for Flex {
    type Floats = Floats;
    type Halves = Halves;
    type MaskBytes = MaskBytes;

    fn floats<const D: usize>(x: &Tensor<Self, D>) -> Option<Floats> {
        let x = x.clone().into_primitive().tensor();
        (x.dtype() == DType::F32).then(|| Floats(x.to_contiguous()))
    }

    fn kept<const D: usize>(x: &Tensor<Self, D>) -> Option<Kept<Floats, Halves>> {
        let tensor = x.clone().into_primitive().tensor();
        match tensor.dtype() {
            DType::F32 => Some(Kept::Single(Floats(tensor.to_contiguous()))),
            DType::BF16 => Some(Kept::Half(Halves(tensor.to_contiguous()))),
            _ => None,
        }
    }

    fn from_buffer<const D: usize>(buffer: PooledBuffer, shape: [usize; D]) -> Tensor<Self, D> {
        let tensor = tensor_of(buffer, shape.into(), DType::F32);
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    fn modify<const D: usize>(
        x: Tensor<Self, D>,
        modify: impl FnOnce(&mut [f32]),
    ) -> Tensor<Self, D> {
        // A view of a larger tensor is copied; any other is modified in place if nobody else holds it.
        let mut x = x.into_primitive().tensor().to_contiguous();
        modify(x.storage_mut());
        Tensor::from_primitive(TensorPrimitive::Float(x))
    }

    fn mask_bytes(mask: &BackwardMask<Self>) -> MaskBytes {
        MaskBytes(mask.clone().into_primitive())
    }

    fn mask_from_buffer(buffer: PooledBuffer) -> BackwardMask<Self> {
        let shape = [buffer.len()].into();
        Tensor::<Self, 1, Int>::from_primitive(tensor_of(buffer, shape, DType::U8))
    }
}

/// A tensor whose buffer returns to the pool when the tensor is dropped.
fn tensor_of(buffer: PooledBuffer, shape: Shape, dtype: DType) -> FlexTensor {
    let bytes = buffer.len();
    // SAFETY: all bytes of a pooled buffer are initialised.
    let bytes = unsafe { Bytes::from_controller(Box::new(buffer), bytes) };
    FlexTensor::new(bytes, Layout::contiguous(shape), dtype)
}

/// The values of a contiguous tensor.
pub(super) struct Floats(FlexTensor);

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.storage()
    }
}

/// The values of a contiguous tensor in half precision.
pub(super) struct Halves(FlexTensor);

impl Deref for Halves {
    type Target = [bf16];

    fn deref(&self) -> &[bf16] {
        self.0.storage()
    }
}

/// The bytes of a mask.
pub(super) struct MaskBytes(FlexTensor);

impl Deref for MaskBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}
