//! `impasto batch`: many pictures in one style.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use impasto::Vgg19Weights;
use impasto::kernel::AutodiffStyleBackend;
use impasto::picture::check_output;

use super::args::{BatchArgs, DeviceArgs, ReportArgs};
use super::claim::Turn;
use super::console::say;
use super::device::{BackendTask, run_on};
use super::encoder::{Encoder, build};
use super::failure::Failure;
use super::files::Files;
use super::interrupt::Interrupt;
use super::job::{JobTemplate, save_options};
use super::launcher::Process;
use super::patterns::{NAME, expand, fill_in};
use super::ranks::take_part;
use super::reports;
use super::result::Ending;
use super::session::{Session, Unfinished};
use super::shard::ShardArg;

/// Checks everything, then paints one picture after the other.
pub fn run(args: &BatchArgs) -> Result<ExitCode, Failure> {
    let (contents, styles) = (expand(&args.contents)?, expand(&args.styles)?);
    let encoder = Encoder::choose(&args.device)?;
    let items = items(args, &contents)?;
    let mut files = Files::new()
        .read("a picture to paint", &contents)
        .read("a style", &styles)
        .read_style(&args.style)
        .read_weights(&args.device, &encoder);
    let save = save_options(&args.style);
    for item in &items {
        check_output(&item.output, save).map_err(Failure::usage)?;
        reports::check(&item.reports)?;
        check_readable(item.content)?;
        files = files.write_result(&item.output, &item.reports);
    }
    files.check()?;
    let mut device = args.device.clone();
    if let Some(process) = Process::current() {
        let count = process.count;
        if count > 1 && args.shard != Some(ShardArg::Auto) && !args.skip_existing {
            return Err(Failure::usage(format!(
                "each of {count} processes would paint the same pictures; add --shard auto to divide them, or \
                 --skip-existing to let each take the next"
            )));
        }
        take_part(process, &mut device);
    }
    let shard = args.shard.map(ShardArg::resolve).transpose()?;
    let items = items.into_iter().enumerate();
    let items = items.filter(|(index, _)| shard.is_none_or(|shard| shard.has(*index)));
    let (done, items): (Vec<Item>, Vec<Item>) = items
        .map(|(_, item)| item)
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
        template: JobTemplate::new(&args.style, &device, args.memory, &styles)?,
        weights: encoder.load(&device, quiet)?,
        device: &device,
        is_shared: args.skip_existing,
        items,
    };
    let ending = run_on(&device, quiet, batch)?;
    Ok(ending.exit_code())
}

/// Checks that a picture to paint can be read, before the first one is painted.
fn check_readable(content: &Path) -> Result<(), Failure> {
    let failed = |problem: &str| Failure::usage(format!("{}: {problem}", content.display()));
    let unreadable = |error| failed(&format!("cannot be read ({error})"));
    let metadata = fs::metadata(content).map_err(unreadable)?;
    if metadata.is_dir() {
        let all = content.join("*.jpg");
        let all = all.display();
        return Err(failed(&format!(
            "this is a folder; name the pictures in it, such as {all}"
        )));
    }
    // A pipe could not be read a second time.
    if metadata.is_file() {
        File::open(content).map_err(unreadable)?;
    }
    Ok(())
}

/// A content picture with the files that will come of it.
struct Item<'a> {
    content: &'a Path,
    output: PathBuf,
    reports: ReportArgs,
}

/// What each content picture's files are called.
fn items<'a>(args: &BatchArgs, contents: &'a [PathBuf]) -> Result<Vec<Item<'a>>, Failure> {
    let mut owners: HashMap<PathBuf, &Path> = HashMap::new();
    let mut items = Vec::new();
    for content in contents {
        let mut expand = |pattern: &Path| {
            let path = fill_in(pattern, content);
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

/// A batch and everything that its backend must be given.
struct Batch<'a> {
    device: &'a DeviceArgs,
    /// Whether other processes may be painting the same pictures.
    is_shared: bool,
    template: JobTemplate,
    weights: Vgg19Weights,
    items: Vec<Item<'a>>,
}

impl BackendTask for Batch<'_> {
    type Output = Ending;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Ending, Failure> {
        let args = self.device;
        let encoder = build::<B>(self.weights, args, &device);
        let interrupt = Interrupt::watch()?;
        let session = Session::new(&encoder, args.device(), Unfinished::Dropped, interrupt);
        let (count, mut failed) = (self.items.len(), 0);
        for (index, item) in self.items.into_iter().enumerate() {
            if session.is_interrupted() {
                return Ok(Ending::Interrupted);
            }
            let name = item.content.display();
            let progress = |what: &str| {
                if !item.reports.quiet {
                    say(&format!("picture {} of {count}: {name}{what}", index + 1));
                }
            };
            let turn = match self.is_shared {
                true => Turn::take(&item.output).map(Some),
                false => Ok(None),
            };
            // Kept until the picture is written.
            let _claim = match turn {
                Ok(Some(Turn::Painting)) => {
                    progress(", which another process is painting");
                    continue;
                }
                Ok(Some(Turn::Painted)) => {
                    progress(", which another process has painted");
                    continue;
                }
                Ok(Some(Turn::Ours(claim))) => Some(claim),
                Ok(None) => None,
                Err(error) => {
                    let output = item.output.display();
                    Failure::other(format!("{output}: cannot be written ({error})")).report();
                    failed += 1;
                    continue;
                }
            };
            progress("");
            // One bad picture must not cost the others.
            let job = self
                .template
                .open(item.content, &item.output, &item.reports);
            let ending = job.and_then(|job| session.run(&job, None, None, None));
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
