//! The operations on Burn's GPU tensors: sizes, launches, and the choice between kernels.

mod convolutions;
mod halves;
mod launch;
mod products;
mod sums;
mod tensor_cores;

pub use convolutions::{Weighted, convolve, convolve_backward, pack, pool, pool_backward};
pub use launch::takes;
pub use products::{conv1x1, conv1x1_backward, gram, gram_backward};
pub use sums::{curvature, squared_distances, squared_distances_backward, two_loop};
pub use tensor_cores::factors;
