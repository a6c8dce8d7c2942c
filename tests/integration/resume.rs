//! Runs that were interrupted, killed or kept, and go on from their checkpoints.

use std::fs;

use impasto::Picture;

#[cfg(unix)]
use crate::cli::interrupt;
use crate::cli::{Files, impasto, run, stderr};

/// Killed at random moments again and again, a run in tiles is resumed to the same bytes as one that
/// was left alone: what is on disk is always a whole checkpoint.
#[test]
fn a_killed_run_in_tiles_is_resumed_to_the_same_bytes() {
    use std::path::Path;
    use std::process::Stdio;
    use std::thread::sleep;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
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

/// Interrupted in the middle, then resumed: the same bytes and the same log as without.
#[cfg(unix)]
#[test]
fn a_resumed_run_ends_as_if_it_had_never_stopped() {
    use serde_json::Value;
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let files = Files::new();
    for optimizer in ["lbfgs", "adam"] {
        let painted = |name: &str, checkpoint: &str, log: &str| {
            let output = files.path(name);
            let mut command = impasto(&["stylize", &files.scene, &files.style, "-o", &output]);
            command.args([
                "--weights",
                &files.weights,
                "--size",
                "300",
                "--iterations",
                "30",
            ]);
            command.args(["--optimizer", optimizer, "--init", "noise", "--seed", "5"]);
            command.args([
                "--checkpoint",
                checkpoint,
                "--checkpoint-every",
                "0",
                "--log",
                log,
            ]);
            command
        };
        let (checkpoint, log) = (files.path("run.checkpoint"), files.path("whole.jsonl"));
        let whole = painted("whole.png", &checkpoint, &log).output().unwrap();
        assert!(whole.status.success(), "{}", stderr(&whole));

        let log = files.path("parts.jsonl");
        let mut child = painted("parts.png", &checkpoint, &log)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while !lines.next().unwrap().unwrap().contains("scale 2/") {}
        interrupt(&child);
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
        assert!(
            rest.iter().any(|line| line.contains("impasto resume")),
            "{rest:?}"
        );

        let resumed = run(&["resume", &checkpoint]);
        assert!(resumed.status.success(), "{}", stderr(&resumed));
        let bytes = |name: &str| fs::read(files.path(name)).unwrap();
        assert!(bytes("whole.png") == bytes("parts.png"), "{optimizer}");
        let losses = |name: &str| -> Vec<Value> {
            let text = fs::read_to_string(files.path(name)).unwrap();
            let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["total"].clone();
            text.lines().map(line).collect()
        };
        assert_eq!(losses("whole.jsonl"), losses("parts.jsonl"), "{optimizer}");
    }
}

#[test]
fn checkpoints_that_do_not_fit_are_refused() {
    let files = Files::new();
    let text = files.write("text", b"no checkpoint");
    for (path, words) in [
        (&text, "no checkpoint"),
        (&files.path("missing"), "missing"),
    ] {
        let output = run(&["resume", path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    // Another picture under the same name.
    let content = files.path("content.png");
    Picture::from_rgb(9, 9, vec![0.5; 243])
        .unwrap()
        .save(&content)
        .unwrap();
    let (checkpoint, output) = (files.path("checkpoint"), files.path("out.png"));
    let mut arguments = vec!["stylize", &content, &files.style, "-o", &output];
    arguments.extend([
        "--weights",
        &files.weights,
        "--size",
        "32",
        "--iterations",
        "2",
    ]);
    arguments.extend(["--checkpoint", &checkpoint, "--checkpoint-every", "0"]);
    assert!(run(&arguments).status.success());
    assert!(run(&["resume", &checkpoint]).status.success());
    Picture::from_rgb(9, 9, vec![0.6; 243])
        .unwrap()
        .save(&content)
        .unwrap();
    let changed = run(&["resume", &checkpoint]);
    assert_eq!(changed.status.code(), Some(2));
    assert!(
        stderr(&changed).contains("another run"),
        "{}",
        stderr(&changed)
    );
}

/// The folder, the pictures and the weights of a run may all have names that are not Unicode, and so
/// may the file of its state.
#[cfg(unix)]
#[test]
fn a_run_among_names_that_are_not_unicode_is_resumed() {
    use std::os::unix::ffi::OsStrExt;
    let files = Files::new();
    let name = |bytes: &'static [u8]| std::ffi::OsStr::from_bytes(bytes);
    let folder = files.folder.path().join(name(b"\xfffolder"));
    fs::create_dir(&folder).unwrap();
    fs::copy(&files.scene, folder.join(name(b"caf\xe9.jpg"))).unwrap();
    fs::copy(&files.weights, folder.join(name(b"\xfe.safetensors"))).unwrap();
    let mut command = impasto(&["stylize", "-o", "out.png", "--size", "48"]);
    command.args(["--iterations", "4", "--checkpoint-every", "0"]);
    command.arg("--checkpoint").arg(name(b"run\xe9"));
    command.arg("--weights").arg(name(b"\xfe.safetensors"));
    command
        .arg("--")
        .arg(name(b"caf\xe9.jpg"))
        .arg(&files.style);
    let whole = command.current_dir(&folder).output().unwrap();
    assert!(whole.status.success(), "{}", stderr(&whole));
    let painted = fs::read(folder.join("out.png")).unwrap();
    fs::remove_file(folder.join("out.png")).unwrap();

    let mut resume = impasto(&["resume"]);
    let resumed = resume.arg(folder.join(name(b"run\xe9"))).output().unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(painted == fs::read(folder.join("out.png")).unwrap());
}
