//! The program killed without warning.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::{Files, impasto, stderr};

/// Killed at random moments again and again, a run in tiles is resumed to the same bytes as one that
/// was left alone: what is on disk is always a whole checkpoint.
#[test]
fn a_killed_run_in_tiles_is_resumed_to_the_same_bytes() {
    let files = Files::new();
    let painted = |name: &str, checkpoint: &str| {
        let mut command = impasto(&["stylize", &files.scene, &files.style, "-q"]);
        command.args(["-o", &files.path(name), "--weights", &files.weights]);
        command.args(["--size", "160", "--iterations", "25", "--tile", "64"]);
        command.args(["--checkpoint", &files.path(checkpoint)]);
        command.args(["--checkpoint-every", "0"]);
        command
    };
    let whole = painted("whole.png", "whole.checkpoint").output().unwrap();
    assert!(whole.status.success(), "{}", stderr(&whole));

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut state = now.as_nanos() as u64;
    let mut delays = Vec::new();
    let mut child = painted("parts.png", "run.checkpoint").spawn().unwrap();
    let checkpoint = files.path("run.checkpoint");
    while !Path::new(&checkpoint).exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "ended without a checkpoint"
        );
        sleep(Duration::from_millis(1));
    }
    let mut killed = 0;
    for _ in 0..6 {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let delay = (state >> 33) % 250;
        delays.push(delay);
        sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let mut resume = impasto(&["resume", &checkpoint]);
        child = resume.stdout(Stdio::null()).spawn().unwrap();
    }
    let last = child.wait().unwrap();
    assert!(last.success(), "{last} after {delays:?}");
    assert!(
        killed > 0,
        "every run ended before it was killed: {delays:?}"
    );
    let bytes = |name: &str| fs::read(files.path(name)).unwrap();
    assert!(bytes("whole.png") == bytes("parts.png"), "{delays:?}");
}
