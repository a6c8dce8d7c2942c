//! `impasto bench`.

use std::fs;

use serde_json::Value;

use crate::cli::{Files, run, stderr};

const BENCH: [&str; 5] = ["bench", "--encoder", "builtin", "--repeats", "1"];

#[test]
fn a_device_is_compared_and_timed() {
    let files = Files::new();
    let json = files.path("bench.json");
    let output = run(&[&BENCH[..], &["--size", "32,48", "--json", &json]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let table = String::from_utf8(output.stdout).unwrap();
    for words in ["device           cpu", "75×53      gradient", "48×48"] {
        assert!(table.contains(words), "{words}\n{table}");
    }

    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    for (key, value) in [
        ("impasto", env!("CARGO_PKG_VERSION")),
        ("device", "cpu"),
        ("precision", "f32"),
        ("weights", "builtin"),
    ] {
        assert_eq!(report[key], value);
    }
    assert_eq!(report["checksum"].as_str().unwrap().len(), 32);
    assert!(report["threads"].as_u64() >= Some(1));
    assert!(report.get("device_name").is_some() && report["check_skipped"].is_null());

    // The same engine twice: nothing differs.
    let check = &report["check"];
    assert_eq!(check["passed"], true);
    assert_eq!(check["sizes"], serde_json::json!([[96, 64], [75, 53]]));
    for (part, count, numbers) in [
        ("features", 12, &["relative_error", "max_error"][..]),
        ("loss", 2, &["relative_error"]),
        ("gradient", 2, &["relative_error"]),
        ("steps", 4, &["relative_error", "image_rms"]),
    ] {
        let entries = check[part].as_array().unwrap();
        assert_eq!(entries.len(), count, "{part}");
        for entry in entries {
            assert_eq!(entry["size"].as_array().unwrap().len(), 2);
            for number in numbers {
                assert_eq!(entry[number], 0.0, "{part} {number}: {entry}");
            }
        }
    }
    assert_eq!(check["features"][5]["layer"], "relu5_1");
    for (steps, loss) in check["steps"].as_array().unwrap().iter().zip([0, 0, 1, 1]) {
        let start = check["loss"][loss]["expected"].as_f64().unwrap();
        let end = steps["loss_expected"].as_f64().unwrap();
        assert!(end < start, "{steps} from {start}");
        assert_eq!(steps["loss_found"], end);
    }

    let times = report["times"].as_array().unwrap();
    assert_eq!(times.len(), 2);
    for (time, side) in times.iter().zip([32, 48]) {
        assert_eq!(
            (&time["width"], &time["height"]),
            (&side.into(), &side.into())
        );
        assert_eq!(time["repeats"], 1);
        assert_eq!(time["median_s"], time["min_s"]);
        let median = time["median_s"].as_f64().unwrap();
        assert!(median > 0.0 && time["first_s"].as_f64().unwrap() > 0.0);
        assert!(time["step_median_s"].as_f64().unwrap() >= median);
        assert!(time["loss"].as_f64().unwrap() > 0.0);
        assert!(time["device_bytes"].is_null());
        #[cfg(target_os = "linux")]
        assert!(time["resident_bytes"].as_u64() > Some(1 << 20));
    }
}

#[test]
fn a_report_as_json_holds_nothing_else() {
    let files = Files::new();
    let loss = |pictures: &[&str]| {
        let options = ["--size", "24", "--no-check", "--quiet", "--json", "-"];
        let output = run(&[&BENCH[..], &options, pictures].concat());
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            stderr(&output)
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["check"].is_null());
        assert!(
            report["check_skipped"]
                .as_str()
                .unwrap()
                .contains("--no-check")
        );
        report["times"][0]["loss"].as_f64().unwrap()
    };
    let drawn = loss(&[]);
    assert_eq!(drawn, loss(&[]));
    let own = loss(&["--content", &files.scene, "--style", &files.style]);
    assert!((own - drawn).abs() > 0.01 * drawn, "{own} and {drawn}");
    // No style but the content's own: no loss.
    let none = loss(&["--content", &files.scene, "--style", &files.scene]);
    assert!(none < 1e-6 * own, "{none} and {own}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let files = Files::new();
    let picture = files.path("content.jpg");
    fs::copy(&files.scene, &picture).unwrap();
    let before = fs::read(&picture).unwrap();
    let (missing, json) = (files.path("missing/bench.json"), files.path("bench.json"));
    let pictures = ["--content", &picture, "--style", &files.style];
    for (options, words) in [
        (vec!["--size", "0"], "0 is not in 1.."),
        (vec!["--size", "32,8"], "8×8"),
        (vec!["--size", "32,large"], "large"),
        (vec!["--repeats", "0"], "0 is not in 1.."),
        (vec!["--content", &picture], "--style"),
        (vec!["--content", "no.png", "--style", &picture], "no.png"),
        (vec!["--device", "tpu"], "expected cpu"),
        (vec!["--json", &missing], "does not exist"),
        ([&pictures[..], &["--json", &picture]].concat(), "overwrite"),
    ] {
        // The last of equal options counts.
        let output = run(&[&BENCH[..], &["--json", &json], &options].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {text}");
        assert!(text.contains(words), "{options:?}: {text}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(files.listing(), ["content.jpg"]);
    assert_eq!(fs::read(&picture).unwrap(), before);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_measurement_without_a_result() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use crate::cli::{impasto, interrupt};

    let files = Files::new();
    let json = files.path("bench.json");
    let arguments = [
        "bench",
        "--encoder",
        "builtin",
        "--size",
        "64",
        "--json",
        &json,
    ];
    let mut child = impasto(&arguments)
        .args(["--repeats", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("64×64") {}
    interrupt(&child);
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest:?}");
    assert!(
        rest.iter().any(|line| line.contains("nothing is written")),
        "{rest:?}"
    );
    assert!(output.stdout.is_empty() && files.listing().is_empty());
}
