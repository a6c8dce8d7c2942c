//! Options for what is reported and kept during a run.

use std::path::PathBuf;

use clap::Args;

/// What is reported during a run, or before it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct ReportArgs {
    /// Also write the picture after every N evaluations, with their number: out-0050.png
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub save_every: Option<u32>,
    /// Write the losses of each evaluation to this file, one JSON object on each line
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Write how the picture developed: a labelled strip, or an animation if the name ends in .gif
    #[arg(long, value_name = "FILE")]
    pub evolution: Option<PathBuf>,
    /// Write the curves of all loss terms, as .svg
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    #[cfg(feature = "studio")]
    #[command(flatten)]
    pub live: LiveArgs,
    /// Check everything and print what would be done, without doing it
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: print a JSON object instead of a table, one line for each picture
    #[arg(long, requires = "dry_run")]
    pub json: bool,
    /// Do not write into the pictures how they were made (recipe, seed, network and version, see
    /// `impasto show`; never names of files)
    #[arg(long)]
    pub no_metadata: bool,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

/// How the state of a run is kept, so that it can be continued after an interruption.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct CheckpointArgs {
    /// Keep the state of the run in this file, for `impasto resume`
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Seconds between two checkpoints; 0 for one after every iteration
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        requires = "checkpoint"
    )]
    pub checkpoint_every: u64,
}

/// Whether a run is shown while it goes on.
#[cfg(feature = "studio")]
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct LiveArgs {
    /// Show the run on a page in the browser, at this port of this machine, or at any that is free
    #[arg(
        id = "live",
        long = "live",
        value_name = "PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0"
    )]
    pub port: Option<u16>,
}
