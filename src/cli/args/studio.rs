//! `impasto studio`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::computation::{DeviceArgs, MemoryArgs};

#[derive(Debug, Args)]
pub struct StudioArgs {
    /// The port of the page; 0 for any that is free
    #[arg(long, value_name = "N", default_value_t = 7878)]
    pub port: u16,
    /// Open the page in the browser
    #[arg(long)]
    pub open: bool,
    /// Where pictures, jobs and results are kept [default: `impasto/studio` in the platform's folder for
    /// data]
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// The address to serve at; other machines than this one need a token, which is printed
    /// [default: 127.0.0.1, this machine alone]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,

    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
}
