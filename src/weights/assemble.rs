//! Checks a network's tensors and converts them.

use std::path::Path;

use super::error::WeightsError;
use super::tensor::{NamedTensor, Network};
use super::vgg19::{Convolution, MAX_CHANNELS, expected_shape};

/// The convolutions and the projections of a network; `path` is for messages.
pub(super) fn assemble(
    network: &Network,
    path: &Path,
) -> Result<(Vec<Convolution>, Vec<Convolution>), WeightsError> {
    let unsuitable = |problem| WeightsError::Unsuitable {
        path: path.into(),
        problem,
    };
    let Network {
        weights,
        biases,
        projections,
    } = network;
    let Some(first) = weights.first() else {
        return Err(unsuitable(
            "it holds no convolutions named or arranged as VGG19's".to_string(),
        ));
    };
    let width = first.shape.first().copied();
    let width = width
        .filter(|width| (1..=MAX_CHANNELS).contains(width))
        .ok_or_else(|| {
            unsuitable(format!(
                "`{}` has shape {:?}, expected [64, 3, 3, 3]",
                first.name, first.shape
            ))
        })?;
    let (count, slim) = (weights.len(), !projections.is_empty());
    if slim && projections.len() != count {
        return Err(unsuitable(format!(
            "it holds {} projections for {count} convolutions",
            projections.len()
        )));
    }
    let mut convolutions = Vec::with_capacity(count);
    let mut projected = Vec::with_capacity(projections.len());
    let mut channels = 3;
    for (index, weight) in weights.iter().enumerate() {
        let mut shape = expected_shape(index, width);
        if slim {
            // The widths are the file's own choice; they only have to fit each other.
            shape = [rows(weight), channels, 3, 3];
        }
        let kernel = convert(weight, &shape, path)?;
        let bias = match biases.get(index) {
            Some(Some(bias)) => convert(bias, &shape[..1], path)?,
            _ => vec![0.0; shape[0]],
        };
        convolutions.push(Convolution {
            weight: kernel,
            shape,
            bias: Some(bias),
        });
        channels = shape[0];
        if let Some(projection) = projections.get(index) {
            let shape = [rows(projection), channels, 1, 1];
            projected.push(Convolution {
                weight: convert(projection, &shape, path)?,
                shape,
                bias: None,
            });
            channels = shape[0];
        }
    }
    Ok((convolutions, projected))
}

/// The first size of a tensor, in bounds.
fn rows(tensor: &NamedTensor) -> usize {
    let rows = tensor.shape.first();
    rows.map_or(1, |&rows| rows.clamp(1, MAX_CHANNELS))
}

/// The values as f32, if they are as many as expected and finite.
fn convert(
    tensor: &NamedTensor,
    expected: &[usize],
    path: &Path,
) -> Result<Vec<f32>, WeightsError> {
    if tensor.shape != expected {
        return Err(WeightsError::Shape {
            path: path.into(),
            name: tensor.name.clone(),
            expected: expected.to_vec(),
            found: tensor.shape.clone(),
        });
    }
    // Before any value is converted: the data may be longer than their shape says.
    if !tensor.is_whole() {
        let found = tensor.data.len() / tensor.dtype.size();
        let count: usize = expected.iter().product();
        return Err(WeightsError::Unsuitable {
            path: path.into(),
            problem: format!(
                "`{}` holds {found} values, expected {count}; is the file complete?",
                tensor.name
            ),
        });
    }
    let values = tensor.values();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(WeightsError::NotFinite {
            path: path.into(),
            name: tensor.name.clone(),
            index,
            value: values[index],
        }),
    }
}
