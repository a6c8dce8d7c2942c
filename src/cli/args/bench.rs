//! `impasto bench`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::computation::DeviceArgs;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Width and height of the square pictures whose evaluation is timed, in pixels
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "256,512,1024", value_parser = clap::value_parser!(u16).range(1..))]
    pub size: Vec<u16>,
    /// Evaluations and optimiser steps that are timed at each size, after the first
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: u32,
    /// A picture to use as content, stretched to each size [default: one that the program draws]
    #[arg(long, value_name = "FILE", requires = "style")]
    pub content: Option<PathBuf>,
    /// A picture to use as style, stretched to each size [default: one that the program draws]
    #[arg(long, value_name = "FILE", requires = "content")]
    pub style: Option<PathBuf>,
    /// Measure times only, without comparing results with those of the CPU
    #[arg(long)]
    pub no_check: bool,
    /// Also write the result as a JSON object to this file; `-` prints it instead of the table
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Print the result and errors only
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub device: DeviceArgs,
}

impl BenchArgs {
    /// The file that the result is written to.
    pub fn json_file(&self) -> Option<&Path> {
        self.json.as_deref().filter(|_| !self.prints_json())
    }

    /// Whether the result is printed as JSON.
    pub fn prints_json(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }
}
