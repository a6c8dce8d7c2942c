//! Answers as JSON.

use serde::Serialize;

use super::console::print;
use super::failure::Failure;

/// Prints JSON to standard output, for programs and for people.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::other)?;
    print(&format!("{text}\n"));
    Ok(())
}
