//! impasto in a browser: what a Web Worker calls to paint pictures. See `docs/browser.md`.
//!
//! | file | what is there |
//! |---|---|
//! | `settings` | what a picture is painted from, as the page says it |
//! | `painting` | a picture that is painted, step by step |
//! | `threads` | the threads of the kernels |
//! | `page/engine.js` | the studio's engine: the queue, and what is kept of it |
//! | `page/storage.js` | what the browser keeps |
//! | `page/client.js` | the worker, as the engine calls it |
//! | `page/worker.js` | the Web Worker, which calls this module |
//! | `page/thread.js` | a thread of the kernels |
//! | `page/service-worker.js` | serves the page where there is no network |

mod painting;
mod settings;
#[cfg(feature = "threads")]
mod threads;

use std::error::Error;
use std::fmt::Write as _;

use impasto::page::{RecipeInfo, SHOWN, shrunk};
use impasto::picture::{ColorTransfer, Format, SaveOptions};
use impasto::{Picture, Recipe};
use serde_json::json;
use wasm_bindgen::prelude::*;

pub use self::painting::{Job, Painter, Painting};
#[cfg(feature = "threads")]
pub use self::threads::{run_thread, shared_memory, shared_module, start_threads};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Has the words of a fault written to the browser's console: all that is left of the module then is that it
/// has stopped.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}

/// What there is to choose from, as JSON.
#[wasm_bindgen]
pub fn info() -> String {
    let recipes: Vec<RecipeInfo> = Recipe::all().into_iter().map(RecipeInfo::from).collect();
    let info = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "recipes": recipes,
        "recipe": Recipe::default().name,
        "colors": ColorTransfer::ALL,
        "encoders": ["builtin"],
    });
    info.to_string()
}

/// A picture as a page shows it.
#[wasm_bindgen(getter_with_clone)]
pub struct Shown {
    /// Of the picture itself, in pixels.
    pub width: usize,
    pub height: usize,
    /// A PNG, no larger than a page needs.
    pub png: Vec<u8>,
}

/// Reads the bytes of a picture's file.
///
/// # Errors
/// What is wrong with it, in words.
#[wasm_bindgen]
pub fn read_picture(bytes: &[u8]) -> Result<Shown, String> {
    let name = "the picture";
    let (width, height) = Picture::size_from_bytes(bytes, name).map_err(words)?;
    let picture = Picture::reduced_from_bytes(bytes, name, SHOWN).map_err(words)?;
    let png = shrunk(&picture, SHOWN);
    Ok(Shown {
        width,
        height,
        png: png
            .to_bytes(Format::Png, SaveOptions::default())
            .map_err(words)?,
    })
}

/// An error with all that led to it, in words.
fn words(error: impl Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}
