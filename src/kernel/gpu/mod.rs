//! Kernels for GPUs, written in CubeCL: one source for CUDA, Vulkan and Metal.
//!
//! - [`conv`]: 3×3 convolutions in single precision on every GPU, [`mma`]: on tensor cores, both with
//!   their epilogue ([`epilogue`]) and, backward, with what undoes it ([`input`])
//! - [`pack`]: the order of their weights, [`scale`]: the range of half precision
//! - [`gemm`]: 1×1 convolutions, Gram matrices and their gradients; with tensor cores 1×1 convolutions are
//!   those of [`mma`], and Gram matrices of [`gram_mma`]
//! - [`pool`]: pools on their own, and what undoes an epilogue before other kernels read it
//! - [`distance`]: what losses sum, [`lbfgs`]: the steps of the optimiser
//!
//! Convolutions and sums do not depend on other runs, nor on which kernel an autotuner chose: the kernel
//! follows from the sizes and the device.

mod backend;
mod conv;
mod distance;
mod epilogue;
mod gemm;
mod gram_mma;
mod input;
mod lbfgs;
mod mma;
mod ops;
mod pack;
mod pool;
mod reduce;
mod scale;
