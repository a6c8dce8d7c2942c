//! Bytes made to do harm, from every parser to the weights: whatever they are, there is an answer,
//! soon, and finite weights.
//!
//! `PROPTEST_CASES=100000 cargo test --release --features cli --lib weights` tries as many of each kind.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::Vgg19Weights;

/// Reads these bytes as a file of weights.
fn survive(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let start = Instant::now();
    if let Ok(weights) = Vgg19Weights::from_bytes(bytes, "hostile") {
        for layer in weights.convolutions() {
            prop_assert!(layer.weight.iter().all(|value| value.is_finite()));
            prop_assert_eq!(layer.weight.len(), layer.shape.iter().product::<usize>());
        }
    }
    prop_assert!(start.elapsed() < Duration::from_secs(5));
    Ok(())
}

proptest! {
    #[test]
    fn hostile_tables_of_contents(bytes in super::safetensors::tests::table()) {
        survive(bytes)?;
    }

    #[cfg(feature = "onnx")]
    #[test]
    fn hostile_onnx(bytes in super::onnx::tests::model()) {
        survive(bytes)?;
    }

    #[cfg(feature = "pytorch")]
    #[test]
    fn hostile_pytorch(bytes in super::pytorch::tests::file()) {
        survive(bytes)?;
    }
}
