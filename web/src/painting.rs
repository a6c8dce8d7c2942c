//! A picture that is painted, step by step.

use std::ops::ControlFlow;

use burn::backend::{Autodiff, Flex};
use impasto::page::{self, Point, Progress};
use impasto::picture::{Format, SaveOptions};
use impasto::transfer::{Checkpoint, End, Pace, StyleCache};
use impasto::{Picture, Region, Run, Status, Style, StyleTransfer, Vgg19};
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::settings::Settings;
use crate::words;

type B = Autodiff<Flex>;

/// Bytes that a run may take: the memory of WebAssembly ends at 4 GB, has gaps, and holds pictures that are added
/// meanwhile.
const MEMORY: u64 = 5 << 29;

/// The pictures and the settings of a job, before it is painted.
#[wasm_bindgen]
pub struct Job {
    settings: Settings,
    content: Option<Picture>,
    styles: Vec<(Style, Option<Picture>)>,
    start: Option<Picture>,
}

#[wasm_bindgen]
impl Job {
    /// A job without pictures yet; the settings are JSON.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    #[wasm_bindgen(constructor)]
    pub fn new(settings: &str) -> Result<Self, String> {
        let settings = Settings::from_json(settings)?;
        settings.recipe()?;
        Ok(Self {
            settings,
            content: None,
            styles: Vec::new(),
            start: None,
        })
    }

    /// The picture to paint, as the bytes of its file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.content = Some(self.read(bytes, "the picture")?);
        Ok(())
    }

    /// A picture to start from.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn start(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.start = Some(self.read(bytes, "the start")?);
        Ok(())
    }

    /// Adds a style with its weight, and where it is painted: everywhere, or where a mask is white.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn style(
        &mut self,
        bytes: &[u8],
        weight: f64,
        mask: Option<Box<[u8]>>,
    ) -> Result<(), String> {
        let style = Style::new(self.read(bytes, "the style")?).weight(weight);
        let size = self.settings.recipe()?.size;
        let read = |mask: Box<[u8]>| Picture::mask_from_bytes(&mask, "the mask", size);
        self.styles
            .push((style, mask.map(read).transpose().map_err(words)?));
        Ok(())
    }

    /// A picture, reduced to what the recipe needs of it.
    fn read(&self, bytes: &[u8], name: &str) -> Result<Picture, String> {
        let recipe = self.settings.recipe()?;
        let stored = Picture::size_from_bytes(bytes, name).map_err(words)?;
        let largest = recipe.style_size.unwrap_or(recipe.size).max(recipe.size);
        let longest = recipe.longest_side(stored, largest as f64 * recipe.style_scale.max(1.0));
        Picture::reduced_from_bytes(bytes, name, longest.ceil() as usize).map_err(words)
    }
}

/// What paints: the network, and what several jobs share.
#[wasm_bindgen]
pub struct Painter {
    encoder: Vgg19<B>,
    cache: StyleCache<Flex>,
}

#[wasm_bindgen]
impl Painter {
    /// With the built-in network.
    #[wasm_bindgen(constructor)]
    #[expect(clippy::new_without_default, reason = "called from JavaScript")]
    pub fn new() -> Self {
        Self {
            encoder: Vgg19::builtin(&Default::default()),
            cache: StyleCache::default(),
        }
    }

