//! The CPU engine on NdArray, which copies results once.

use std::ops::Deref;

use burn::backend::NdArray;
use burn::backend::ndarray::{
    FloatNdArrayElement, IntNdArrayElement, NdArrayTensor, QuantElement, SharedArray,
};
use burn::tensor::{Bytes, DType, Int, Tensor, TensorData};

use super::Mask;
use super::cpu::memory::Recycled;
use super::host::{Host, host_engine};

host_engine!(
    [E: FloatNdArrayElement, I: IntNdArrayElement, Q: QuantElement] NdArray<E, I, Q>,
    where
        NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
);

impl<E: FloatNdArrayElement, I: IntNdArrayElement, Q: QuantElement> Host for NdArray<E, I, Q>
where
    NdArrayTensor: From<SharedArray<E>> + From<SharedArray<I>>,
{
    type Floats = Floats;
    type Bytes = Bytes;

    fn floats<const D: usize>(x: &Tensor<Self, D>) -> Option<Floats> {
        (x.dtype() == DType::F32).then(|| Floats(x.to_data()))
    }

    fn tensor<const D: usize>(memory: Recycled, shape: [usize; D]) -> Tensor<Self, D> {
        let values: &[f32] = bytemuck::cast_slice(&memory);
        let data = TensorData::new(values.to_vec(), shape);
        Tensor::from_data(data, &Default::default())
    }

    fn change<const D: usize>(
        x: Tensor<Self, D>,
        change: impl FnOnce(&mut [f32]),
    ) -> Tensor<Self, D> {
        let mut data = x.into_data();
        change(bytemuck::cast_slice_mut(&mut data.bytes));
        Tensor::from_data(data, &Default::default())
    }

    fn bytes(mask: &Mask<Self>) -> Bytes {
        mask.to_data().bytes
    }

    fn mask(memory: Recycled) -> Mask<Self> {
        let data = TensorData::new(memory.to_vec(), [memory.len()]);
        Tensor::<Self, 1, Int>::from_primitive(NdArrayTensor::from_data(data))
    }
}

/// The values of a tensor.
pub(super) struct Floats(TensorData);

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0.bytes)
    }
}
