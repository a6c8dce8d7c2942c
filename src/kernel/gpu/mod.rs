//! Kernels for GPUs, written in CubeCL: one source for CUDA, Vulkan and Metal.
//!
//! - [`conv`]: 3×3 convolutions in single precision on every GPU, [`mma`] and, of halves, [`conv_halves`]: on
//!   tensor cores, all with their epilogue ([`epilogue`]) and, backward, with what undoes it ([`input`])
//! - [`pack`]: the order of their weights and of halves, [`scale`]: the range of half precision
//! - [`gemm`]: 1×1 convolutions, Gram matrices and their gradients; with tensor cores the products are those
//!   of [`product_async`] and [`gram_async`], or, in single precision and where copies of 16 bytes do not fit, of
//!   [`mma`] and [`gram_mma`]
//! - [`pool`]: pools on their own, and what undoes an epilogue before other kernels read it
//! - [`distance`]: what losses sum, [`lbfgs`]: the steps of the optimiser
//!
//! Convolutions and sums do not depend on other runs, nor on which kernel an autotuner chose: the kernel
//! follows from the sizes and the device.

mod backend;
mod conv;
mod conv_halves;
mod distance;
mod epilogue;
mod gemm;
mod gram_async;
mod gram_mma;
mod input;
mod lbfgs;
mod mma;
mod ops;
mod pack;
mod pool;
mod product_async;
mod reduce;
mod scale;
