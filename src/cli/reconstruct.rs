//! `impasto reconstruct`.

use std::process::ExitCode;

use impasto::picture::{SaveOptions, check_output};
use impasto::transfer::Checkpoint;
use impasto::{Picture, Recipe, Style};

use super::Failure;
use super::args::{
    Effort, Rebuild, Reconstruct, ReconstructContent, ReconstructStyle, WeightedLayer,
};
use super::paint::{Interruptible, Painting};

/// Checks everything, then rebuilds; from a checkpoint of the same command if one is given.
pub fn run(what: &Reconstruct, checkpoint: Option<Checkpoint>) -> Result<ExitCode, Failure> {
    match what {
        Reconstruct::Content(arguments) => content(arguments, checkpoint),
        Reconstruct::Style(arguments) => style(arguments, checkpoint),
    }
}

fn content(
    arguments: &ReconstructContent,
    checkpoint: Option<Checkpoint>,
) -> Result<ExitCode, Failure> {
    let rebuild = &arguments.rebuild;
    let recipe = Recipe::content_reconstruction(arguments.layer);
    let recipe = rebuild.effort.apply(recipe)?;
    let picture = rebuild.open()?;
    rebuild.paint(recipe, picture, None, checkpoint)
}

fn style(
    arguments: &ReconstructStyle,
    checkpoint: Option<Checkpoint>,
) -> Result<ExitCode, Failure> {
    let rebuild = &arguments.rebuild;
    let mut recipe = Recipe::style_reconstruction(&Recipe::default().style_layers);
    if let Some(layers) = &arguments.layers {
        WeightedLayer::choose(layers, &mut recipe);
    }
    let mut recipe = rebuild.effort.apply(recipe)?;
    let picture = rebuild.open()?;
    // The texture takes its proportions from a picture without contents.
    let canvas = match arguments.canvas {
        None => picture.clone(),
        Some((width, height)) => {
            // The picture keeps its own size whatever that of the texture.
            let longest = width.max(height);
            recipe.style_size = Some(recipe.size);
            recipe.size = longest;
            recipe.check().map_err(Failure::usage)?;
            Picture::from_rgb(width, height, vec![0.5; 3 * width * height])
                .map_err(Failure::usage)?
        }
    };
    rebuild.paint(recipe, canvas, Some(picture), checkpoint)
}

impl Rebuild {
    /// Checks where the result goes, and reads the picture.
    fn open(&self) -> Result<Picture, Failure> {
        check_output(&self.output, SaveOptions::default()).map_err(Failure::usage)?;
        Picture::open(&self.image).map_err(Failure::usage)
    }

    fn paint(
        &self,
        recipe: Recipe,
        content: Picture,
        style: Option<Picture>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<ExitCode, Failure> {
        let painting = Painting {
            output: self.output.clone(),
            save: SaveOptions::default(),
            reports: self.reports.clone(),
            recipe,
            content,
            styles: style.map(Style::new).into_iter().collect(),
            start: None,
            seed: self.effort.seed,
        };
        let state = Interruptible {
            checkpoints: &self.checkpoints,
            resumed: checkpoint,
        };
        painting.run(&self.engine, state)
    }
}

impl Effort {
    fn apply(&self, recipe: Recipe) -> Result<Recipe, Failure> {
        let recipe = Recipe {
            size: self.size,
            iterations: self.iterations,
            coarse_iterations: vec![self.iterations],
            tv_weight: self.tv_weight.unwrap_or(recipe.tv_weight),
            ..recipe
        };
        recipe.check().map_err(Failure::usage)?;
        Ok(recipe)
    }
}
