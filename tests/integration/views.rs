//! The commands that show what the network sees.

use std::fs;

use impasto::Picture;
use serde_json::Value;

use crate::cli::{Files, run, stderr};

/// Mean absolute difference of the colours.
fn difference(a: &Picture, b: &Picture) -> f32 {
    assert_eq!(a.rgb().len(), b.rgb().len());
    let pairs = a.rgb().iter().zip(b.rgb());
    pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / a.rgb().len() as f32
}

/// Runs a command on the small network; it must succeed.
#[track_caller]
fn succeed(files: &Files, arguments: &[&str]) {
    let weights = ["--weights", &files.weights];
    let output = run(&[arguments, &weights].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_architecture_is_printed_as_a_table_and_as_json() {
    let table = run(&["layers", "--size", "224"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.lines().count(), 1 + 37 + 1);
    assert!(
        table.contains("512×14×14") && table.contains("19508.4"),
        "{table}"
    );
    let json = run(&["layers", "--size", "224", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let layers = json.as_array().unwrap();
    assert_eq!(layers.len(), 37);
    assert_eq!(layers[19]["layer"], "conv4_1");
    assert_eq!(layers[19]["parameters"], 1_180_160);
    assert_eq!(layers[19]["receptive_field"], 68);
}

#[test]
fn contents_are_rebuilt_from_a_layer() {
    let files = Files::new();
    let original = Picture::open(&files.scene).unwrap().resize(48, 36);
    let rebuild = |name: &str, options: &[&str]| {
        let output = files.path(name);
        let arguments = ["reconstruct", "content", &files.scene, "-o", &output];
        let small = ["--layer", "conv1_1", "--size", "48", "--tv-weight", "0"];
        succeed(&files, &[&arguments[..], &small, options].concat());
        Picture::open(output).unwrap()
    };
    let start = difference(&rebuild("1.png", &["--iterations", "1"]), &original);
    let end = difference(&rebuild("60.png", &["--iterations", "60"]), &original);
    assert!(end < 0.04 && end < start / 3.0, "{start} to {end}");
    // In tiles it is rebuilt all the same.
    let options = ["--layer", "relu2_1", "--iterations", "5"];
    let whole = rebuild("whole.png", &options);
    let tiled = rebuild("tiled.png", &[&options[..], &["--tile", "32"]].concat());
    assert!(difference(&whole, &tiled) < 0.5 / 255.0);
    // Total variation smooths what is rebuilt.
    let smooth = rebuild("tv.png", &["--iterations", "60", "--tv-weight", "10"]);
    let roughness = |picture: &Picture| -> f32 {
        let pairs = picture.rgb().windows(4);
        pairs.map(|values| (values[3] - values[0]).abs()).sum()
    };
    assert!(roughness(&smooth) < roughness(&original) / 2.0);
}

#[test]
fn textures_have_their_own_size_and_the_styles_statistics() {
    let files = Files::new();
    let (output, log) = (files.path("texture.png"), files.path("log"));
    let arguments = ["reconstruct", "style", &files.style, "-o", &output];
    let options = [
        "--layers",
        "relu1_1,relu2_1:2",
        "--size",
        "40",
        "--canvas",
        "72x30",
    ];
    let more = ["--iterations", "40", "--tv-weight", "0", "--log", &log];
    succeed(&files, &[&arguments[..], &options, &more].concat());
    let texture = Picture::open(&output).unwrap();
    assert_eq!((texture.width(), texture.height()), (72, 30));
    let log = fs::read_to_string(log).unwrap();
    let totals: Vec<f64> = log
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["total"]
                .as_f64()
                .unwrap()
        })
        .collect();
    let (first, last) = (totals[0], totals[totals.len() - 1]);
    // Relative errors, with weights of 1 and 2, begin near 3 at most.
    assert!(first < 5.0 && last < 0.05 * first, "{first} to {last}");
    for canvas in ["72", "0x30", "72x30x2"] {
        let refused = run(&[&arguments[..], &["--canvas", canvas]].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("512x256"), "{}", stderr(&refused));
    }
}

#[test]
fn an_interrupted_reconstruction_goes_on() {
    let files = Files::new();
    let (whole, output, checkpoint) = (files.path("a.png"), files.path("b.png"), files.path("c"));
    let rebuild = |output: &str, options: &[&str]| {
        let arguments = ["reconstruct", "content", &files.scene, "-o", output];
        let small = [
            "--size",
            "32",
            "--iterations",
            "8",
            "--checkpoint",
            &checkpoint,
        ];
        succeed(&files, &[&arguments[..], &small, options].concat());
    };
    rebuild(&whole, &["--checkpoint-every", "1000"]);
    rebuild(&output, &["--checkpoint-every", "0"]);
    fs::remove_file(&output).unwrap();
    let resumed = run(&["resume", &checkpoint]);
    assert_eq!(resumed.status.code(), Some(0), "{}", stderr(&resumed));
    assert_eq!(fs::read(whole).unwrap(), fs::read(output).unwrap());
}

#[test]
fn the_figure_has_twelve_pictures() {
    let files = Files::new();
    let output = files.path("figure.png");
    let arguments = ["figure", &files.scene, &files.style, "-o", &output];
    let arguments = [&arguments[..], &["--size", "32", "--iterations", "2"]].concat();
    succeed(&files, &arguments);
    let sheet = Picture::open(&output).unwrap();
    // In tiles it is the same but for rounding, and no figure fits no memory.
    succeed(&files, &[&arguments[..], &["--tile", "16"]].concat());
    let off = difference(&sheet, &Picture::open(&output).unwrap());
    assert!(off < 1e-2, "{off}");
    let limit = [
        &arguments[..],
        &["--memory", "1MB", "--weights", &files.weights],
    ]
    .concat();
    let refused = run(&limit);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("are allowed"),
        "{}",
        stderr(&refused)
    );
    // Six columns of 32 pixels with gaps of 4; two rows with a line of text each.
    assert_eq!(sheet.width(), 6 * 36 + 4);
    let cells = (0..12).filter(|cell| {
        let (x, y) = (
            4 + cell % 6 * 36 + 16,
            4 + cell / 6 * (sheet.height() - 4) / 2 + 14 + 10,
        );
        sheet.rgb()[3 * (y * sheet.width() + x)..][..3] != [1.0; 3]
    });
    assert_eq!(cells.count(), 12);
}

#[test]
fn feature_maps_are_shown_for_one_layer_or_all() {
    let files = Files::new();
    let show = |name: &str, options: &[&str]| {
        let output = files.path(name);
        let arguments = [
            "features",
            &files.scene,
            "-o",
            &output,
            "--size",
            "64",
            "--cell",
            "32",
        ];
        succeed(&files, &[&arguments[..], options].concat());
        Picture::open(output).unwrap()
    };
    let each = show("each.png", &["--layer", "conv2_2", "--channels", "4"]);
    assert_eq!(each.width(), 2 * 36 + 4);
    let shared = [
        "--layer",
        "conv2_2",
        "--channels",
        "4",
        "--scaling",
        "shared",
    ];
    assert!(difference(&each, &show("shared.png", &shared)) > 1e-3);
    let all = show("all.png", &["--all", "--channels", "3"]);
    assert_eq!(all.width(), 4 * 36 + 4);
    assert!(all.height() > 13 * 24);

    let output = files.path("deep.png");
    let tiny = [
        "features",
        &files.scene,
        "-o",
        &output,
        "--size",
        "8",
        "--layer",
        "relu5_1",
    ];
    let refused = run(&[&tiny[..], &["--weights", &files.weights]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("too small"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn the_evolution_and_the_curves_of_a_run_are_written() {
    let files = Files::new();
    let (strip, movie, curves) = (
        files.path("s.png"),
        files.path("m.gif"),
        files.path("c.svg"),
    );
    let gram = ["--style-weight", "1e-6"];
    let reports = ["--evolution", &strip, "--plot", &curves];
    let result = files.stylize("out.png", &[&gram[..], &reports].concat());
    assert_eq!(result.status.code(), Some(0), "{}", stderr(&result));
    let strip = Picture::open(strip).unwrap();
    assert!(strip.width() > 3 * 48, "{}", strip.width());
    let curves = fs::read_to_string(curves).unwrap();
    for name in ["total", "neighbors", "style relu4_1"] {
        assert!(curves.contains(name), "{name}");
    }
    let result = files.stylize("out.png", &["--evolution", &movie]);
    assert_eq!(result.status.code(), Some(0), "{}", stderr(&result));
    assert!(fs::read(movie).unwrap().starts_with(b"GIF89a"));

    // Refused before anything is painted.
    fs::remove_file(files.path("out.png")).unwrap();
    let wrong = [
        ("--evolution", "e.txt", ".png"),
        ("--plot", "p.png", ".svg"),
    ];
    for (option, name, word) in wrong {
        let refused = files.stylize("out.png", &[option, &files.path(name)]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(word), "{}", stderr(&refused));
    }
    assert!(!files.listing().contains(&"out.png".to_string()));
}

#[test]
fn colours_pools_and_borders_are_chosen_on_the_command_line() {
    let files = Files::new();
    let mut seen = Vec::new();
    for (index, options) in [
        &[][..],
        &["--colors", "luminance-yuv"],
        &["--colors", "cholesky"],
        &["--neighbors-weight", "9", "--tv-weight", "1e-3"],
        &["--recipe", "gram"],
        &["--recipe", "gram", "--style-loss", "mean-std"],
        &["--recipe", "wasserstein"],
        &["--pooling", "average"],
        &["--padding", "reflect"],
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{index}.png");
        let result = files.stylize(&name, &[options, &["--iterations", "20"]].concat());
        assert_eq!(result.status.code(), Some(0), "{}", stderr(&result));
        let bytes = fs::read(files.path(&name)).unwrap();
        assert!(!seen.contains(&bytes), "{options:?} changes nothing");
        seen.push(bytes);
    }
    let refused = files.stylize("out.png", &["--colors", "sepia"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("symmetric"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn masks_confine_a_style() {
    let files = Files::new();
    let mask = |name: &str, value: fn(usize) -> f32| {
        let rgb = (0..40 * 30).flat_map(|i| [value(i % 40); 3]).collect();
        let picture = Picture::from_rgb(40, 30, rgb).unwrap();
        picture.save(files.path(name)).unwrap();
        files.path(name)
    };
    let left = mask("left.png", |x| f32::from(x < 10));
    let black = mask("black.png", |_| 0.0);
    let plain = files.stylize("plain.png", &["--iterations", "20"]);
    assert!(plain.status.success());
    let masked = files.stylize("masked.png", &["--iterations", "20", "--mask", &left]);
    assert_eq!(masked.status.code(), Some(0), "{}", stderr(&masked));
    let open = |name| Picture::open(files.path(name)).unwrap();
    assert!(difference(&open("plain.png"), &open("masked.png")) > 1e-3);
    let options = ["--mask", &left, "--style-mask", &left, "--dry-run"];
    let planned = files.stylize("out.png", &options);
    let plan = String::from_utf8(planned.stdout).unwrap();
    assert!(plan.contains("25.0 % of the picture"), "{plan}");
    for (options, word) in [
        (&["--mask", &black][..], "region of style 1 is empty"),
        (
            &["--mask", &left, "--style-mask", &black],
            "style 1 is empty",
        ),
        (&["--mask", &left, "--mask", &left], "2 times for 1 styles"),
        (&["--style-mask", &left], "--mask"),
    ] {
        let refused = files.stylize("out.png", options);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(word), "{}", stderr(&refused));
    }
    assert!(!files.listing().contains(&"out.png".to_string()));
}
