//! What is to be painted, with everything resolved that the arguments said.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use impasto::communicator::Communicator;
use impasto::kernel::AutodiffStyleBackend;
use impasto::picture::SaveOptions;
use impasto::transfer::{Checkpoint, StyleCache};
use impasto::{Picture, Recipe, Run, Style, StyleTransfer, TransferError, Vgg19};

use super::args::{DeviceArgs, MemoryArgs, ReportArgs, StyleArgs};
use super::budget::Budget;
use super::describe::gigabytes;
use super::device::Device;
use super::failure::Failure;
use super::ranks::{memory_sharers, run_failure};
use super::{inputs, recipe};

/// A picture to paint: what goes in, how, and where the result and the reports go.
#[derive(Clone)]
pub struct Job {
    pub output: PathBuf,
    pub save: SaveOptions,
    pub reports: ReportArgs,
    pub memory: MemoryArgs,
    pub recipe: Recipe,
    pub content: Picture,
    pub styles: Vec<Style>,
    pub start: Option<Start>,
    pub seed: u64,
}

impl Job {
    /// The pictures of the job with a recipe.
    pub fn transfer<B: AutodiffStyleBackend>(
        &self,
        encoder: &Vgg19<B>,
        recipe: Recipe,
    ) -> StyleTransfer<'static, B> {
        let transfer = StyleTransfer::new(encoder)
            .content(self.content.clone())
            .recipe(recipe)
            .seed(self.seed);
        let styles = self.styles.iter().cloned();
        let transfer = styles.fold(transfer, StyleTransfer::add_style);
        match &self.start {
            Some(start) => transfer.start(start.picture.clone()),
            None => transfer,
        }
    }

    /// The run of the job, checked and planned.
    pub fn prepare<B: AutodiffStyleBackend>(
        &self,
        encoder: &Vgg19<B>,
        device: Device,
        cache: &StyleCache<B::InnerBackend>,
        resumed: Option<Checkpoint>,
        ranks: Option<Arc<dyn Communicator>>,
    ) -> Result<Run<B>, Failure> {
        let mut transfer = self.transfer(encoder, self.recipe.clone()).share(cache);
        let budget = Budget::new(self.memory, device);
        let is_asked = self.memory.memory.is_some();
        let sharers = ranks
            .as_ref()
            .map_or(1, |ranks| memory_sharers(&**ranks, device, is_asked));
        if let Some(ranks) = ranks {
            transfer = transfer.communicator(ranks);
        }
        if let Some(pixels) = self.memory.tile {
            transfer = transfer.tile_size(pixels);
        }
        if let Some(checkpoint) = resumed {
            transfer = transfer.resume(checkpoint);
        }
        if let Some(budget) = budget {
            transfer = transfer.memory_limit(budget.bytes / sharers);
        }
        transfer.prepare().map_err(|error| match (error, budget) {
            (error @ TransferError::Memory { .. }, Some(budget)) => {
                let message = too_little_memory(&error, budget, sharers, self.memory);
                Failure::usage(message)
            }
            (error, _) => run_failure(error),
        })
    }
}

/// A picture to start from, with the name of its file.
#[derive(Clone)]
pub struct Start {
    pub path: PathBuf,
    pub picture: Picture,
}

/// What the jobs of a command have in common: all but the content and where the result goes.
pub struct JobTemplate {
    recipe: Recipe,
    styles: Vec<Style>,
    start: Option<Start>,
    seed: u64,
    save: SaveOptions,
    memory: MemoryArgs,
}

impl JobTemplate {
    /// Resolves the options and reads the style pictures, maps and masks.
    pub fn new(
        args: &StyleArgs,
        device: &DeviceArgs,
        memory: MemoryArgs,
        styles: &[PathBuf],
    ) -> Result<Self, Failure> {
        let (recipe, start) = recipe::from_style_args(args, device)?;
        let largest = memory.largest_picture();
        let start = start.map(|path| {
            Ok(Start {
                path: path.to_path_buf(),
                picture: inputs::open_content(path, &recipe, largest)?,
            })
        });
        Ok(Self {
            start: start.transpose()?,
            styles: inputs::styles(args, &recipe, styles, largest)?,
            recipe,
            seed: args.seed,
            save: save_options(args),
            memory,
        })
    }

    /// The job for a content picture, which is read.
    pub fn open(
        &self,
        content: &Path,
        output: &Path,
        reports: &ReportArgs,
    ) -> Result<Job, Failure> {
        Ok(Job {
            output: output.to_path_buf(),
            save: self.save,
            reports: reports.clone(),
            memory: self.memory,
            recipe: self.recipe.clone(),
            content: inputs::open_content(content, &self.recipe, self.memory.largest_picture())?,
            styles: self.styles.clone(),
            start: self.start.clone(),
            seed: self.seed,
        })
    }
}

/// How results are written.
pub fn save_options(args: &StyleArgs) -> SaveOptions {
    SaveOptions {
        depth: args.bits,
        colors: args.color_space.into(),
        ..SaveOptions::default()
    }
}

/// What to say where no way to compute a picture fits the memory.
fn too_little_memory(
    error: &TransferError,
    budget: Budget,
    sharers: u64,
    args: MemoryArgs,
) -> String {
    let TransferError::Memory {
        width,
        height,
        needed,
        size,
        ..
    } = error
    else {
        return error.to_string();
    };
    let shared = match sharers {
        1 => String::new(),
        sharers => format!(" for {sharers} ranks"),
    };
    let tile = if args.tile.is_some() {
        "no --tile, "
    } else {
        ""
    };
    format!(
        "{width}×{height} pixels need about {} at least, more than {}{shared}; try {tile}--size {size}, --optimizer \
         adam or --encoder builtin",
        gigabytes(*needed),
        budget.describe()
    )
}
