//! `impasto batch`: many pictures in one style.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use impasto::kernel::AutodiffStyleBackend;
use impasto::picture::check_output;
use impasto::{Picture, Vgg19Weights};

use super::args::{Batch, Reports};
use super::device::{Job, run_on};
use super::encoder::{build, encoder_weights};
use super::paint::{INTERRUPTED, Studio, Unfinished, check_reports};
use super::stylize::Manner;
use super::{Failure, say};

/// What stands for the content picture's name in a pattern.
const NAME: &str = "{name}";

/// Checks everything, then paints one picture after the other.
pub fn run(arguments: &Batch) -> Result<ExitCode, Failure> {
    let tasks = tasks(arguments)?;
    let save = arguments.choices.save_options();
    for task in &tasks {
        check_output(&task.output, save).map_err(Failure::usage)?;
        check_reports(&task.reports)?;
        File::open(task.content).map_err(|error| {
            Failure::usage(format!(
                "{}: cannot be read ({error})",
                task.content.display()
            ))
        })?;
    }
    spare_inputs(arguments, &tasks)?;
    let (done, tasks): (Vec<Task>, Vec<Task>) = tasks
        .into_iter()
        .partition(|task| arguments.skip_existing && task.output.exists());
    let quiet = arguments.reports.quiet;
    if !done.is_empty() && !quiet {
        say(&format!("{} pictures exist already", done.len()));
    }
    if tasks.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let series = Series {
        manner: Manner::new(&arguments.choices, &arguments.styles)?,
        weights: encoder_weights(&arguments.engine, quiet)?,
        arguments,
        tasks,
    };
    run_on(&arguments.engine, series)
}

/// A content picture with the files that will come of it.
struct Task<'a> {
    content: &'a Path,
    output: PathBuf,
    reports: Reports,
}

/// What each content picture's files are called.
fn tasks(arguments: &Batch) -> Result<Vec<Task<'_>>, Failure> {
    let mut owners: HashMap<PathBuf, &Path> = HashMap::new();
    let mut tasks = Vec::new();
    for content in &arguments.contents {
        let name = content.file_stem().unwrap_or_default().to_string_lossy();
        let mut expand = |pattern: &Path| {
            let path = PathBuf::from(pattern.to_string_lossy().replace(NAME, &name));
            match owners.insert(path.clone(), content) {
                None => Ok(path),
                Some(other) => Err(Failure::usage(format!(
                    "{} and {} would both be written to {}; use {NAME} in the pattern, and \
                     pictures of different names",
                    other.display(),
                    content.display(),
                    path.display()
                ))),
            }
        };
        let given = &arguments.reports;
        let mut optional =
            |pattern: &Option<PathBuf>| pattern.as_deref().map(&mut expand).transpose();
        let reports = Reports {
            log: optional(&given.log)?,
            evolution: optional(&given.evolution)?,
            plot: optional(&given.plot)?,
            ..given.clone()
        };
        tasks.push(Task {
            content,
            output: expand(&arguments.output)?,
            reports,
        });
    }
    Ok(tasks)
}

/// Refuses to write over a picture that is still to be read.
fn spare_inputs(arguments: &Batch, tasks: &[Task]) -> Result<(), Failure> {
    let choices = &arguments.choices;
    let inputs = [
        &arguments.contents,
        &arguments.styles,
        &choices.mask,
        &choices.style_mask,
        &choices.style_regions,
    ];
    let inputs = inputs.into_iter().flatten().chain(&choices.regions);
    let inputs: HashSet<PathBuf> = inputs.filter_map(|path| path.canonicalize().ok()).collect();
    for task in tasks {
        let reports = [
            &task.reports.log,
            &task.reports.evolution,
            &task.reports.plot,
        ];
        let outputs = reports.into_iter().flatten().chain([&task.output]);
        for output in outputs {
            let place = output.canonicalize();
            if place.is_ok_and(|place| inputs.contains(&place)) {
                return Err(Failure::usage(format!(
                    "{} is one of the pictures to read, and would be written over; choose another \
                     pattern",
                    output.display()
                )));
            }
        }
    }
    Ok(())
}

/// Everything that the backend must be given.
struct Series<'a> {
    arguments: &'a Batch,
    manner: Manner,
    weights: Vgg19Weights,
    tasks: Vec<Task<'a>>,
}

impl Job for Series<'_> {
    type Output = Result<ExitCode, Failure>;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Self::Output {
        let encoder = build::<B>(self.weights, &self.arguments.engine, &device);
        let studio = Studio::new(&encoder, &self.arguments.engine, Unfinished::Dropped)?;
        let (count, mut failed) = (self.tasks.len(), 0);
        for (index, task) in self.tasks.into_iter().enumerate() {
            if studio.is_interrupted() {
                return Ok(ExitCode::from(INTERRUPTED));
            }
            if !task.reports.quiet {
                let name = task.content.display();
                say(&format!("picture {} of {count}: {name}", index + 1));
            }
            // One bad picture must not cost the others.
            let painted = Picture::open(task.content)
                .map_err(Failure::usage)
                .map(|content| self.manner.painting(content, &task.output, &task.reports))
                .and_then(|painting| studio.paint(painting, None, None));
            match painted {
                Ok(code) if code == ExitCode::from(INTERRUPTED) => return Ok(code),
                Ok(_) => {}
                Err(failure) => {
                    failure.report();
                    failed += 1;
                }
            }
        }
        match failed {
            0 => Ok(ExitCode::SUCCESS),
            _ => Err(Failure::other(format!(
                "{failed} of {count} pictures were not painted, see above"
            ))),
        }
    }
}
