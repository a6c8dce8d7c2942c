//! Writing to the terminal.

use std::io::Write;
use std::sync::OnceLock;

/// The number of this process among those that paint one picture, if it is not the first.
static FOLLOWER: OnceLock<usize> = OnceLock::new();

/// Has this process, one of several that paint one picture, leave what there is to say to the first; errors it
/// prints with its number.
pub fn follow(rank: usize) {
    let _ = FOLLOWER.set(rank);
}

/// Prints a line to standard error. A reader that has gone away must not end a run.
pub fn say(text: &str) {
    if FOLLOWER.get().is_none() {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Prints an error.
pub fn complain(text: &str) {
    let text = match FOLLOWER.get() {
        Some(rank) => format!("rank {rank}: {text}"),
        None => text.to_string(),
    };
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints to standard output; a reader that has gone away, as in `| head`, is no error.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
