//! The CPU kernels: functions on slices of `f32`.
//!
//! | module | what it does |
//! |---|---|
//! | [`lanes`] | vectors of the machine's width |
//! | [`microkernel`] | the inner loop: a matrix product in registers |
//! | [`tiles`] | the geometry of Winograd's tiles |
//! | [`interleave`] | shuffles between pixels and lanes |
//! | [`patches`], [`masks`] | reading the pixels and the ReLU masks under tiles |
//! | [`output_tiles`] | writing tiles |
//! | [`winograd`] | the transforms of Winograd's F(4×4, 3×3) |
//! | [`convolution`] | the 3×3 convolution with its epilogue and projection, and its gradient |
//! | [`pool`], [`conv1x1`], [`gram`] | the 2×2 pool, 1×1 convolutions, Gram matrices |
//! | [`crop`], [`runs`] | rectangles of planes |
//! | [`sample`], [`columns`] | features at points, products of columns |
//! | [`distances`] | squared distances of rows |
//! | [`variation`] | differences of pixels with their neighbours |
//! | [`nearest`] | the column with the largest inner product, among many |
//! | [`vectors`] | what optimisers do with images |
//! | [`buffer_pool`], [`system_memory`] | reuse of memory |
//!
//! All functions on vectors are `#[inline(always)]`, called from a `WithSimd::with_simd`, and pass no
//! vectors through closures of the standard library. Only then are they compiled into the function
//! that has the vector instructions enabled. For the same reason inner loops count indices instead of
//! taking arrays by value (`map`, `into_iter`, `reverse`): those functions of the standard library are
//! not inlined where a crate is compiled in units without link-time optimization between them.

// Loops over small fixed ranges that index several arrays at once are unrolled; short copies need no call.
#![allow(clippy::needless_range_loop, clippy::manual_memcpy)]

pub mod buffer_pool;
pub mod columns;
pub mod conv1x1;
pub mod convolution;
pub mod crop;
pub mod distances;
pub mod gram;
mod interleave;
mod lanes;
mod masks;
mod microkernel;
pub mod nearest;
mod output_tiles;
mod patches;
pub mod pool;
pub mod runs;
pub mod sample;
mod system_memory;
mod tiles;
pub mod variation;
pub mod vectors;
pub mod winograd;

#[cfg(all(test, target_arch = "x86_64"))]
pub use lanes::FORCE_AVX2;
