//! Tensors of a file, as views of its bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use half::{bf16, f16};

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
}

/// A tensor in row-major order whose little-endian bytes lie in the file.
#[derive(Clone, Debug)]
pub(crate) struct NamedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub data: Bytes,
}

impl NamedTensor {
    /// All values, as f32.
    pub fn values(&self) -> Vec<f32> {
        fn read<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            data.as_chunks()
                .0
                .iter()
                .map(|&bytes| value(bytes))
                .collect()
        }
        match self.dtype {
            Dtype::F16 => read(&self.data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => read(&self.data, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F32 => read(&self.data, f32::from_le_bytes),
            Dtype::F64 => read(&self.data, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// What a file holds. Every format parses to this.
pub(crate) struct ParsedFile {
    /// The tensors by torchvision's names. Their own names, for messages, may be others.
    pub tensors: BTreeMap<String, NamedTensor>,
    /// The normalisation, if the file states it.
    pub normalization: Option<Normalization>,
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

    /// Asserts that the tensors lie in a file of so many bytes, each as long as its shape says.
    pub fn assert_views(parsed: &ParsedFile, length: usize) {
        for tensor in parsed.tensors.values() {
            assert!(tensor.data.len() <= length);
            let values = tensor.shape.iter().product::<usize>();
            assert_eq!(tensor.data.len(), values * tensor.dtype.size());
        }
    }

    #[test]
    fn element_types_convert_to_f32() {
        let tensor = |dtype, data: Vec<u8>| NamedTensor {
            name: String::new(),
            shape: vec![1],
            dtype,
            data: data.into(),
        };
        let values = |dtype, data| tensor(dtype, data).values();
        assert_eq!(values(Dtype::F32, 1.5f32.to_le_bytes().into()), [1.5]);
        assert_eq!(values(Dtype::F64, (-2.5f64).to_le_bytes().into()), [-2.5]);
        assert_eq!(values(Dtype::F16, vec![0x00, 0x3e]), [1.5]);
        assert_eq!(values(Dtype::Bf16, vec![0xc0, 0x3f]), [1.5]);
    }
}
