//! Runs in little memory: what is planned, and what is then taken.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::cli::{Files, impasto, stderr};

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

/// Whole, in strips, in a few tiles and in many, a run takes no more than it may, and about as much as was
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
