//! `impasto batch`: many pictures in one style.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use impasto::Vgg19Weights;
use impasto::kernel::AutodiffStyleBackend;
use impasto::picture::check_output;

use super::args::{BatchArgs, ReportArgs};
use super::console::say;
use super::device::{BackendTask, run_on};
use super::encoder::{Encoder, build};
use super::failure::Failure;
use super::job::{JobTemplate, save_options};
use super::reports;
use super::result::Ending;
use super::session::{Session, Unfinished};

/// What stands for the content picture's name in a pattern.
const NAME: &str = "{name}";

/// Checks everything, then paints one picture after the other.
pub fn run(args: &BatchArgs) -> Result<ExitCode, Failure> {
    let items = items(args)?;
    let save = save_options(&args.style);
    for item in &items {
        check_output(&item.output, save).map_err(Failure::usage)?;
        reports::check(&item.reports)?;
        File::open(item.content).map_err(|error| {
            Failure::usage(format!(
                "{}: cannot be read ({error})",
                item.content.display()
            ))
        })?;
    }
    check_inputs_are_kept(args, &items)?;
    let (done, items): (Vec<Item>, Vec<Item>) = items
        .into_iter()
        .partition(|item| args.skip_existing && item.output.exists());
    let quiet = args.reports.quiet;
    if !done.is_empty() && !quiet {
        say(&format!(
            "{} pictures are skipped: their results exist",
            done.len()
        ));
    }
    if items.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let batch = Batch {
        template: JobTemplate::new(&args.style, &args.device, args.memory, &args.styles)?,
        weights: Encoder::choose(&args.device)?.load(&args.device, quiet)?,
        args,
        items,
    };
    let ending = run_on(args.device.device, args.device.threads, batch)?;
    Ok(ending.exit_code())
}

/// A content picture with the files that will come of it.
struct Item<'a> {
    content: &'a Path,
    output: PathBuf,
    reports: ReportArgs,
}

/// What each content picture's files are called.
fn items(args: &BatchArgs) -> Result<Vec<Item<'_>>, Failure> {
    let mut owners: HashMap<PathBuf, &Path> = HashMap::new();
    let mut items = Vec::new();
    for content in &args.contents {
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
        let given = &args.reports;
        let mut optional =
            |pattern: &Option<PathBuf>| pattern.as_deref().map(&mut expand).transpose();
        let reports = ReportArgs {
            log: optional(&given.log)?,
            evolution: optional(&given.evolution)?,
            plot: optional(&given.plot)?,
            ..given.clone()
        };
        items.push(Item {
            content,
            output: expand(&args.output)?,
            reports,
        });
    }
    Ok(items)
}

/// Refuses to overwrite a picture that is still to be read.
fn check_inputs_are_kept(args: &BatchArgs, items: &[Item]) -> Result<(), Failure> {
    let style = &args.style;
    let inputs = [
        &args.contents,
        &args.styles,
        &style.mask,
        &style.style_mask,
        &style.style_regions,
    ];
    let named = style.regions.iter().chain(&style.init);
    let inputs = inputs.into_iter().flatten().chain(named);
    let inputs: HashSet<PathBuf> = inputs.filter_map(|path| path.canonicalize().ok()).collect();
    for item in items {
        let reports = [
            &item.reports.log,
            &item.reports.evolution,
            &item.reports.plot,
        ];
        let outputs = reports.into_iter().flatten().chain([&item.output]);
        for output in outputs {
            let place = output.canonicalize();
            if place.is_ok_and(|place| inputs.contains(&place)) {
                return Err(Failure::usage(format!(
                    "{} is one of the pictures to read and would be overwritten; choose another \
                     pattern",
                    output.display()
                )));
            }
        }
    }
    Ok(())
}

/// A batch and everything that its backend must be given.
struct Batch<'a> {
    args: &'a BatchArgs,
    template: JobTemplate,
    weights: Vgg19Weights,
    items: Vec<Item<'a>>,
}

impl BackendTask for Batch<'_> {
    type Output = Result<Ending, Failure>;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Self::Output {
        let args = &self.args.device;
        let encoder = build::<B>(self.weights, args, &device);
        let session = Session::new(&encoder, args.device, Unfinished::Dropped)?;
        let (count, mut failed) = (self.items.len(), 0);
        for (index, item) in self.items.into_iter().enumerate() {
            if session.is_interrupted() {
                return Ok(Ending::Interrupted);
            }
            if !item.reports.quiet {
                let name = item.content.display();
                say(&format!("picture {} of {count}: {name}", index + 1));
            }
            // One bad picture must not cost the others.
            let job = self
                .template
                .open(item.content, &item.output, &item.reports);
            let ending = job.and_then(|job| session.run(&job, None, None));
            match ending {
                Ok(Ending::Done) => {}
                Ok(Ending::Interrupted) => return Ok(Ending::Interrupted),
                Err(failure) => {
                    failure.report();
                    failed += 1;
                }
            }
        }
        match failed {
            0 => Ok(Ending::Done),
            _ => Err(Failure::other(format!(
                "{failed} of {count} pictures were not painted, see above"
            ))),
        }
    }
}
