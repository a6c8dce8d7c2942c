//! `impasto reconstruct`.

use std::process::ExitCode;

use impasto::picture::{SaveOptions, check_output};
use impasto::{Picture, Recipe, Style};

use super::args::{
    ReconstructCommand, ReconstructContentArgs, ReconstructStyleArgs, ReconstructionArgs,
};
use super::encoder::Encoder;
use super::failure::Failure;
use super::files::Files;
use super::inputs;
use super::job::Job;
use super::ranks::follow_first;
use super::recipe::{from_reconstruction_args, set_style_layers};
use super::reports;
use super::resume::Resumed;
use super::session::run_job;

/// Checks everything, then rebuilds; from a checkpoint of the same command if one is given.
pub fn run(command: &ReconstructCommand, resumed: Option<Resumed>) -> Result<ExitCode, Failure> {
    let args = match command {
        ReconstructCommand::Content(args) => &args.reconstruction,
        ReconstructCommand::Style(args) => &args.reconstruction,
    };
    let encoder = Encoder::choose(&args.device)?;
    let files = Files::new()
        .read("the picture to rebuild", [&args.image])
        .read_weights(&args.device, &encoder)
        .write_result(&args.output, &args.reports)
        .keep_checkpoint(
            &args.checkpoint,
            resumed.as_ref().map(|resumed| &*resumed.path),
        );
    if !follow_first() {
        files.check()?;
        check_output(&args.output, SaveOptions::default()).map_err(Failure::usage)?;
        reports::check(&args.reports)?;
    }
    let job = match command {
        ReconstructCommand::Content(args) => content(args)?,
        ReconstructCommand::Style(args) => style(args)?,
    };
    run_job(job, encoder, &args.device, &args.checkpoint, resumed)
}

fn content(args: &ReconstructContentArgs) -> Result<Job, Failure> {
    let recipe = Recipe::content_reconstruction(args.layer);
    let args = &args.reconstruction;
    let recipe = from_reconstruction_args(recipe, args)?;
    let picture = open(args)?;
    Ok(job(args, recipe, picture, None))
}

fn style(args: &ReconstructStyleArgs) -> Result<Job, Failure> {
    let mut recipe = Recipe::style_reconstruction(&Recipe::gram().style_layers);
    if let Some(layers) = &args.layers {
        set_style_layers(&mut recipe, layers);
    }
    let (canvas, args) = (args.canvas, &args.reconstruction);
    let mut recipe = from_reconstruction_args(recipe, args)?;
    let picture = open(args)?;
    // The texture takes its proportions from a picture without content.
    let canvas = match canvas {
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
    Ok(job(args, recipe, canvas, Some(picture)))
}

/// Reads the picture.
fn open(args: &ReconstructionArgs) -> Result<Picture, Failure> {
    inputs::open(&args.image, args.size, args.memory.largest_picture())
}

fn job(args: &ReconstructionArgs, recipe: Recipe, content: Picture, style: Option<Picture>) -> Job {
    Job {
        output: args.output.clone(),
        save: SaveOptions::default(),
        reports: args.reports.clone(),
        memory: args.memory,
        recipe,
        content,
        styles: style.map(Style::new).into_iter().collect(),
        start: None,
        seed: args.seed,
    }
}