    /// Begins a job, or goes on where a checkpoint was taken.
    ///
    /// # Errors
    /// Why it cannot be painted, in words.
    pub fn begin(&self, job: Job, checkpoint: Option<Box<[u8]>>) -> Result<Painting, String> {
        let mut transfer = StyleTransfer::new(&self.encoder)
            .recipe(job.settings.recipe()?)
            .seed(job.settings.options.seed.unwrap_or(0))
            .memory_limit(MEMORY)
            .share(&self.cache);
        if let Some(content) = job.content {
            transfer = transfer.content(content);
        }
        let masked = job.styles.iter().any(|(_, mask)| mask.is_some());
        for (style, mask) in job.styles {
            // Beside one with a mask, one without is painted everywhere by a mask too.
            let content = match mask {
                None if masked => Picture::from_rgb(16, 16, vec![1.0; 3 * 256]).map(Some),
                mask => Ok(mask),
            };
            let region = content.map_err(words)?.map(|content| Region {
                content,
                style: None,
            });
            transfer = transfer.add_style(match region {
                Some(region) => style.within(region),
                None => style,
            });
        }
        if let Some(start) = job.start {
            transfer = transfer.start(start);
        }
        if let Some(bytes) = checkpoint {
            let checkpoint = Checkpoint::from_bytes(&bytes, "the job's state").map_err(words)?;
            transfer = transfer.resume(checkpoint);
        }
        let run = transfer.prepare().map_err(words)?;
        Ok(Painting {
            pace: Pace::new(run.plan().scales.clone()),
            run,
        })
    }
}

/// A run under way.
#[wasm_bindgen]
pub struct Painting {
    run: Run<B>,
    pace: Pace,
}

#[wasm_bindgen]
impl Painting {
    /// Takes a step: JSON with whether the run has `ended`, its `progress`, and `points` of the curves.
    ///
    /// # Errors
    /// Why there is no next step, in words.
    pub fn step(&mut self) -> Result<String, String> {
        let (pace, mut points, mut progress) = (&mut self.pace, Vec::new(), None);
        let status = self.run.step_with(|step| {
            points.push(Point::at(step));
            progress = Some(Progress::at(step, pace.at(step)));
            ControlFlow::Continue(())
        });
        let ended = matches!(status.map_err(words)?, Status::Ended(_));
        Ok(json!({"ended": ended, "progress": progress, "points": points}).to_string())
    }

    /// How many evaluations of the loss there have been.
    pub fn evaluations(&self) -> usize {
        self.run.evaluations()
    }

    /// The picture as it stands, no longer than so many pixels: JPEG.
    ///
    /// # Errors
    /// In words.
    pub fn preview(&self, longest: usize) -> Result<Vec<u8>, String> {
        page::preview(&self.run.picture().map_err(words)?, longest).map_err(words)
    }

    /// The state to go on from; nothing before the first step.
    ///
    /// # Errors
    /// In words.
    pub fn checkpoint(&self) -> Result<Option<Box<[u8]>>, String> {
        let checkpoint = self.run.checkpoint();
        let bytes = checkpoint.map(|checkpoint| checkpoint.to_bytes().map(Vec::into_boxed_slice));
        bytes.transpose().map_err(words)
    }

    /// Changes the settings for the steps to come, and how much each style counts. An error changes nothing.
    ///
    /// # Errors
    /// What cannot be changed, in words.
    pub fn steer(&mut self, settings: &str, weights: &[f64]) -> Result<(), String> {
        let recipe = Settings::from_json(settings)?.recipe()?;
        let before = self.run.recipe().clone();
        self.run.set_recipe(recipe).map_err(words)?;
        self.run.set_style_weights(weights).map_err(|error| {
            let _ = self.run.set_recipe(before);
            words(error)
        })?;
        self.pace.interrupted();
        Ok(())
    }

    /// Ends the run: the result, a PNG that says how it was made.
    ///
    /// # Errors
    /// In words.
    pub fn finish(self) -> Result<Painted, String> {
        let outcome = self.run.finish().map_err(words)?;
        let picture = outcome
            .picture
            .with_metadata(outcome.provenance.to_metadata());
        let options = SaveOptions::default();
        Ok(Painted {
            png: picture.to_bytes(Format::Png, options).map_err(words)?,
            complete: outcome.end == End::Finished,
            message: matches!(outcome.end, End::Diverged { .. }).then(|| {
                "The loss was no longer a number; this is the last good picture. Try smaller weights."
                    .to_string()
            }),
        })
    }
}

/// The result of a job.
#[wasm_bindgen(getter_with_clone)]
pub struct Painted {
    /// The file.
    pub png: Vec<u8>,
    /// Whether all steps were taken.
    pub complete: bool,
    /// What there is to say.
    pub message: Option<String>,
}
