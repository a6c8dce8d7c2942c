//! The CPU engine on Flex, in place.

use std::ops::Deref;

use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Int, Shape, Tensor, TensorPrimitive};

use super::Mask;
use super::cpu::memory::Recycled;
use super::host::{Host, host_engine};

host_engine!([] Flex,);

impl Host for Flex {
    type Floats = Floats;
    type Bytes = Bits;

    fn floats<const D: usize>(x: &Tensor<Self, D>) -> Option<Floats> {
        let x = x.clone().into_primitive().tensor();
        (x.dtype() == DType::F32).then(|| Floats(x.to_contiguous()))
    }

    fn tensor<const D: usize>(memory: Recycled, shape: [usize; D]) -> Tensor<Self, D> {
        let tensor = wrap(memory, shape.into(), DType::F32);
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    fn change<const D: usize>(
        x: Tensor<Self, D>,
        change: impl FnOnce(&mut [f32]),
    ) -> Tensor<Self, D> {
        // A view of a larger tensor is copied; the tensor itself is held by nobody else again.
        let mut x = x.into_primitive().tensor().to_contiguous();
        change(x.storage_mut());
        Tensor::from_primitive(TensorPrimitive::Float(x))
    }

    fn bytes(mask: &Mask<Self>) -> Bits {
        Bits(mask.clone().into_primitive())
    }

    fn mask(memory: Recycled) -> Mask<Self> {
        let shape = [memory.len()].into();
        Tensor::<Self, 1, Int>::from_primitive(wrap(memory, shape, DType::U8))
    }
}

/// A tensor around memory that returns to the store when the tensor is dropped.
fn wrap(memory: Recycled, shape: Shape, dtype: DType) -> FlexTensor {
    let bytes = memory.len();
    // SAFETY: all bytes of recycled memory are initialised.
    let bytes = unsafe { Bytes::from_controller(Box::new(memory), bytes) };
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

/// The bytes of a mask.
pub(super) struct Bits(FlexTensor);

impl Deref for Bits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}
