//! Tensors of a file, as views of its bytes.

use bytes::Bytes;
use half::{bf16, f16};

use super::source::NormalizationSource;
use crate::normalization::Normalization;

/// Element types that weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of a value.
    pub(super) fn size(self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }

    /// The value that these bytes begin with, little-endian; there must be enough of them.
    fn read(self, bytes: &[u8]) -> f32 {
        fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
            *bytes.first_chunk().expect("as many bytes as a value has")
        }
        match self {
            Dtype::F16 => f16::from_le_bytes(first(bytes)).to_f32(),
            Dtype::Bf16 => bf16::from_le_bytes(first(bytes)).to_f32(),
            Dtype::F32 => f32::from_le_bytes(first(bytes)),
            Dtype::F64 => f64::from_le_bytes(first(bytes)) as f32,
        }
    }
}

/// A tensor whose little-endian bytes lie in the file.
#[derive(Clone, Debug)]
pub(crate) struct NamedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Steps between neighbours along each axis, in values; `None` if they lie in row-major order
    /// without gaps.
    pub strides: Option<Vec<usize>>,
    pub dtype: Dtype,
    pub data: Bytes,
}

impl NamedTensor {
    /// Whether the data are as long as the shape needs.
    pub fn is_whole(&self) -> bool {
        let bytes = match &self.strides {
            None => product(&self.shape),
            Some(strides) => reach(&self.shape, strides),
        };
        let bytes = bytes.and_then(|values| values.checked_mul(self.dtype.size()));
        match self.strides {
            None => bytes == Some(self.data.len()),
            Some(_) => bytes.is_some_and(|bytes| bytes <= self.data.len()),
        }
    }

    /// All values in row-major order, as f32. The tensor must be whole.
    pub fn values(&self) -> Vec<f32> {
        let size = self.dtype.size();
        let Some(strides) = &self.strides else {
            let values = self.data.chunks_exact(size);
            return values.map(|bytes| self.dtype.read(bytes)).collect();
        };
        // The places of all values, one axis after another.
        let mut places = vec![0];
        for (&length, &stride) in self.shape.iter().zip(strides) {
            let along = |place| (0..length).map(move |index| place + index * stride);
            places = places.into_iter().flat_map(along).collect();
        }
        let value = |place: usize| self.dtype.read(&self.data[place * size..]);
        places.into_iter().map(value).collect()
    }

    /// The same tensor with its axes in another order: the new axis `i` is the old `axes[i]`.
    pub fn permuted(self, axes: &[usize]) -> Self {
        let strides = self.strides.or_else(|| contiguous(&self.shape));
        let pick = |sizes: &[usize]| axes.iter().map(|&axis| sizes[axis]).collect();
        Self {
            shape: pick(&self.shape),
            strides: strides.map(|strides| pick(&strides)),
            ..self
        }
    }
}

/// How many values a shape has; `None` if there is no such number.
pub(super) fn product(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size))
}

/// The steps of a tensor in row-major order.
pub(super) fn contiguous(shape: &[usize]) -> Option<Vec<usize>> {
    (0..shape.len())
        .map(|axis| product(&shape[axis + 1..]))
        .collect()
}

/// How many values lie between the first and the last, both counted.
pub(super) fn reach(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let steps = shape.iter().zip(strides);
    steps
        .map(|(&size, &stride)| (size - 1).checked_mul(stride))
        .try_fold(1usize, |sum, step| sum.checked_add(step?))
}

/// A tensor as a file lists it. Only what is needed has to be readable.
pub(crate) struct Listed {
    pub name: String,
    /// Empty if it is unknown.
    pub shape: Vec<usize>,
    /// The tensor, or why it cannot be read.
    pub tensor: Result<NamedTensor, String>,
}

/// The tensors of VGG19 or of its first convolutions, found in a file.
#[derive(Default)]
pub(crate) struct Network {
    /// Kernels in the order `[out, in, height, width]`.
    pub weights: Vec<NamedTensor>,
    /// One for each kernel.
    pub biases: Vec<Option<NamedTensor>>,
    /// The projections of a slim network, one for each kernel; else none.
    pub projections: Vec<NamedTensor>,
}

/// What a file holds. Every format parses to this.
pub(crate) struct ParsedFile {
    pub contents: Contents,
    /// The normalisation, if the file states it, and where.
    pub normalization: Option<(Normalization, NormalizationSource)>,
}

pub(crate) enum Contents {
    /// Tensors by name; the convolutions are yet to be found among them.
    Tensors(Vec<Listed>),
    /// The convolutions, found by a graph.
    #[cfg_attr(not(feature = "onnx"), expect(dead_code))]
    Network(Network),
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Numbers at which something may go over.
    pub fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..100,
            select(vec![
                1 << 20,
                (1 << 31) - 1,
                1 << 31,
                1 << 32,
                1 << 40,
                i64::MAX as u64,
                1 << 63,
                u64::MAX - 7,
                u64::MAX,
            ]),
            any::<u64>(),
        ]
    }

    /// Asserts that the tensors that can be read lie in a file of so many bytes, each as long as its
    /// shape needs.
    pub fn assert_views(tensors: &[Listed], length: usize) {
        for tensor in tensors.iter().flat_map(|listed| &listed.tensor) {
            assert!(tensor.data.len() <= length);
            assert!(tensor.is_whole());
        }
    }

    fn tensor(dtype: Dtype, shape: &[usize], data: Vec<u8>) -> NamedTensor {
        NamedTensor {
            name: String::new(),
            shape: shape.to_vec(),
            strides: None,
            dtype,
            data: data.into(),
        }
    }

    #[test]
    fn element_types_convert_to_f32() {
        let values = |dtype, data| tensor(dtype, &[1], data).values();
        assert_eq!(values(Dtype::F32, 1.5f32.to_le_bytes().into()), [1.5]);
        assert_eq!(values(Dtype::F64, (-2.5f64).to_le_bytes().into()), [-2.5]);
        assert_eq!(values(Dtype::F16, vec![0x00, 0x3e]), [1.5]);
        assert_eq!(values(Dtype::Bf16, vec![0xc0, 0x3f]), [1.5]);
    }

    #[test]
    fn strides_say_where_values_lie() {
        let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let rows = tensor(Dtype::F32, &[2, 3], data);
        assert_eq!(rows.values(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let columns = rows.clone().permuted(&[1, 0]);
        assert_eq!(columns.shape, [3, 2]);
        assert_eq!(columns.values(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(columns.permuted(&[1, 0]).values(), rows.values());
        let mut beyond = rows;
        beyond.strides = Some(vec![4, 1]);
        assert!(!beyond.is_whole());
        beyond.strides = Some(vec![usize::MAX, usize::MAX]);
        assert!(!beyond.is_whole());
    }
}
