//! Writing to the terminal.

use std::io::Write;

/// Prints a line to standard error. A reader that has gone away must not end a run.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints to standard output; a reader that has gone away, as in `| head`, is no error.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
