//! The threads of the kernels: Web Workers that share the memory of the module.

use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::prelude::*;

/// Threads of the pool on their way to the workers that become them.
static THREADS: LazyLock<(Sender<ThreadBuilder>, Mutex<Receiver<ThreadBuilder>>)> =
    LazyLock::new(|| {
        let (sender, receiver) = channel();
        (sender, Mutex::new(receiver))
    });

/// Makes the pool of so many threads. As many workers must be on their way to [`run_thread`]: this waits for them.
///
/// # Errors
/// If there is a pool already.
#[wasm_bindgen]
pub fn start_threads(count: usize) -> Result<(), String> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(count)
        .spawn_handler(|thread| {
            let sent = THREADS.0.send(thread);
            sent.map_err(|_| ErrorKind::BrokenPipe.into())
        });
    pool.build_global().map_err(|error| error.to_string())
}

/// Makes the worker a thread of the pool, for good.
#[wasm_bindgen]
pub fn run_thread() {
    let receiver = THREADS.1.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = receiver.recv();
    drop(receiver);
    if let Ok(thread) = thread {
        thread.run();
    }
}

/// The module, for the workers.
#[wasm_bindgen]
pub fn shared_module() -> JsValue {
    wasm_bindgen::module()
}

/// Its memory, for the workers.
#[wasm_bindgen]
pub fn shared_memory() -> JsValue {
    wasm_bindgen::memory()
}
