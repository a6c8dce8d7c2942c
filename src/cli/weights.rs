//! `impasto weights`: VGG19's weights from where they are published, kept and checked.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use impasto::Vgg19Weights;
use impasto::kernel::AutodiffStyleBackend;
use impasto::pretrained::{self, Cache, PretrainedError, Report, Source};
use impasto::weights::Precision;
use indicatif::DecimalBytes;
use serde_json::json;

use super::args::{DownloadArgs, ImportArgs, NormalizationArg, WeightsCommand};
use super::console::{print, say};
use super::device::{BackendTask, Device};
use super::download_display::DownloadDisplay;
use super::encoder::{load_vgg19, say_doubt, vgg19_file};
use super::failure::{Failure, INTERRUPTED};
use super::files::Files;
use super::json::print_json;

/// Does what the subcommand says.
pub fn run(command: &WeightsCommand) -> Result<ExitCode, Failure> {
    match command {
        WeightsCommand::List { json: false } => list(),
        WeightsCommand::List { json: true } => list_as_json(),
        WeightsCommand::Download(arguments) => download(arguments),
        WeightsCommand::Import(arguments) => import(arguments),
        WeightsCommand::Verify {
            file,
            normalization,
            json,
        } => verify(file.as_deref(), *normalization, *json),
        WeightsCommand::Path { named } => {
            print(&format!("{}\n", found(named.as_deref())?.display()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The file that commands take, which must exist.
fn found(named: Option<&Path>) -> Result<PathBuf, Failure> {
    vgg19_file(named).ok_or_else(|| {
        Failure::other(
            "there are no weights of VGG19 yet; get them with `impasto weights download` or \
             `impasto weights import FILE`",
        )
    })
}

fn precision(f32: bool) -> Precision {
    match f32 {
        true => Precision::F32,
        false => Precision::F16,
    }
}

fn list() -> Result<ExitCode, Failure> {
    let cache = Cache::open().map_err(Failure::other)?;
    let stored = |name: &str| {
        let path = cache.path(name);
        let facts = fs::metadata(&path).ok()?;
        Some(format!(
            "{} ({})",
            path.display(),
            DecimalBytes(facts.len())
        ))
    };
    for source in Source::all() {
        let urls: Vec<&str> = source.mirrors.iter().map(|a| a.url.as_str()).collect();
        let size = source.download.map(|bytes| DecimalBytes(bytes).to_string());
        print(&format!(
            "{}\n  what       {}\n  licence    {}\n  download   {}\n  from       {}\n  cached     {}\n\n",
            source.name,
            source.description,
            source.licence,
            size.as_deref().unwrap_or("unknown"),
            urls.join("\n             "),
            stored(&source.name).as_deref().unwrap_or("no"),
        ));
    }
    for name in ["imported", "custom"] {
        if let Some(stored) = stored(name) {
            print(&format!("{name}\n  cached     {stored}\n\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list_as_json() -> Result<ExitCode, Failure> {
    let cache = Cache::open().map_err(Failure::other)?;
    let cached = |name: &str| {
        let path = cache.path(name);
        let bytes = fs::metadata(&path).ok()?.len();
        Some(json!({ "file": path.to_string_lossy(), "bytes": bytes }))
    };
    let sources = Source::all().into_iter().map(|source| {
        let mirrors = source.mirrors.iter();
        let urls: Vec<&str> = mirrors.map(|mirror| mirror.url.as_str()).collect();
        json!({
            "name": source.name,
            "description": source.description,
            "licence": source.licence,
            "download_bytes": source.download,
            "urls": urls,
            "cached": cached(&source.name),
        })
    });
    let own = ["imported", "custom"].into_iter().filter_map(|name| {
        let cached = cached(name)?;
        Some(json!({ "name": name, "cached": cached }))
    });
    print_json(&sources.chain(own).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

fn download(arguments: &DownloadArgs) -> Result<ExitCode, Failure> {
    let source = match &arguments.url {
        Some(url) => Source::url(url, arguments.sha256.clone()),
        None => Source::named(&arguments.name).map_err(Failure::usage)?,
    };
    let cache = Cache::open().map_err(Failure::other)?;
    let path = match &arguments.output {
        Some(path) => {
            Files::new().write("the file of weights", [path]).check()?;
            path.clone()
        }
        None => cache.path(&source.name),
    };
    // Nothing needs tidying up: what has arrived is in its place already.
    ctrlc::set_handler(|| {
        say("impasto: stopped; repeat the command to continue");
        std::process::exit(INTERRUPTED.into());
    })
    .map_err(Failure::other)?;

    let mut display = DownloadDisplay::new(arguments.quiet);
    let mut download = pretrained::Download::new(source)
        .precision(precision(arguments.f32))
        .allow_http(arguments.allow_http)
        .on_progress(|progress| {
            display.show(progress);
            ControlFlow::Continue(())
        });
    if let Some(layer) = arguments.until {
        download = download.until(layer);
    }
    let result = download.run_to(&cache, &path);
    display.finish();
    result.map_err(|error| match error {
        PretrainedError::Insecure { .. } | PretrainedError::InvalidUrl { .. } => {
            Failure::usage(error)
        }
        error => Failure::other(error),
    })?;
    if !arguments.quiet {
        say(&stored(&path));
        say_doubt(&path, &Vgg19Weights::load(&path).map_err(Failure::other)?);
        say_if_hidden(&cache, &path);
    }
    Ok(ExitCode::SUCCESS)
}

fn import(arguments: &ImportArgs) -> Result<ExitCode, Failure> {
    let check = |output: &Path| {
        Files::new()
            .read("the file to convert", [&arguments.file])
            .write("the file of weights", [output])
            .check()
    };
    if let Some(path) = &arguments.output {
        check(path)?;
    }
    let mut weights = load_vgg19(&arguments.file, arguments.normalization)?;
    if let Some(layer) = arguments.until {
        let found = weights.convolutions().len();
        if found < layer.depth() {
            return Err(Failure::usage(format!(
                "{} holds {found} convolutions, too few for {layer}",
                arguments.file.display()
            )));
        }
        weights = weights.until(layer);
    }
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => {
            let cache = Cache::open().map_err(Failure::other)?;
            cache.create().map_err(Failure::other)?;
            let path = cache.path("imported");
            check(&path)?;
            path
        }
    };
    weights
        .save(&path, precision(arguments.f32))
        .map_err(Failure::other)?;
    say(&stored(&path));
    say_doubt(&arguments.file, &weights);
    if let Ok(cache) = Cache::open() {
        say_if_hidden(&cache, &path);
    }
    Ok(ExitCode::SUCCESS)
}

/// Says so if a file in the cache is not the one that commands will take.
fn say_if_hidden(cache: &Cache, path: &Path) {
    let inside = path.parent() == Some(cache.folder());
    if let Some(taken) = cache.find().filter(|taken| inside && taken != path) {
        say(&format!(
            "Commands still take {}; name this file with --weights, or remove the other.",
            taken.display()
        ));
    }
}

/// A file's name and size.
fn stored(path: &Path) -> String {
    let size = fs::metadata(path).map_or(0, |facts| facts.len());
    format!("{}: {}", path.display(), DecimalBytes(size))
}

fn verify(
    file: Option<&Path>,
    normalization: Option<NormalizationArg>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let path = found(file)?;
    let weights = load_vgg19(&path, normalization)?;
    say_doubt(&path, &weights);
    let device = Device::ALL.into_iter().map(|(device, _)| device);
    let mut device = device.filter(|device| device.is_built_in());
    let report = device
        .next()
        .ok_or_else(|| Failure::usage("this build has no device to compute on"))?
        .run(true, Verification(weights))?;
    if json {
        print_json(&report)?;
    } else {
        print(&format!("{report}"));
        let verdict = match report.is_ok() {
            true => "behaves as VGG19 should",
            false => "does not behave as VGG19 should",
        };
        print(&format!("{}: {verdict}\n", path.display()));
    }
    Ok(match report.is_ok() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

struct Verification(Vgg19Weights);

impl BackendTask for Verification {
    type Output = Report;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Report, Failure> {
        pretrained::verify::<B>(&self.0, &device).map_err(Failure::usage)
    }
}
