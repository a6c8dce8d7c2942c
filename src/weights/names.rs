//! torchvision's names of VGG19's tensors.

use std::collections::BTreeMap;

use super::tensor::NamedTensor;

/// Positions of the convolutions in torchvision's `features`, which counts ReLUs and pools too.
pub(super) const CONVOLUTIONS: [usize; 16] =
    [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34];

/// Name of the kernel of the convolution numbered `index`, from 0.
pub(super) fn weight(index: usize) -> String {
    format!("features.{}.weight", CONVOLUTIONS[index])
}

/// Name of the bias of the convolution numbered `index`, from 0.
pub(super) fn bias(index: usize) -> String {
    format!("features.{}.bias", CONVOLUTIONS[index])
}

/// Name of the projection behind the convolution numbered `index`, from 0, in a slim network.
pub(super) fn projection(index: usize) -> String {
    format!("readout.{index}.weight")
}

/// Names of the first `depth` convolutions' tensors.
#[cfg(feature = "pretrained")]
pub(crate) fn first_convolutions(depth: usize) -> impl Iterator<Item = String> {
    (0..CONVOLUTIONS.len().min(depth)).flat_map(|index| [weight(index), bias(index)])
}

/// Checks that tensors with torchvision's names are those of VGG19 or of its first convolutions.
/// Others, such as the classifier's, may be there too.
///
/// # Errors
/// If there is no convolution, a bias is missing, or a convolution lies where VGG19 has none.
pub(super) fn check(tensors: &BTreeMap<String, NamedTensor>) -> Result<(), String> {
    let count = (0..CONVOLUTIONS.len())
        .take_while(|&index| tensors.contains_key(&weight(index)))
        .count();
    let known: Vec<String> = (0..count)
        .flat_map(|index| [weight(index), bias(index)])
        .collect();
    if let Some(name) = known.iter().find(|&name| !tensors.contains_key(name)) {
        return Err(format!("`{name}` is missing"));
    }
    // VGG16 has other positions, VGG with batch normalisation too: what is left tells.
    let mut others = tensors.keys().filter(|name| !known.contains(name));
    if let Some(name) = others.find(|name| name.starts_with("features.")) {
        return Err(format!(
            "found `{name}`, but the convolutions of torchvision's VGG19 are features.0, 2, 5, 7, \
             10, …, 34 and here they end after {count}; is it another network?"
        ));
    }
    if count == 0 {
        return Err(match tensors.keys().next() {
            Some(name) => format!(
                "found tensors such as `{name}`, expected torchvision's names \
                 (`features.0.weight` …)"
            ),
            None => "it holds no tensors".to_string(),
        });
    }
    Ok(())
}
