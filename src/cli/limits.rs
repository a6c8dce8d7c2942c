//! What makes a run impossible before it begins: a picture too large for its file format.

use std::path::Path;

use impasto::picture::{Format, Metadata};
use impasto::transfer::Plan;

use super::failure::Failure;

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
