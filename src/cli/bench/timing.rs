//! How long an evaluation takes.

use std::time::Instant;

use burn::tensor::backend::Backend;
use impasto::Vgg19;
use impasto::kernel::{AutodiffStyleBackend, release_idle_memory};
use impasto::optim::Optimizer;
use serde::Serialize;

use super::machine;
use super::objective::{self, Pair};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

/// Times in seconds at one size. An evaluation is loss and gradient on the device, ended by reading
/// the loss back.
#[derive(Serialize)]
pub struct Timing {
    pub width: usize,
    pub height: usize,
    /// From the pictures to the first loss and gradient: compiling for the device, packing the weights,
    /// the targets of both pictures, an evaluation.
    pub first_s: f64,
    pub median_s: f64,
    pub min_s: f64,
    pub repeats: u32,
    /// A step of L-BFGS that remembers ten: an evaluation, and the median of the optimiser's own work.
    pub step_median_s: f64,
    /// At the content picture.
    pub loss: f64,
    /// The most memory that the process has held until then.
    pub resident_bytes: Option<u64>,
    /// The memory of the device that is held, which is the most that was needed; unknown for a CPU, whose
    /// memory is the process's.
    pub device_bytes: Option<u64>,
}

/// Measures with pictures of one size.
pub fn measure<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    pictures: &Pair,
    repeats: u32,
    interrupt: &Interrupt,
) -> Result<Timing, Failure> {
    let device = encoder.device();
    let began = Instant::now();
    let start = pictures.content.to_tensor::<B::InnerBackend>(&device);
    let evaluator = objective::evaluator(encoder, pictures).map_err(Failure::other)?;
    let evaluate = |image| objective::evaluate(&evaluator, image, interrupt);
    let found = evaluate(start.clone())?;
    let first_s = finish::<B>(began, &device)?;

    let mut evaluations = Vec::new();
    for _ in 0..repeats {
        let began = Instant::now();
        let found = evaluate(start.clone())?;
        evaluations.push(finish::<B>(began, &device)?);
        drop(found);
    }

    let mut optimizer = objective::lbfgs().init();
    // Without a history, and compiling what the others need.
    let mut image = optimizer.step(start, evaluate)?;
    let mut own_work = Vec::new();
    for _ in 0..repeats {
        let mut evaluating = 0.0;
        let began = Instant::now();
        image = optimizer.step(image, |image| {
            let began = Instant::now();
            let found = evaluate(image)?;
            evaluating += finish::<B>(began, &device)?;
            Ok::<_, Failure>(found)
        })?;
        own_work.push(finish::<B>(began, &device)? - evaluating);
    }
    let median_s = median(&mut evaluations);
    let device_bytes = B::device_memory(&device);
    // Another size could not use it.
    release_idle_memory();
    B::memory_cleanup(&device);
    Ok(Timing {
        width: pictures.content.width(),
        height: pictures.content.height(),
        first_s,
        median_s,
        min_s: evaluations.iter().copied().fold(f64::INFINITY, f64::min),
        repeats,
        step_median_s: median_s + median(&mut own_work),
        loss: found.loss,
        resident_bytes: machine::peak_resident_bytes(),
        device_bytes,
    })
}

/// The seconds until the device has done all that it was given.
fn finish<B: Backend>(began: Instant, device: &B::Device) -> Result<f64, Failure> {
    B::sync(device).map_err(Failure::other)?;
    Ok(began.elapsed().as_secs_f64())
}

/// The middle of some times, of which there is at least one.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    let (low, high) = ((times.len() - 1) / 2, times.len() / 2);
    (times[low] + times[high]) / 2.0
}
