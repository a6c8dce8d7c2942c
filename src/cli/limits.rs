//! What makes a run impossible before it begins: too little memory, a picture too large for its file
//! format.

use std::path::Path;

use impasto::picture::{Format, Metadata};
use impasto::transfer::Plan;

use super::args::MemoryArgs;
use super::describe::gigabytes;
use super::failure::Failure;

/// Refuses a run that would need more memory than allowed, and says what would fit.
pub fn check_memory(args: MemoryArgs, plan: &Plan) -> Result<(), Failure> {
    let (Some(limit), Some(last)) = (args.memory, plan.scales.last()) else {
        return Ok(());
    };
    if last.memory <= limit {
        return Ok(());
    }
    let longest = last.width.max(last.height) as f64;
    // Nearly all of it grows with the pixels; a little less is on the safe side.
    let fits = (longest * (limit as f64 / last.memory as f64).sqrt() * 0.95) as usize;
    let tile = match args.tile {
        None => "--tile 512".to_string(),
        Some(_) => "a smaller --tile".to_string(),
    };
    Err(Failure::usage(format!(
        "{}×{} pixels need about {}, more than --memory {}; try {tile}, --size {} or --encoder \
         builtin",
        last.width,
        last.height,
        gigabytes(last.memory),
        gigabytes(limit),
        fits.max(16)
    )))
}

/// Refuses a result that is larger than its file format allows.
pub fn check_format(output: &Path, plan: &Plan) -> Result<(), Failure> {
    let format = Format::from_path(output).map_err(Failure::usage)?;
    let side = plan.scales.iter().map(|s| s.width.max(s.height)).max();
    match side {
        Some(side) if side > format.largest_side() => Err(Failure::usage(format!(
            "{}: the format has room for {} pixels along a side, not for {side}; use .png or .tiff",
            output.display(),
            format.largest_side()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a result whose metadata its file format has no room for.
pub fn check_metadata(output: &Path, metadata: &Metadata) -> Result<(), Failure> {
    let format = Format::from_path(output).map_err(Failure::usage)?;
    match metadata.fits(format) {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{}: the format has no room for all that makes up this run; use .png, or --no-metadata",
            output.display()
        ))),
    }
}
