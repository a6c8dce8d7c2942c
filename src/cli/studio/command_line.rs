//! The command line that a job is.
//!
//! Jobs of the studio are command lines of `impasto stylize`, read by the same parser: so a picture of the
//! studio is the one that the command paints.

use std::ffi::OsString;
use std::path::Path;

use clap::ValueEnum;
use impasto::Recipe;

use super::settings::{Settings, named};
use super::store::Store;
use crate::cli::args::{Arguments, Command, DeviceArgs, EncoderArg, StudioArgs, StylizeArgs};
use crate::cli::encoder::vgg19_file;
use crate::cli::failure::Failure;

/// The most styles of a job.
const MOST_STYLES: usize = 16;

/// What of the studio's own command line holds for every job.
#[derive(Clone, Debug)]
pub struct CommonOptions {
    device: DeviceArgs,
    /// The options as they were written.
    words: Vec<OsString>,
}

impl CommonOptions {
    /// Those that the studio was called with.
    pub fn new(args: &StudioArgs) -> Result<Self, Failure> {
        let device = args.device.clone();
        let mut words: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: OsString| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            words.push(word);
        };
        if let Some(path) = &device.weights {
            let path = std::path::absolute(path).map_err(Failure::other)?;
            option("weights", path.into());
        }
        for (name, value) in [
            ("normalization", value_name(device.normalization)),
            ("pooling", value_name(device.pooling)),
            ("padding", value_name(device.padding)),
        ] {
            if let Some(value) = value {
                option(name, value.into());
            }
        }
        if device.device().to_string() != "cpu" {
            option("device", device.device().to_string().into());
        }
        if device.precision.to_string() != "tf32" {
            option("precision", device.precision.to_string().into());
        }
        if let Some(threads) = device.threads {
            option("threads", threads.to_string().into());
        }
        if let Some(bytes) = args.memory.memory {
            option("memory", bytes.to_string().into());
        }
        option(
            "max-megapixels",
            args.memory.max_megapixels.to_string().into(),
        );
        if let Some(pixels) = args.memory.tile {
            option("tile", pixels.to_string().into());
        }
        Ok(Self { device, words })
    }

    /// The device and the network of a job with this encoder.
    pub fn device(&self, encoder: EncoderArg) -> DeviceArgs {
        DeviceArgs {
            encoder: self.chosen(encoder),
            ..self.device.clone()
        }
    }

    /// The network that a job with this choice has: the studio's, if the job leaves it open.
    fn chosen(&self, encoder: EncoderArg) -> EncoderArg {
        match encoder {
            EncoderArg::Auto => self.device.encoder,
            encoder => encoder,
        }
    }

    /// The encoders that can be chosen.
    pub fn encoders(&self) -> Vec<EncoderArg> {
        let vgg19 = vgg19_file(self.device.weights.as_deref()).is_some();
        let builtin = cfg!(feature = "builtin");
        [
            (EncoderArg::Auto, true),
            (EncoderArg::Builtin, builtin),
            (EncoderArg::Vgg19, vgg19),
        ]
        .into_iter()
        .filter_map(|(name, at_hand)| at_hand.then_some(name))
        .collect()
    }

    /// The command that paints a job's picture: the name of the program first.
    fn words(&self, settings: &Settings, store: &Store, output: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["impasto".into(), "stylize".into()];
        words.push(store.picture(&settings.content).into());
        let styles = settings.styles.iter();
        words.extend(styles.map(|style| store.picture(&style.picture).into()));
        words.extend(["-o".into(), output.into()]);
        let mut option = |name: &str, value: OsString| {
            words.extend([OsString::from(format!("--{name}")), value]);
        };
        option("recipe", settings.recipe.clone().into());
        let encoder = self.chosen(settings.encoder);
        if encoder != EncoderArg::Auto
            && let Some(name) = value_name(Some(encoder))
        {
            option("encoder", name.into());
        }
        for (name, value) in named(&settings.options) {
            option(name, value.into());
        }
        if let Some(start) = &settings.start {
            option("init", store.picture(start).into());
        }
        if settings.styles.iter().any(|style| style.weight != 1.0) {
            let weights = settings.styles.iter().map(|style| style.weight.to_string());
            option("style-blend", weights.collect::<Vec<_>>().join(",").into());
        }
        if settings.styles.iter().any(|style| style.mask.is_some()) {
            for style in &settings.styles {
                // One without a mask is painted everywhere.
                let mask = style.mask.as_ref();
                let mask = mask.map_or_else(|| store.white(), |mask| store.picture(mask));
                option("mask", mask.into());
            }
        }
        words.extend(self.words.iter().cloned());
        words
    }

    /// The command of a job as the program reads it.
    pub fn arguments(
        &self,
        settings: &Settings,
        store: &Store,
        output: &Path,
    ) -> Result<Box<StylizeArgs>, String> {
        if settings.styles.is_empty() {
            return Err("choose a style picture".to_string());
        }
        if settings.styles.len() > MOST_STYLES {
            return Err(format!("no more than {MOST_STYLES} styles at once"));
        }
        // No path and no option can come from the page.
        if Recipe::named(&settings.recipe).is_err() {
            return Err(format!("there is no recipe `{}`", settings.recipe));
        }
        let pictures = settings.styles.iter().map(|style| &style.picture);
        let masks = settings
            .styles
            .iter()
            .filter_map(|style| style.mask.as_ref());
        let all = [&settings.content].into_iter().chain(pictures).chain(masks);
        for id in all.chain(&settings.start) {
            if !store.picture(id).is_file() {
                return Err("a picture of this job is not there any more; choose it again".into());
            }
        }
        let words = self.words(settings, store, output);
        let arguments = Arguments::from_words(words).map_err(|error| {
            // The first line says what is wrong, what follows is about the command line.
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_string()
        })?;
        match arguments.command {
            Command::Stylize(arguments) => Ok(arguments),
            _ => Err("this is no picture to paint".to_string()),
        }
    }

    /// The command of a job as it is typed into a shell.
    pub fn command_line(&self, settings: &Settings, store: &Store, output: &Path) -> String {
        let words = self.words(settings, store, output);
        let words = words.iter().map(|word| word.to_string_lossy());
        let quoted = words.map(|word| match shlex::try_quote(&word) {
            Ok(quoted) => quoted.into_owned(),
            Err(_) => word.into_owned(),
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// What an option's value is called on the command line.
fn value_name<T: ValueEnum>(value: Option<T>) -> Option<String> {
    let value = value?.to_possible_value()?;
    Some(value.get_name().to_string())
}
