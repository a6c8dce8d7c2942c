//! Panics of the GPU's libraries, turned into errors that say what to do.
//!
//! Burn queues work on a GPU and learns of a failure, such as too little memory, when it reads a
//! result; it panics then, or on a thread of its own, and may go on without the part that failed.
//! Nothing of its words reaches the user but with `RUST_BACKTRACE` set.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use super::Device;
use crate::cli::console::say;
use crate::cli::failure::Failure;

/// Does work on a GPU; a panic that ends it is an error, and any other is mentioned.
pub fn as_failures<T>(
    device: Device,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let messages = Arc::new(Mutex::new(String::new()));
    let usual = panic::take_hook();
    let shown = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    let heard = Arc::clone(&messages);
    panic::set_hook(Box::new(move |panic| {
        let mut messages = heard.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push_str(panic.payload_as_str().unwrap_or_default());
        messages.push('\n');
        drop(messages);
        if shown {
            usual(panic);
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    // Not kept locked, since a thread that panics now has locked the hook and waits for this.
    let messages = messages
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match result {
        Ok(result) => {
            let _ = panic::take_hook();
            if !messages.is_empty() {
                say(&format!(
                    "Something went wrong on the way, so look at the result with care: {}",
                    explain(device, &messages)
                ));
            }
            result
        }
        // The hook stays: other threads of the GPU's libraries may follow.
        Err(_) => Err(Failure::other(explain(device, &messages))),
    }
}

/// What went wrong, by the words of the libraries, and what to do about it.
fn explain(device: Device, messages: &str) -> String {
    let messages = messages.to_lowercase();
    let said = |words: &[&str]| words.iter().any(|word| messages.contains(word));
    // In the words of CUDA, cubecl and wgpu.
    if said(&[
        "out of memory",
        "outofmemory",
        "out_of_memory",
        "out-of-memory",
        "buffertoobig",
        "can't allocate buffer",
        "greater than the maximum buffer size",
        "buffer_binding_size",
    ]) {
        return format!(
            "{device} has too little memory for this: compute in tiles with --tile 512 or less, or \
             take a smaller --size or --encoder builtin"
        );
    }
    if let Some(file) = missing_header(&messages) {
        return format!(
            "the CUDA headers are not complete, {file} is missing: install the whole toolkit, or \
             its packages cuda-cudart-dev, cuda-crt (before CUDA 13: cuda-nvcc) and cuda-cccl"
        );
    }
    if said(&["unsupported_ptx_version"]) {
        return format!(
            "the NVIDIA driver of {device} is older than NVRTC, whose kernels it does not know: update \
             the driver, or install the version of CUDA that `nvidia-smi` names"
        );
    }
    if said(&[
        "launch_timeout",
        "device is lost",
        "device lost",
        "devicelost",
    ]) {
        return format!(
            "the driver of {device} gave up, as it does when a kernel takes too long on a GPU that \
             also drives a screen: try --tile 512 or less"
        );
    }
    format!(
        "the computation on {device} failed in the libraries of the GPU; for a report, set \
         RUST_BACKTRACE=1 and run it again to see their words"
    )
}

/// The header that NVRTC did not find.
fn missing_header(messages: &str) -> Option<&str> {
    let (_, file) = messages.split_once("open source file ")?;
    // Quoted, and within another quotation.
    file.split(['\\', '"']).find(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_told_from_other_failures() {
        for words in [
            "wgpu error: Out of Memory\n",
            "called `Result::unwrap()` on an `Err` value: ServerUnhealthy { errors: [Io(BufferTooBig \
             { size: 17179869184 })] }",
            "can't allocate buffer of size: 17179869184",
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "Buffer size 5368709120 is greater than the maximum buffer size (268435456)",
        ] {
            let message = explain(Device::Wgpu(Some(1)), words);
            assert!(message.contains("--tile"), "{words}: {message}");
            assert!(message.starts_with("wgpu:1 "), "{message}");
        }
        let message = explain(
            Device::Cuda(0),
            "Unable to load the PTX: CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        );
        assert!(message.contains("update the driver"), "{message}");
        let message = explain(
            Device::Cuda(0),
            r#"mma.h(55): catastrophic error: cannot open source file \"crt/mma.h\""#,
        );
        assert!(message.contains(" crt/mma.h is missing"), "{message}");
        let message = explain(Device::Cuda(0), "index out of bounds: Err(Foo { bar: 1 })");
        assert!(
            message.contains("RUST_BACKTRACE") && !message.contains("Foo"),
            "{message}"
        );
    }
}
