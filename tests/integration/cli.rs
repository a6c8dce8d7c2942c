//! The program, as a person at a terminal meets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use impasto::Picture;
use serde_json::Value;

use crate::{data, repository};

/// The program without the weights that a developer may have named or have in a cache.
pub(crate) fn impasto(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
    command.args(arguments).env_remove("IMPASTO_WEIGHTS");
    command.env("IMPASTO_CACHE", repository("tests/data/no-cache"));
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    impasto(arguments).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Presses Ctrl-C.
#[cfg(unix)]
pub(crate) fn interrupt(child: &Child) {
    let mut kill = Command::new("kill");
    let sent = kill.args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

pub(crate) struct Files {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) scene: String,
    pub(crate) style: String,
    pub(crate) weights: String,
}

impl Files {
    pub(crate) fn new() -> Self {
        let text = |path: PathBuf| path.to_str().unwrap().to_string();
        Self {
            folder: tempfile::tempdir().unwrap(),
            scene: text(repository("assets/scene.jpg")),
            style: text(repository("assets/swirls.jpg")),
            weights: text(data("small.safetensors")),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    pub(crate) fn write(&self, name: &str, contents: &[u8]) -> String {
        fs::write(self.folder.path().join(name), contents).unwrap();
        self.path(name)
    }

    /// Options with which a painting is soon done.
    pub(crate) fn quickly(&self) -> [&str; 6] {
        let weights = ["--weights", &self.weights];
        [weights[0], weights[1], "--size", "48", "--iterations", "3"]
    }

    /// A quick painting with further options.
    pub(crate) fn stylize(&self, output: &str, options: &[&str]) -> Output {
        let output = self.path(output);
        let mut arguments = vec!["stylize", &self.scene, &self.style, "-o", &output];
        arguments.extend(self.quickly());
        arguments.extend(options);
        run(&arguments)
    }

    /// Names of the files that a test has made.
    pub(crate) fn listing(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn one_command_paints_a_picture() {
    let files = Files::new();
    let output = files.stylize("out.png", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let picture = Picture::open(files.path("out.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (48, 36));
    // Plain lines where standard error is no terminal, and the result's name at the end.
    let text = stderr(&output);
    assert!(
        text.contains("step 3/3") && text.contains("out.png"),
        "{text}"
    );
    assert!(output.stdout.is_empty());

    let quiet = files.stylize("quiet.png", &["--quiet"]);
    assert!(quiet.status.success() && quiet.stderr.is_empty());
    let bytes = |name| fs::read(files.path(name)).unwrap();
    assert_eq!(bytes("out.png"), bytes("quiet.png"));
}

#[cfg(feature = "builtin")]
#[test]
fn without_weights_the_builtin_encoder_steps_in_and_says_so() {
    let files = Files::new();
    let output = files.path("out.webp");
    let arguments = ["stylize", &files.scene, &files.style, "-o", &output];
    let small = ["--size", "48", "--iterations", "2"];
    let result = run(&[&arguments[..], &small].concat());
    assert!(result.status.success(), "{}", stderr(&result));
    assert!(stderr(&result).contains("built-in encoder"));
    assert!(Path::new(&output).exists());
    let vgg = run(&[&arguments[..], &small, &["--encoder", "vgg19"]].concat());
    assert_eq!(vgg.status.code(), Some(2));
    assert!(stderr(&vgg).contains("IMPASTO_WEIGHTS"));
}

#[test]
fn the_environment_names_the_weights() {
    let files = Files::new();
    let output = files.path("out.png");
    let arguments = [
        "stylize",
        &files.scene,
        &files.style,
        "-o",
        &output,
        "--dry-run",
    ];
    let missing = impasto(&arguments)
        .env("IMPASTO_WEIGHTS", "missing.onnx")
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("missing.onnx"));
    let found = impasto(&arguments)
        .env("IMPASTO_WEIGHTS", &files.weights)
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", stderr(&found));
}

#[test]
fn the_log_has_a_line_for_each_evaluation() {
    let files = Files::new();
    let log = files.path("log.jsonl");
    let options = [
        "--log",
        &log,
        "--tv-weight",
        "0.01",
        "--recipe",
        "neural-style",
    ];
    let output = files.stylize("out.png", &options);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    for (index, line) in lines.iter().enumerate() {
        let number = |key: &str| {
            line[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{key}: {line}"))
        };
        assert_eq!(number("evaluation"), (index + 1) as f64);
        assert_eq!(number("iteration"), (index + 1) as f64);
        assert_eq!(
            (number("scale"), number("width"), number("height")),
            (0.0, 48.0, 36.0)
        );
        assert!(number("seconds") > 0.0);
        let total = 5.0 * number("content") + 100.0 * number("style") + 0.01 * number("tv");
        assert!((total - number("total")).abs() <= 1e-6 * total, "{line}");
    }
}

#[test]
fn intermediate_pictures_are_kept_on_request() {
    let files = Files::new();
    let options = [
        "--save-every",
        "2",
        "--recipe",
        "neural-style",
        "--iterations",
        "5",
    ];
    let output = files.path("out.png");
    let mut arguments = vec!["stylize", &files.scene, &files.style, "-o", &output];
    arguments.extend(["--weights", &files.weights, "--size", "32"]);
    arguments.extend(options);
    let result = run(&arguments);
    assert!(result.status.success(), "{}", stderr(&result));
    assert_eq!(files.listing(), ["out-0002.png", "out-0004.png", "out.png"]);
}

/// A recipe can be printed, changed and read; what it leaves out is as in the default recipe.
#[test]
fn recipes_are_files_too() {
    let files = Files::new();
    let printed = run(&["recipes", "impasto", "--json"]);
    let whole = files.path("whole.json");
    fs::write(&whole, &printed.stdout).unwrap();
    let part = files.path("part.json");
    fs::write(&part, r#"{"neighbors": {"rotations": false}}"#).unwrap();
    let painted = |name: &str, options: &[&str]| {
        let result = files.stylize(name, options);
        assert!(result.status.success(), "{}", stderr(&result));
        fs::read(files.path(name)).unwrap()
    };
    let expected = painted("default.png", &[]);
    assert!(painted("whole.png", &["--recipe", &whole]) == expected);
    assert!(painted("part.png", &["--recipe", &part]) != expected);
    for (text, words) in [
        (r#"{"neighbours": {}}"#, "did you mean `neighbors`?"),
        ("{", "line 1: this is not JSON"),
        (r#"{"neighbors": {"content_share": 2}}"#, "from 0 to 1"),
    ] {
        fs::write(&part, text).unwrap();
        let refused = files.stylize("refused.png", &["--recipe", &part]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
}

#[test]
fn the_strength_is_a_dial_and_has_limits() {
    let files = Files::new();
    let painted = |strength: &str| {
        let options = ["--size", "130", "--strength", strength];
        let result = files.stylize("out.png", &options);
        assert!(result.status.success(), "{}", stderr(&result));
        fs::read(files.path("out.png")).unwrap()
    };
    assert!(painted("0") != painted("1"));
    for (options, words) in [
        (
            &["--strength", "1.5"][..],
            "--strength is 1.5, expected 0 to 1",
        ),
        (
            &["--strength", "0.5", "--recipe", "gram"],
            "--strength works with",
        ),
        (&["--style-loss", "gram"], "--style-loss has no effect"),
        (
            &["--recipe", "nnst", "--tile", "32"],
            "needs the whole image",
        ),
    ] {
        let refused = files.stylize("refused.png", options);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let files = Files::new();
    let options = [
        "--dry-run",
        "--recipe",
        "gram",
        "--style-layers",
        "relu1_1,relu3_1:0.5",
        "--size",
        "256",
    ];
    let output = files.path("out.png");
    let mut arguments = vec!["stylize", &files.scene, &files.style, "-o", &output];
    arguments.extend(["--weights", &files.weights]);
    arguments.extend(options);
    let result = run(&arguments);
    assert!(result.status.success(), "{}", stderr(&result));
    let plan = String::from_utf8(result.stdout).unwrap();
    for word in [
        "256×192",
        "128×96",
        "relu3_1:5.000e-1",
        "relu4_2",
        "cpu",
        "out.png",
    ] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
    assert!(files.listing().is_empty());
}

/// Everything a user may get wrong: exit status 2, a message that says what, nothing written.
#[test]
fn bad_input_is_refused_with_a_clear_message() {
    let files = Files::new();
    let empty = files.write("empty.png", b"");
    let text = files.write("text.png", b"Dear reader, this is no picture.");
    let huge = files.write("huge.png", &crate::pictures::huge_png(20_000, 20_000));
    let thin = files.path("thin.png");
    let tall = Picture::from_rgb(1, 2000, vec![0.5; 6000]).unwrap();
    tall.save(&thin).unwrap();
    let whole = fs::read(&files.weights).unwrap();
    let cut = files.write("cut.safetensors", &whole[..whole.len() / 2]);
    let before = files.listing();

    let (scene, style, out) = (&files.scene[..], &files.style[..], files.path("out.png"));
    let (out, weights) = (&out[..], &files.weights[..]);
    let nowhere = files.path("missing/out.png");
    let bare = files.path("out");
    let missing = files.path("missing.jpg");
    for (arguments, words) in [
        (vec![&missing, style, "-o", out], "missing.jpg"),
        (vec![scene, &missing, "-o", out], "missing.jpg"),
        (vec![&empty, style, "-o", out], "empty.png"),
        (vec![&text, style, "-o", out], "this is text"),
        (vec![scene, &text, "-o", out], "this is text"),
        (vec![&huge, style, "-o", out], "20000×20000"),
        (vec![&thin, style, "-o", out], "too small"),
        (
            vec![scene, style, "-o", out, "--style-layers", "relu4_9"],
            "did you mean",
        ),
        (
            vec![scene, style, "-o", out, "--content-layers", "conv42"],
            "did you mean",
        ),
        (
            vec![scene, style, "-o", out, "--style-weight", "-1"],
            "style_weight",
        ),
        (
            vec![scene, style, "-o", out, "--content-weight=-3"],
            "content_weight",
        ),
        (
            vec![scene, style, "-o", out, "--style-blend", "1,2"],
            "--style-blend",
        ),
        (
            vec![scene, style, "-o", out, "--style-blend=-1"],
            "weights of the styles",
        ),
        (vec![scene, style, "-o", out, "--size", "0"], "size"),
        (vec![scene, style, "-o", out, "--tile", "0"], "tile"),
        (
            vec![scene, style, "-o", out, "--iterations", "0"],
            "iterations",
        ),
        (
            vec![scene, style, "-o", out, "--recipe", "neural_style"],
            "neural-style",
        ),
        (
            vec![scene, style, "-o", out, "--init", &missing],
            "missing.jpg",
        ),
        (vec![scene, style, "-o", out, "--device", "tpu"], "cuda"),
        (vec![scene, style, "-o", out, "--log", &nowhere], "log"),
        (vec![scene, style, "-o", &nowhere], "does not exist"),
        (vec![scene, style, "-o", &bare], ".png"),
        (
            vec![scene, style, "-o", out, "--weights", &cut],
            "cut.safetensors",
        ),
        (
            vec![scene, style, "-o", out, "--weights", &text],
            "text.png",
        ),
        (vec![scene, "-o", out], "STYLE"),
        (vec![scene, style], "--output"),
    ] {
        let mut all = vec!["stylize"];
        // Later options win, so that a case can name other weights.
        if !arguments.contains(&"--weights") {
            all.extend(["--weights", weights]);
        }
        all.extend(&arguments);
        let output = run(&all);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
        assert_eq!(files.listing(), before, "{arguments:?}");
    }
}

/// A scan of 68 million pixels, more than is kept whole: content, style and mask are read at the size
/// that is needed.
#[test]
fn huge_pictures_are_read_at_the_size_that_is_needed() {
    // Too slow without optimisation.
    if cfg!(debug_assertions) {
        return;
    }
    let files = Files::new();
    let huge = files.path("huge.png");
    let scan =
        image::GrayImage::from_fn(12_000, 5_700, |x, _| image::Luma([(x / 3_000) as u8 * 80]));
    scan.save(&huge).unwrap();
    let refused = Picture::open(&huge).unwrap_err().to_string();
    assert!(refused.contains("12000×5700"), "{refused}");
    let output = files.path("out.png");
    let inputs = ["stylize", &huge, &huge, "-o", &output, "--mask", &huge];
    let result = run(&[&inputs[..], &files.quickly()].concat());
    assert_eq!(result.status.code(), Some(0), "{}", stderr(&result));
    let painted = Picture::open(&output).unwrap();
    assert_eq!((painted.width(), painted.height()), (48, 23));
    // The recipe's own measure is the width.
    let options = ["--recipe", "gordicaleksa", "--weights", &files.weights];
    let small = ["--size", "40", "--iterations", "1"];
    let result = run(&[&inputs[..], &options, &small].concat());
    assert_eq!(result.status.code(), Some(0), "{}", stderr(&result));
    let painted = Picture::open(&output).unwrap();
    assert_eq!((painted.width(), painted.height()), (40, 19));
}

#[test]
fn a_single_pixel_is_a_picture_too() {
    let files = Files::new();
    let dot = files.path("dot.png");
    Picture::from_rgb(1, 1, vec![0.2, 0.4, 0.6])
        .unwrap()
        .save(&dot)
        .unwrap();
    let output = files.path("out.png");
    let arguments = ["stylize", &dot, &files.style, "-o", &output];
    let small = [
        "--weights",
        &files.weights,
        "--size",
        "32",
        "--iterations",
        "2",
    ];
    let result = run(&[&arguments[..], &small].concat());
    assert!(result.status.success(), "{}", stderr(&result));
    assert_eq!(Picture::open(&output).unwrap().width(), 32);
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_the_best_picture_and_exits_with_130() {
    use std::io::{BufRead, BufReader};
    let files = Files::new();
    let output = files.path("out.png");
    let mut child = impasto(&["stylize", &files.scene, &files.style, "-o", &output])
        .args([
            "--weights",
            &files.weights,
            "--size",
            "64",
            "--iterations",
            "100000",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first line of progress: the run has begun.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("step") {}
    // Twice, as `timeout` and other programs around this one pass it on: still one press.
    interrupt(&child);
    interrupt(&child);
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(
        rest.iter().any(|line| line.contains("best picture")),
        "{rest:?}"
    );
    assert!(Picture::open(&output).unwrap().width() <= 64);
}

#[cfg(unix)]
#[test]
fn ctrl_c_at_any_moment_leaves_a_whole_picture_or_none() {
    use std::time::Duration;
    let files = Files::new();
    for milliseconds in [0, 5, 10, 20, 40, 80, 160, 320] {
        let output = files.path("out.png");
        let arguments = ["stylize", &files.scene, &files.style, "-o", &output];
        let mut child = impasto(&arguments)
            .args(["--size", "512", "--iterations", "100000", "--quiet"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        interrupt(&child);
        let status = child.wait().unwrap();
        // Before the program listens, the signal ends it.
        assert!(matches!(status.code(), Some(130) | None), "{status:?}");
        if Path::new(&output).exists() {
            Picture::open(&output).unwrap();
            fs::remove_file(&output).unwrap();
        }
        assert!(files.listing().is_empty(), "after {milliseconds} ms");
    }
}

#[test]
fn help_recipes_devices_and_completions_print() {
    for (arguments, words) in [
        (vec!["--help"], vec!["stylize", "recipes"]),
        (
            vec!["stylize", "--help"],
            vec!["--style-weight", "[default", "IMPASTO_WEIGHTS"],
        ),
        (
            vec!["recipes"],
            vec![
                "impasto",
                "neural-style",
                "gatys",
                "1000 steps",
                "ipynb",
                "mine.toml",
            ],
        ),
        (vec!["devices"], vec!["cpu      available"]),
        (
            vec!["completions", "bash"],
            vec!["complete", "--style-weight"],
        ),
        (vec!["--version"], vec![env!("CARGO_PKG_VERSION")]),
    ] {
        let output = run(&arguments);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap().to_lowercase();
        for word in words {
            assert!(
                text.contains(&word.to_lowercase()),
                "{arguments:?}: {word}\n{text}"
            );
        }
    }
}

#[test]
fn devices_are_listed_with_their_gpus_or_the_reason_why_not() {
    let output = run(&["devices", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let devices: Value = serde_json::from_slice(&output.stdout).unwrap();
    let built_in = [
        ("cpu", cfg!(feature = "flex")),
        ("ndarray", cfg!(feature = "ndarray")),
        ("cuda", cfg!(feature = "cuda")),
        ("wgpu", cfg!(feature = "wgpu")),
    ];
    assert_eq!(devices.as_array().unwrap().len(), built_in.len());
    for (device, (name, built_in)) in devices.as_array().unwrap().iter().zip(built_in) {
        assert_eq!(device["device"], name);
        let available = device["available"].as_bool().unwrap();
        assert_eq!(available, device["reason"].is_null(), "{device}");
        let gpus = device["adapters"].as_array().unwrap();
        if !built_in {
            assert!(!available && gpus.is_empty(), "{device}");
            let reason = device["reason"].as_str().unwrap();
            assert!(reason.contains("not in this build"), "{reason}");
        } else if ["cpu", "ndarray"].contains(&name) {
            assert!(available && gpus.is_empty(), "{device}");
        } else if available {
            assert_eq!(gpus.iter().filter(|gpu| gpu["default"] == true).count(), 1);
            for (index, gpu) in gpus.iter().enumerate() {
                assert_eq!(gpu["device"], format!("{name}:{index}"));
                assert!(!gpu["name"].as_str().unwrap().is_empty(), "{gpu}");
                assert!(gpu["abilities"].is_array(), "{gpu}");
            }
        }
    }
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_that_says_what_to_do() {
    let files = Files::new();
    for (device, feature, built_in) in [
        ("cuda:99", "feature `cuda`", cfg!(feature = "cuda")),
        ("wgpu:99", "feature `wgpu`", cfg!(feature = "wgpu")),
    ] {
        let output = files.stylize("out.png", &["--device", device]);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        match built_in {
            true => assert!(
                message.contains("driver") || message.contains(&format!("no {device}")),
                "{message}"
            ),
            false => assert!(message.contains(feature), "{message}"),
        }
        assert!(!message.contains("panicked"), "{message}");
        assert!(files.listing().is_empty());
    }
}

/// Nothing reaches a reader in the form in which the program's source has it.
#[test]
fn recipes_and_plans_are_printed_in_plain_words() {
    let files = Files::new();
    let names = impasto::Recipe::all().into_iter().map(|recipe| recipe.name);
    let recipes: Vec<String> = names
        .map(|name| String::from_utf8(run(&["recipes", &name]).stdout).unwrap())
        .collect();
    let plan = files.stylize("out.png", &["--dry-run", "--mask", &files.scene]);
    assert!(plan.status.success(), "{}", stderr(&plan));
    let plan = String::from_utf8(plan.stdout).unwrap();
    // Names and sources of the recipes and of files are names of others.
    let settings = recipes.iter().flat_map(|recipe| recipe.lines().skip(2));
    let plan = plan.lines().filter(|line| !line.starts_with("output"));
    let lines: Vec<&str> = settings.chain(plan).collect();
    assert!(lines.len() > 8 * 10, "{recipes:?}");
    for line in lines {
        for sign in ["{", "}", "::", "(\"", "Some", "None"] {
            assert!(!line.contains(sign), "{sign}: {line}");
        }
        for word in line.split(|c: char| !c.is_alphanumeric()) {
            let letters: Vec<char> = word.chars().collect();
            let camel = letters
                .windows(2)
                .any(|pair| pair[0].is_lowercase() && pair[1].is_uppercase());
            assert!(!camel, "{word}: {line}");
        }
    }
}

#[test]
fn a_dry_run_names_the_picture_to_start_from() {
    let files = Files::new();
    let start = |options: &[&str]| {
        let output = files.stylize("out.png", &[&["--dry-run"], options].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let plan = String::from_utf8(output.stdout).unwrap();
        let line = plan.lines().find(|line| line.starts_with("start")).unwrap();
        line.to_string()
    };
    assert!(start(&[]).ends_with("the content picture"));
    assert!(start(&["--init", "style"]).ends_with("the first style picture"));
    assert!(start(&["--init", "noise"]).contains("deviation 0.1"));
    assert!(start(&["--init", &files.style]).ends_with("swirls.jpg"));
}

#[test]
fn threads_do_not_change_the_picture() {
    let files = Files::new();
    for (name, threads) in [("one.png", "1"), ("two.png", "2")] {
        let output = files.stylize(name, &["--threads", threads]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let pixels = |name| Picture::open(files.path(name)).unwrap();
    let (one, two) = (pixels("one.png"), pixels("two.png"));
    let largest = one.rgb().iter().zip(two.rgb()).map(|(a, b)| (a - b).abs());
    assert!(largest.fold(0.0, f32::max) <= 2.0 / 255.0);
}

#[test]
fn tiles_change_the_picture_by_rounding_only() {
    let files = Files::new();
    let paint = |name: &str, options: &[&str]| {
        // Further steps would magnify the rounding.
        let common = ["--size", "160", "--optimizer", "adam", "--iterations", "1"];
        let output = files.stylize(name, &[&common, options].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    // Columns of 80, 64 and 16 pixels, rows of 80 and 40.
    let plan = paint("no.png", &["--tile", "64", "--dry-run"]);
    assert!(plan.contains("160×120 pixels in 6 tiles"), "{plan}");
    assert!(!paint("no.png", &["--dry-run"]).contains("tile"));
    paint("whole.png", &[]);
    paint("tiled.png", &["--tile", "64"]);
    let pixels = |name| Picture::open(files.path(name)).unwrap();
    let (whole, tiled) = (pixels("whole.png"), pixels("tiled.png"));
    let differences = whole.rgb().iter().zip(tiled.rgb());
    let largest = differences.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest <= 2.001 / 255.0, "{largest}");
}

/// A reader that goes away must not cost the picture.
#[test]
fn a_closed_standard_error_does_not_end_a_run() {
    let files = Files::new();
    let output = files.path("out.png");
    let mut child = impasto(&["stylize", &files.scene, &files.style, "-o", &output])
        .args(files.quickly())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(Path::new(&output).exists());
}

#[test]
fn a_refused_run_leaves_an_old_log_alone() {
    let files = Files::new();
    let log = files.write("old.jsonl", b"old lines");
    let nowhere = files.path("missing/checkpoint");
    let output = files.stylize("out.png", &["--log", &log, "--checkpoint", &nowhere]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(&log).unwrap(), b"old lines");
    let options = ["--log", &log, "--size", "20000", "--memory", "999GB"];
    let wide = files.stylize("wide.webp", &options);
    assert_eq!(wide.status.code(), Some(2));
    assert!(stderr(&wide).contains("16383"), "{}", stderr(&wide));
    assert_eq!(fs::read(&log).unwrap(), b"old lines");
}

#[cfg(unix)]
#[test]
fn names_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let files = Files::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.jpg");
    let content = files.folder.path().join(name);
    fs::copy(&files.scene, &content).unwrap();
    let mut command = impasto(&["stylize"]);
    command.arg(&content);
    command.args([
        &files.style,
        "-o",
        &files.path("out.png"),
        "--weights",
        &files.weights,
    ]);
    let output = command
        .args(["--size", "48", "--iterations", "2"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// A picture that devices share, here halves of the processor, is that of one.
#[test]
fn devices_share_a_picture() {
    let files = Files::new();
    let paint = |name: &str, options: &[&str]| {
        let output = files.path(name);
        let mut arguments = vec!["stylize", &files.scene, &files.style, "-o", &output];
        arguments.extend(["--weights", &files.weights, "--size", "160", "--tile", "64"]);
        arguments.extend(["--iterations", "4", "--coarse-iterations", "2"]);
        arguments.extend(options);
        let ran = run(&arguments);
        (ran.status.code(), stderr(&ran), fs::read(output).ok())
    };
    let (status, said, one) = paint("one.png", &[]);
    assert_eq!(status, Some(0), "{said}");
    for devices in ["cpu,cpu", "cpu,cpu,cpu"] {
        let (status, said, several) = paint("several.png", &["--device", devices]);
        assert_eq!(status, Some(0), "{said}");
        assert!(several == one, "{devices}");
    }
    let (status, said, _) = paint("whole.png", &["--recipe", "strotss", "--device", "cpu,cpu"]);
    assert_eq!(status, Some(2), "{said}");
    let scene = files.scene.as_str();
    let output = files.path("maps.png");
    let features = ["features", scene, "--layer", "relu1_1", "-o", &output];
    let several = run(&[&features[..], &["--device", "cpu,cpu"]].concat());
    assert_eq!(several.status.code(), Some(2));
    assert!(stderr(&several).contains("several devices"));
}
