//! Runs in little memory: what is planned and what is then taken; pictures larger or smaller than usual.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use impasto::Picture;

use crate::cli::{Files, impasto, run, stderr};

/// A recipe at a size that takes long enough to be watched.
const OPTIONS: [&str; 8] = [
    "--encoder",
    "builtin",
    "--recipe",
    "neural-style",
    "--size",
    "768",
    "--iterations",
    "2",
];

/// What the kernel has counted as the most that a process held, in bytes.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Whole, in segments, in a few tiles and in many, a run takes no more than it may, and about as much as was
/// foretold.
#[test]
#[cfg(target_os = "linux")]
fn runs_stay_within_their_memory() {
    let files = Files::new();
    for (budget, options) in [
        (2_000_000_000, &[][..]),
        (380_000_000, &[]),
        (300_000_000, &[]),
        (250_000_000, &["--optimizer", "adam"]),
    ] {
        let budget_text = format!("{}MB", budget / 1_000_000);
        let command = |more: &[&str]| {
            let mut command = impasto(&["stylize", &files.scene, &files.style, "-q"]);
            command.args(["-o", &files.path("out.png"), "--memory", &budget_text]);
            command.args(OPTIONS).args(options).args(more);
            command
        };
        let plan = command(&["--dry-run", "--json"]).output().unwrap();
        assert!(plan.status.success(), "{budget_text}: {}", stderr(&plan));
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        let foretold = plan["memory"].as_u64().unwrap();
        assert!(foretold <= budget, "{plan}");
        assert!(plan["seconds"].as_f64().unwrap() > 0.0, "{plan}");

        let mut child = command(&[]).stderr(Stdio::null()).spawn().unwrap();
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            peak = peak_of(child.id()).unwrap_or(0).max(peak);
            sleep(Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success());
        assert!(peak <= budget, "{peak} of {budget}: {plan}");
        // Tighter bounds are for machines without other work: see BENCHMARKS.md.
        assert!(2 * peak >= foretold, "{peak} instead of {foretold}: {plan}");
    }
}

/// A limit on the address space counts like one on memory.
#[test]
#[cfg(target_os = "linux")]
fn a_limit_on_the_address_space_is_kept_or_refused_at_once() {
    use std::process::Command;
    let files = Files::new();
    let under = |kibibytes: u64, size: &str| {
        let program = env!("CARGO_BIN_EXE_impasto");
        let script = format!("ulimit -v {kibibytes}; exec \"$@\"");
        let out = files.path("out.png");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash", program, "stylize"]);
        command.args([&files.scene, &files.style, "-o", &out]);
        command
            .args(OPTIONS)
            .args(["--size", size, "--threads", "2"]);
        command.output().unwrap()
    };
    let fits = under(900_000, "1100");
    let said = stderr(&fits);
    assert!(fits.status.success(), "{said}");
    let refused = under(400_000, "8000");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("that are free"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn a_run_that_would_need_too_much_memory_is_not_begun() {
    let files = Files::new();
    let fits = files.stylize("out.png", &["--memory", "2GB"]);
    assert!(fits.status.success(), "{}", stderr(&fits));
    let output = files.stylize("big.png", &["--memory", "200MB", "--size", "4096"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    let words = "more than --memory 0.20 GB; try --size ";
    let (_, size) = said.split_once(words).expect(&said);
    let size: usize = size.split(',').next().unwrap().parse().expect(&said);
    // What it says would fit does.
    let size = size.to_string();
    let output = files.stylize(
        "big.png",
        &["--memory", "200MB", "--size", &size, "--dry-run"],
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let nonsense = files.stylize("big.png", &["--memory", "plenty"]);
    assert_eq!(nonsense.status.code(), Some(2));
}

/// Styles that are too small for the layers are enlarged; pictures of which only coarse scales are too small
/// begin at the first that is not.
#[test]
fn thin_and_tiny_pictures_are_painted() {
    let files = Files::new();
    let banner = files.path("banner.png");
    let picture = Picture::open(&files.scene).unwrap();
    picture.resize(300, 30).save(&banner).unwrap();
    let thin = files.path("thin.png");
    picture.resize(1, 200).save(&thin).unwrap();
    let gram = ["--recipe", "gram"];
    for (content, style, options) in [
        (&banner, &files.style, &["--size", "200"][..]),
        (&files.scene, &thin, &[]),
        (&files.scene, &files.style, &["--style-scale", "0.1"]),
        (&files.scene, &files.style, &["--style-size", "12"]),
    ] {
        let out = files.path("out.png");
        let mut arguments = vec!["stylize", content, style, "-o", &out];
        arguments.extend(files.quickly());
        arguments.extend(gram.iter().chain(options));
        let output = run(&arguments);
        assert!(output.status.success(), "{options:?}: {}", stderr(&output));
    }
    let painted = Picture::open(files.path("out.png")).unwrap();
    assert_eq!((painted.width(), painted.height()), (48, 36));
}

#[test]
fn larger_pictures_than_are_allowed_are_refused() {
    let files = Files::new();
    let refused = files.stylize("out.png", &["--max-megapixels", "1", "--size", "64"]);
    assert!(refused.status.success(), "{}", stderr(&refused));
    let large = files.path("large.png");
    let picture = Picture::open(&files.scene).unwrap();
    picture.resize(5000, 3600).save(&large).unwrap();
    let arguments = [
        "stylize",
        &large,
        &files.style,
        "-o",
        &files.path("out.png"),
    ];
    let with = |megapixels| {
        let mut arguments = arguments.to_vec();
        arguments.extend(files.quickly());
        run(&[&arguments[..], &["--max-megapixels", megapixels]].concat())
    };
    let refused = with("17");
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("5000×3600"),
        "{}",
        stderr(&refused)
    );
    let painted = with("18");
    assert!(painted.status.success(), "{}", stderr(&painted));
}
