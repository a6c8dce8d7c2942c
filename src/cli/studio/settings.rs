//! What a picture is painted from: as the page says it, and as a command line.
//!
//! A job of the studio is a command line of `impasto stylize`, read by the same parser: so its picture is
//! the one that the command paints.

use std::ffi::OsString;
use std::path::Path;

use clap::ValueEnum;
use impasto::Recipe;
use impasto::picture::ColorTransfer;
use serde::{Deserialize, Serialize};

use super::store::{PictureId, Store};
use crate::cli::args::{Arguments, Command, DeviceArgs, EncoderArg, StudioArgs, StylizeArgs};
use crate::cli::describe;
use crate::cli::encoder::vgg19_file;
use crate::cli::failure::Failure;

/// The most styles of a job.
const MOST_STYLES: usize = 16;

/// What a picture is painted from. What is left out is as the recipe has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The picture to paint.
    pub content: PictureId,
    pub styles: Vec<StyleSettings>,
    /// The name of a recipe.
    pub recipe: String,
    #[serde(default)]
    pub encoder: EncoderArg,
    /// What else changes the picture, by the names of the options.
    #[serde(default)]
    pub options: Options,
    /// A picture to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<PictureId>,
}

/// Options of `impasto stylize`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbors_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tv_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colors: Option<ColorTransfer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// A style of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StyleSettings {
    pub picture: PictureId,
    /// How much it counts beside the others.
    #[serde(default = "one")]
    pub weight: f64,
    /// Where it is painted: a picture that is white there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<PictureId>,
}

fn one() -> f64 {
    1.0
}

/// What of the studio's own command line holds for every job.
#[derive(Clone, Debug)]
pub struct Engine {
    device: DeviceArgs,
    /// The options as they were written.
    words: Vec<OsString>,
}

impl Engine {
    /// The engine that the studio was asked for.
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
        if device.device.to_string() != "cpu" {
            option("device", device.device.to_string().into());
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
}

impl Settings {
    /// The command that paints the same picture: the name of the program first.
    pub fn words(&self, engine: &Engine, store: &Store, output: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["impasto".into(), "stylize".into()];
        words.push(store.picture(&self.content).into());
        let styles = self.styles.iter();
        words.extend(styles.map(|style| store.picture(&style.picture).into()));
        words.extend(["-o".into(), output.into()]);
        let mut option = |name: &str, value: OsString| {
            words.extend([OsString::from(format!("--{name}")), value]);
        };
        option("recipe", self.recipe.clone().into());
        let encoder = engine.chosen(self.encoder);
        if encoder != EncoderArg::Auto
            && let Some(name) = value_name(Some(encoder))
        {
            option("encoder", name.into());
        }
        for (name, value) in self.options.named() {
            option(name, value.into());
        }
        if let Some(start) = &self.start {
            option("init", store.picture(start).into());
        }
        if self.styles.iter().any(|style| style.weight != 1.0) {
            let weights = self.styles.iter().map(|style| style.weight.to_string());
            option("style-blend", weights.collect::<Vec<_>>().join(",").into());
        }
        if self.styles.iter().any(|style| style.mask.is_some()) {
            for style in &self.styles {
                // One without a mask is painted everywhere.
                let mask = style.mask.as_ref();
                let mask = mask.map_or_else(|| store.white(), |mask| store.picture(mask));
                option("mask", mask.into());
            }
        }
        words.extend(engine.words.iter().cloned());
        words
    }

    /// The same as the program reads it.
    pub fn arguments(
        &self,
        engine: &Engine,
        store: &Store,
        output: &Path,
    ) -> Result<Box<StylizeArgs>, String> {
        if self.styles.is_empty() {
            return Err("choose a style picture".to_string());
        }
        if self.styles.len() > MOST_STYLES {
            return Err(format!("no more than {MOST_STYLES} styles at once"));
        }
        // No path and no option can come from the page.
        if Recipe::named(&self.recipe).is_err() {
            return Err(format!("there is no recipe `{}`", self.recipe));
        }
        let pictures = self.styles.iter().map(|style| &style.picture);
        let masks = self.styles.iter().filter_map(|style| style.mask.as_ref());
        let all = [&self.content].into_iter().chain(pictures).chain(masks);
        for id in all.chain(&self.start) {
            if !store.picture(id).is_file() {
                return Err("a picture of this job is not there any more; choose it again".into());
            }
        }
        let words = self.words(engine, store, output);
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

    /// The command as it is typed into a shell.
    pub fn command_line(&self, engine: &Engine, store: &Store, output: &Path) -> String {
        let words = self.words(engine, store, output);
        let words = words.iter().map(|word| word.to_string_lossy());
        let quoted = words.map(|word| match shlex::try_quote(&word) {
            Ok(quoted) => quoted.into_owned(),
            Err(_) => word.into_owned(),
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

impl Options {
    /// Those that are given, by the names of the program's options.
    fn named(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |value: Option<f64>| value.map(|value| value.to_string());
        let whole = |value: Option<usize>| value.map(|value| value.to_string());
        [
            ("size", whole(self.size)),
            ("iterations", whole(self.iterations)),
            ("strength", number(self.strength)),
            ("content-weight", number(self.content_weight)),
            ("style-weight", number(self.style_weight)),
            ("neighbors-weight", number(self.neighbors_weight)),
            ("tv-weight", number(self.tv_weight)),
            ("colors", self.colors.map(|colors| colors.to_string())),
            ("seed", self.seed.map(|seed| seed.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// What an option's value is called on the command line.
fn value_name<T: ValueEnum>(value: Option<T>) -> Option<String> {
    let value = value?.to_possible_value()?;
    Some(value.get_name().to_string())
}

/// A recipe as the page shows it.
#[derive(Serialize)]
pub struct RecipeInfo {
    name: String,
    summary: String,
    source: String,
    size: usize,
    iterations: usize,
    strength: f64,
    content_weight: f64,
    style_weight: f64,
    neighbors_weight: f64,
    tv_weight: f64,
    colors: ColorTransfer,
}

impl From<Recipe> for RecipeInfo {
    fn from(recipe: Recipe) -> Self {
        Self {
            summary: describe::summary(&recipe),
            size: recipe.size,
            iterations: recipe.iterations,
            strength: 1.0 - recipe.neighbors.content_share,
            content_weight: recipe.content_weight,
            style_weight: recipe.style_weight,
            neighbors_weight: recipe.neighbors.weight,
            tv_weight: recipe.tv_weight,
            colors: recipe.colors,
            name: recipe.name,
            source: recipe.source,
        }
    }
}
