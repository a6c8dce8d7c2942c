//! Everything that only the program needs.
//!
//! Arguments ([`args`]) → what is to be painted ([`job`], from [`recipe`] and [`inputs`]) → the loop
//! ([`session`], with [`limits`], [`reports`], [`interrupt`] and [`checkpoint_file`]). What a command
//! reads and writes is compared before it begins ([`files`]).

pub mod args;
mod batch;
mod bench;
mod budget;
mod checkpoint_file;
mod claim;
pub mod command;
mod console;
mod describe;
mod device;
mod download_display;
mod dry_run;
mod encoder;
mod failure;
mod files;
mod forecast;
mod inputs;
mod interrupt;
mod invocation;
mod job;
mod json;
mod launcher;
mod limits;
mod lists;
mod log;
mod patterns;
mod progress;
mod ranks;
mod recipe;
mod reconstruct;
mod reports;
mod result;
mod resume;
mod session;
mod shard;
mod show;
#[cfg(feature = "studio")]
mod studio;
mod stylize;
mod views;
mod weights;
