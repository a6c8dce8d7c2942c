//! Weights in the safetensors format.

use std::collections::BTreeMap;

use bytes::Bytes;
use safetensors::{Dtype as Stored, SafeTensors};

use super::source::{Dtype, NamedTensor, Source, normalization_from};

/// Reads the table of contents; the values stay where they are.
pub(super) fn read(bytes: &Bytes) -> Result<Source, String> {
    let damaged = |error| format!("damaged or incomplete safetensors file ({error}); get it again");
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = match view.dtype() {
            Stored::F16 => Dtype::F16,
            Stored::BF16 => Dtype::Bf16,
            Stored::F32 => Dtype::F32,
            Stored::F64 => Dtype::F64,
            // Counters and the like beside the weights are no concern; a kernel would be missed.
            _ => continue,
        };
        let tensor = NamedTensor {
            name: name.clone(),
            shape: view.shape().to_vec(),
            dtype,
            data: bytes.slice_ref(view.data()),
        };
        tensors.insert(name, tensor);
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let mut source = Source::from_names(tensors)?;
    source.normalization = normalization_from(|key| metadata.get(key).map(String::as_str));
    Ok(source)
}
