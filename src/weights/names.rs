//! torchvision's names of VGG19's tensors.

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
