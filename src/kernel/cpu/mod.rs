//! The engine of the CPU backends: plain functions on slices of `f32`.
//!
//! | module | what it does |
//! |---|---|
//! | [`lanes`] | vectors of whatever width the machine has |
//! | [`product`] | the inner loop, a matrix product in registers |
//! | [`winograd`] | the transforms of Winograd's F(4×4, 3×3) |
//! | [`deal`] | shuffles between pixels and tiles |
//! | [`patch`] | pixels ↔ tiles |
//! | [`convolution`] | the 3×3 convolution with what follows it, and its gradient |
//! | [`pool`], [`mix`], [`gram`] | the pool alone, 1×1 convolutions, Gram matrices |
//! | [`memory`] | memory that is used again |
//!
//! Everything that runs on vectors is `#[inline(always)]` down from a `WithSimd::with_simd`, and
//! takes no vectors through closures of the standard library: only so does it become part of the
//! function that is compiled for those vectors.

// Loops over fixed small ranges, which index several arrays at once, are what gets unrolled.
#![allow(clippy::needless_range_loop)]

pub mod convolution;
mod deal;
pub mod gram;
mod lanes;
pub mod memory;
pub mod mix;
mod patch;
pub mod pool;
mod product;
pub mod winograd;

#[cfg(all(test, target_arch = "x86_64"))]
pub use lanes::NARROW;
