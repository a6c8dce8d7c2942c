//! `impasto weights`: VGG19's weights from where they are published, kept and checked.

use std::fs;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use impasto::kernel::AutodiffStyleBackend;
use impasto::pretrained::{self, Cache, DownloadProgress, PretrainedError, Report, Source};
use impasto::weights::Precision;
use impasto::{Layer, Vgg19Weights};
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

use super::device::{Device, Job};
use super::{Failure, describe_error, print, say};

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub enum Weights {
    /// List who publishes VGG19's weights, on what terms, and which of them are in the cache
    List,
    /// Fetch VGG19's weights into the cache, where every command finds them
    #[command(after_help = "Example:\n  impasto weights download --until relu5_1")]
    Download(Download),
    /// Convert an ONNX, safetensors or PyTorch file to a compact one in the cache
    Import(Import),
    /// Say whether a file of weights behaves as VGG19 should
    Verify {
        /// The file [default: the one that --encoder auto would take]
        file: Option<PathBuf>,
        /// Print a JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the name of the file that --encoder auto would take
    Path,
}

#[derive(Debug, Args)]
pub struct Download {
    /// Whose weights: `impasto weights list` lists them
    #[arg(default_value = "torchvision", conflicts_with = "url")]
    pub name: String,
    /// Only the layers up to this one: relu5_1 is enough for most recipes
    #[arg(long, value_name = "LAYER")]
    pub until: Option<Layer>,
    /// Another file of weights, of any kind that --weights takes
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The SHA-256 of that file, or its first digits
    #[arg(long, value_name = "HEX", requires = "url", value_parser = parse_sum)]
    pub sha256: Option<String>,
    /// Allow URLs without encryption
    #[arg(long)]
    pub allow_http: bool,
    /// Keep 32 bits of each value, in a file twice as large
    #[arg(long)]
    pub f32: bool,
    /// Write this file instead of one in the cache
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The file
    pub file: PathBuf,
    /// Write this file instead of one in the cache
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Keep 32 bits of each value, in a file twice as large
    #[arg(long)]
    pub f32: bool,
    /// Only the layers up to this one
    #[arg(long, value_name = "LAYER")]
    pub until: Option<Layer>,
}

/// Does what the subcommand says.
pub fn run(what: &Weights) -> Result<ExitCode, Failure> {
    match what {
        Weights::List => list(),
        Weights::Download(arguments) => download(arguments),
        Weights::Import(arguments) => import(arguments),
        Weights::Verify { file, json } => verify(file.as_deref(), *json),
        Weights::Path => {
            print(&format!("{}\n", at_hand()?.display()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Hexadecimal digits, as many as tell something.
fn parse_sum(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits && (8..=64).contains(&text.len()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("expected 8 to 64 hexadecimal digits".into()),
    }
}

/// The weights in the cache that commands take where none are named.
pub fn cached() -> Option<PathBuf> {
    Cache::open().ok()?.find()
}

/// The weights that `--encoder auto` would take.
fn at_hand() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("IMPASTO_WEIGHTS").map(PathBuf::from);
    named.or_else(cached).ok_or_else(|| {
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

fn download(arguments: &Download) -> Result<ExitCode, Failure> {
    let source = match &arguments.url {
        Some(url) => Source::url(url, arguments.sha256.clone()),
        None => Source::named(&arguments.name).map_err(Failure::usage)?,
    };
    let cache = Cache::open().map_err(Failure::other)?;
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => cache.path(&source.name),
    };
    // Nothing needs tidying up: what has arrived is in its place already.
    ctrlc::set_handler(|| {
        say("impasto: stopped; the same command goes on from there");
        std::process::exit(130);
    })
    .map_err(Failure::other)?;

    let mut bar = Bar::new(arguments.quiet);
    let mut download = pretrained::Download::new(source)
        .precision(precision(arguments.f32))
        .allow_http(arguments.allow_http)
        .on_progress(|progress| {
            bar.show(progress);
            ControlFlow::Continue(())
        });
    if let Some(layer) = arguments.until {
        download = download.until(layer);
    }
    let result = download.run_to(&cache, &path);
    bar.finish();
    result.map_err(|error| match error {
        PretrainedError::Insecure { .. } | PretrainedError::InvalidUrl { .. } => {
            Failure::usage(error)
        }
        error => Failure::other(error),
    })?;
    if !arguments.quiet {
        say(&stored(&path));
        say_if_hidden(&cache, &path);
    }
    Ok(ExitCode::SUCCESS)
}

fn import(arguments: &Import) -> Result<ExitCode, Failure> {
    let mut weights = Vgg19Weights::load(&arguments.file).map_err(Failure::usage)?;
    if let Some(layer) = arguments.until {
        let found = weights.convolutions().len();
        if found < layer.depth() {
            return Err(Failure::usage(format!(
                "{} holds {found} convolutions, of which none is {layer}'s",
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
            cache.path("imported")
        }
    };
    weights
        .save(&path, precision(arguments.f32))
        .map_err(Failure::other)?;
    say(&stored(&path));
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
            "Commands go on taking {}; name this one with --weights, or remove the other.",
            taken.display()
        ));
    }
}

/// A file's name and size.
fn stored(path: &Path) -> String {
    let size = fs::metadata(path).map_or(0, |facts| facts.len());
    format!("{}: {}", path.display(), DecimalBytes(size))
}

fn verify(file: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let path = file.map_or_else(at_hand, |file| Ok(file.into()))?;
    let weights = Vgg19Weights::load(&path).map_err(Failure::usage)?;
    let device = Device::ALL.into_iter().map(|(device, _)| device);
    let mut device = device.filter(|device| device.is_built_in());
    let report = device
        .next()
        .and_then(|device| device.run(Verification(weights)))
        .ok_or_else(|| Failure::usage("this build has no device to compute on"))??;
    if json {
        let text = serde_json::to_string_pretty(&report).map_err(Failure::other)?;
        print(&format!("{text}\n"));
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

impl Job for Verification {
    type Output = Result<Report, Failure>;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Self::Output {
        pretrained::verify::<B>(&self.0, &device).map_err(Failure::usage)
    }
}

/// Progress on standard error: a bar on a terminal, a line now and then elsewhere.
struct Bar {
    bar: Option<ProgressBar>,
    last: Option<Instant>,
    quiet: bool,
    waiting: bool,
}

impl Bar {
    fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let template =
                "{bar:30.cyan/blue} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left {wide_msg}";
            let style = ProgressStyle::with_template(template);
            ProgressBar::no_length()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            last: None,
            quiet,
            waiting: false,
        }
    }

    fn show(&mut self, progress: &DownloadProgress) {
        match progress {
            DownloadProgress::Fetching { done, total, .. } => match &self.bar {
                Some(bar) => {
                    if let Some(total) = total {
                        bar.set_length(*total);
                    }
                    if bar.position() == 0 {
                        // What an earlier call fetched says nothing of the speed.
                        bar.reset_eta();
                    }
                    bar.set_position(*done);
                }
                None if self.last.is_none_or(|last| last.elapsed() >= PAUSE) => {
                    let total = total.map(|total| format!(" of {}", DecimalBytes(total)));
                    self.say(&format!(
                        "{}{}",
                        DecimalBytes(*done),
                        total.unwrap_or_default()
                    ));
                    self.last = Some(Instant::now());
                }
                None => {}
            },
            DownloadProgress::Waiting if !self.waiting => {
                self.waiting = true;
                self.say("Waiting for another process that fetches the same weights.");
            }
            DownloadProgress::Retrying { error, pause } => self.say(&format!(
                "{}; again in {:.0} s",
                describe_error(error),
                pause.as_secs_f64().ceil()
            )),
            DownloadProgress::NextMirror { error } => {
                self.say(&format!(
                    "{}; trying the next mirror",
                    describe_error(error)
                ));
            }
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if !self.quiet => say(text),
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
