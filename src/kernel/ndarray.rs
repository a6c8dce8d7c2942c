//! The CPU engine on NdArray, which copies results once.

use std::ops::Deref;

use burn::backend::NdArray;
use burn::backend::ndarray::{
    FloatNdArrayElement, IntNdArrayElement, NdArrayTensor, QuantElement, SharedArray,
};
use burn::tensor::{Int, Tensor, TensorData, TensorPrimitive};

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
        match x.clone().into_primitive().tensor() {
            NdArrayTensor::F32(values) => Some(Floats(in_order(values.into_shared()))),
            _ => None,
        }
    }

    fn tensor<const D: usize>(memory: Recycled, shape: [usize; D]) -> Tensor<Self, D> {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&memory);
        let tensor = NdArrayTensor::from_data(TensorData::new(values, shape));
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    fn change<const D: usize>(
        x: Tensor<Self, D>,
        change: impl FnOnce(&mut [f32]),
    ) -> Tensor<Self, D> {
        let tensor = match x.into_primitive().tensor() {
            NdArrayTensor::F32(values) => {
                let mut values = in_order(values.into_shared());
                values.as_slice_mut().map(change);
                values.into()
            }
            other => other,
        };
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }

    fn bytes(mask: &Mask<Self>) -> Bytes {
        match mask.clone().into_primitive() {
            NdArrayTensor::U16(words) => Bytes(words.into_shared()),
            other => unreachable!("masks have 16 bits, not {other:?}"),
        }
    }

    fn mask(memory: Recycled) -> Mask<Self> {
        // Two bytes together, so that they are aligned when they are read again.
        let words: Vec<u16> = bytemuck::pod_collect_to_vec(&memory);
        let shape = [words.len()];
        let tensor = NdArrayTensor::from_data(TensorData::new(words, shape));
        Tensor::<Self, 1, Int>::from_primitive(tensor)
    }
}

/// The array with its values one after another; itself if they are.
fn in_order<T: Clone>(array: SharedArray<T>) -> SharedArray<T> {
    match array.is_standard_layout() {
        true => array,
        false => array.as_standard_layout().into_owned().into_shared(),
    }
}

/// The values of a tensor.
pub(super) struct Floats(SharedArray<f32>);

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_slice().expect("values in order")
    }
}

/// The bytes of a mask.
pub(super) struct Bytes(SharedArray<u16>);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(self.0.as_slice().expect("values in order"))
    }
}
