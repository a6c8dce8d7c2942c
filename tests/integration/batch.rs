//! `impasto batch`, and the options that say where and how large styles are painted.

use std::fs;

use impasto::Picture;

#[cfg(unix)]
use crate::cli::interrupt;
use crate::cli::{Files, run, stderr};

/// A batch of the given contents in one style.
fn batch(files: &Files, contents: &[&str], output: &str, options: &[&str]) -> std::process::Output {
    let pattern = files.path(output);
    let mut arguments = vec!["batch"];
    arguments.extend(contents);
    arguments.extend(["--style", &files.style, "-o", &pattern]);
    arguments.extend(files.quickly());
    arguments.extend(options);
    run(&arguments)
}

/// A picture of its own for every name.
fn contents(files: &Files, names: &[&str]) -> Vec<String> {
    let scene = Picture::open(&files.scene).unwrap();
    let path = |(index, name): (usize, &&str)| {
        let path = files.path(name);
        let (width, height) = (60 + 10 * index, 50);
        scene.resize(width, height).save(&path).unwrap();
        path
    };
    names.iter().enumerate().map(path).collect()
}

#[test]
fn a_batch_paints_each_picture_as_stylize_would() {
    let files = Files::new();
    let contents = contents(&files, &["one.png", "two.png", "three.png"]);
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let log = files.path("{name}.jsonl");
    let output = batch(&files, &contents, "{name}-painted.png", &["--log", &log]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("picture 3 of 3"));
    for (name, content) in ["one", "two", "three"].into_iter().zip(&contents) {
        let single = files.path("single.png");
        let arguments = ["stylize", content, &files.style, "-o", &single];
        let alone = run(&[&arguments[..], &files.quickly()].concat());
        assert!(alone.status.success(), "{}", stderr(&alone));
        let painted = fs::read(files.path(&format!("{name}-painted.png"))).unwrap();
        assert!(painted == fs::read(&single).unwrap(), "{name}");
        let log = fs::read_to_string(files.path(&format!("{name}.jsonl"))).unwrap();
        assert_eq!(log.lines().count(), 3);
    }

    // Tiles of 16 pixels suit shallow layers only.
    let shallow = ["--content-layers", "relu2_1", "--style-layers", "relu1_1"];
    let gram = ["--recipe", "gram", "--tile", "16", "--dry-run"];
    let options = [&shallow[..], &gram].concat();
    let planned = batch(&files, &contents, "{name}-tiled.png", &options);
    let plans = String::from_utf8(planned.stdout).unwrap();
    assert_eq!(plans.matches(" tiles, ").count(), 3, "{plans}");

    // What exists can be left as it is.
    let marked = files.path("two-painted.png");
    fs::write(&marked, b"mine").unwrap();
    fs::remove_file(files.path("one-painted.png")).unwrap();
    let again = batch(
        &files,
        &contents,
        "{name}-painted.png",
        &["--skip-existing"],
    );
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(fs::read(&marked).unwrap(), b"mine");
    assert!(files.listing().contains(&"one-painted.png".to_string()));
}

#[test]
fn one_bad_picture_does_not_cost_the_others() {
    let files = Files::new();
    let good = contents(&files, &["good.png", "last.png"]);
    let bad = files.path("bad.png");
    fs::write(&bad, b"no picture").unwrap();
    let output = batch(&files, &[&bad, &good[0], &good[1]], "out-{name}.png", &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("bad.png") && text.contains("1 of 3"),
        "{text}"
    );
    let listing = files.listing();
    assert!(listing.contains(&"out-good.png".to_string()));
    assert!(listing.contains(&"out-last.png".to_string()));
    assert!(!listing.contains(&"out-bad.png".to_string()));
}

#[test]
fn a_batch_that_would_overwrite_itself_is_refused_before_it_begins() {
    let files = Files::new();
    let contents = contents(&files, &["one.png", "two.png"]);
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let log = files.path("log");
    for (output, options, word) in [
        ("out.png", vec![], "{name}"),
        ("{name}.out.png", vec!["--log", log.as_str()], "{name}"),
        ("missing/{name}.png", vec![], "does not exist"),
        ("{name}.txt", vec![], "txt"),
        (
            "{name}-x.png",
            vec!["--style-blend", "1,2"],
            "--style-blend",
        ),
    ] {
        let output = batch(&files, &contents, output, &options);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
    let missing = files.path("missing.png");
    let output = batch(&files, &[contents[0], &missing], "{name}-x.png", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("missing.png"));
    assert_eq!(files.listing(), ["one.png", "two.png"]);
}

#[test]
fn a_batch_does_not_write_over_what_it_reads() {
    let files = Files::new();
    let contents = contents(&files, &["a.png", "a-p.png"]);
    let before = fs::read(&contents[1]).unwrap();
    let output = batch(&files, &[&contents[0], &contents[1]], "{name}-p.png", &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("a-p.png: the result (--output) would overwrite a picture to paint"));
    assert_eq!(fs::read(&contents[1]).unwrap(), before);
}

/// Ctrl-C in the middle: the picture in work is not written, so that it is not taken for finished.
#[cfg(unix)]
#[test]
fn an_interrupted_batch_goes_on_with_the_picture_it_was_at() {
    let files = Files::new();
    let contents = contents(&files, &["one.png", "two.png"]);
    let pattern = files.path("{name}-painted.png");
    let start = |iterations: &str| {
        let mut arguments = vec!["batch", &contents[0], &contents[1], "--style", &files.style];
        arguments.extend(["-o", &pattern, "--weights", &files.weights, "--size", "48"]);
        arguments.extend(["--skip-existing", "--iterations", iterations]);
        let mut command = crate::cli::impasto(&arguments);
        command
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = start("1000000");
    let lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines).map(Result::unwrap);
    assert!(lines.any(|line| line.contains("step 1/")));
    interrupt(&child);
    assert!(lines.any(|line| line.contains("one-painted.png is not written")));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(files.listing(), ["one.png", "two.png"]);

    let output = start("3").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(files.listing().contains(&"one-painted.png".to_string()));
}

/// Two halves in the given colours.
fn map(files: &Files, name: &str, left: [f32; 3], right: [f32; 3]) -> String {
    let rgb = (0..40 * 30).flat_map(|i| if i % 40 < 20 { left } else { right });
    let path = files.path(name);
    let picture = Picture::from_rgb(40, 30, rgb.collect()).unwrap();
    picture.save(&path).unwrap();
    path
}

#[test]
fn maps_of_colours_are_as_good_as_masks() {
    let files = Files::new();
    let (red, green) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
    let (black, white) = ([0.0; 3], [1.0; 3]);
    let content = map(&files, "content.png", red, green);
    let style = map(&files, "style.png", green, red);
    let regions = ["--regions", &content, "--style-regions", &style];
    let output = files.stylize("colours.png", &regions);
    assert!(output.status.success(), "{}", stderr(&output));

    // The same in masks: two styles, each with its half. Red comes first in both, since colours of the
    // same size are in their own order.
    let left = map(&files, "left.png", white, black);
    let right = map(&files, "right.png", black, white);
    let masks = ["--mask", &right, "--mask", &left];
    let sources = ["--style-mask", &left, "--style-mask", &right];
    let masked = files.path("masked.png");
    let arguments = [
        "stylize",
        &files.scene,
        &files.style,
        &files.style,
        "-o",
        &masked,
    ];
    let output = run(&[&arguments[..], &files.quickly(), &masks, &sources].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read(files.path("colours.png")).unwrap() == fs::read(&masked).unwrap());

    let other = map(&files, "other.png", green, [0.0, 0.0, 1.0]);
    let output = files.stylize(
        "no.png",
        &["--regions", &content, "--style-regions", &other],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("#ff0000"), "{}", stderr(&output));
}

#[test]
fn single_options_override_the_recipe() {
    let files = Files::new();
    let plan = |options: &[&str]| {
        let output = files.stylize("out.png", &[&["--dry-run"], options].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let crowsonkb = plan(&["--recipe", "crowsonkb", "--size", "256"]);
    for words in [
        "128 px × 1000 steps, 181 px × 500 steps, 256 px × 3 steps",
        "padding replicate",
        "moments carried",
        "decay 0.99",
        "each step clamped",
    ] {
        assert!(crowsonkb.contains(words), "{words}: {crowsonkb}");
    }
    let changed = plan(&[
        "--recipe",
        "crowsonkb",
        "--size",
        "256",
        "--coarse-iterations",
        "7,5",
        "--averaging",
        "0",
        "--carry-moments=false",
        "--padding",
        "zero",
        "--style-size",
        "300",
        "--style-scale",
        "0.5",
    ]);
    for words in [
        "128 px × 7 steps, 181 px × 5 steps, 256 px × 3 steps",
        "decay 0\n",
        "0.5 × 300 px",
        "padding zero",
    ] {
        assert!(changed.contains(words), "{words}: {changed}");
    }
    assert!(!changed.contains("moments carried"));
    // Layers keep the weights that the recipe gives them, if it knows them all.
    let layers = |layers: &str| plan(&["--recipe", "crowsonkb", "--style-layers", layers]);
    assert!(layers("relu3_1,relu1_1").contains("1 × relu3_1:4.692e-2 relu1_1:7.507e-1 ("));
    assert!(layers("relu3_1,relu3_2").contains("1 × relu3_1:5.000e-1 relu3_2:5.000e-1 ("));
    assert!(layers("relu3_1:2,relu3_2").contains("1 × relu3_1:2.000e0 relu3_2 ("));
    // L-BFGS has no moments to carry; asked for outright, it is refused.
    assert!(!plan(&["--recipe", "crowsonkb", "--optimizer", "lbfgs"]).contains("clamped"));
    let refused = files.stylize("out.png", &["--carry-moments"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("Adam"), "{}", stderr(&refused));
    let refused = files.stylize("out.png", &["--style-scale", "1,2"]);
    assert!(stderr(&refused).contains("2 scales for 1 styles"));
}

/// Shards are disjoint and complete, and two processes share what neither has claimed.
#[test]
fn a_batch_is_divided_among_processes() {
    let files = Files::new();
    let names: Vec<String> = (0..5).map(|index| format!("content{index}.png")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let contents = contents(&files, &names);
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let painted = |folder: &str| {
        let exists = |index: &usize| {
            let path = files.path(&format!("{folder}/content{index}.png"));
            fs::metadata(path).is_ok()
        };
        (0..5).filter(exists).collect::<Vec<usize>>()
    };
    fs::create_dir(files.path("shards")).unwrap();
    for (shard, expected) in [("2/2", vec![1, 3]), ("1/2", vec![0, 1, 2, 3, 4])] {
        let output = batch(&files, &contents, "shards/{name}.png", &["--shard", shard]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(painted("shards"), expected);
    }
    let none = batch(&files, &contents, "shards/{name}.png", &["--shard", "9/9"]);
    assert!(none.status.success(), "{}", stderr(&none));

    // As tasks of a job array of Slurm.
    fs::create_dir(files.path("array")).unwrap();
    let pattern = files.path("array/{name}.png");
    let command = |folder: &str, options: &[&str]| {
        let mut command = crate::cli::impasto(&["batch"]);
        command.args(&contents).args(["--style", &files.style]);
        command
            .args(["-o", folder])
            .args(files.quickly())
            .args(options);
        command
    };
    let mut task = command(&pattern, &["--shard", "auto"]);
    let alone = task.output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
    assert!(stderr(&alone).contains("--shard 2/4"), "{}", stderr(&alone));
    for (name, value) in [("ID", "7"), ("MIN", "3"), ("STEP", "2"), ("COUNT", "3")] {
        task.env(format!("SLURM_ARRAY_TASK_{name}"), value);
    }
    assert!(task.output().unwrap().status.success());
    assert_eq!(painted("array"), [2]);

    // Processes of a launcher that would all paint the same.
    let mut process = command(&pattern, &[]);
    process.env("PMI_RANK", "1").env("PMI_SIZE", "2");
    let refused = process.output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--shard auto"));

    // Three processes without shards: each picture is painted by one of them.
    fs::create_dir(files.path("shared")).unwrap();
    let pattern = files.path("shared/{name}.png");
    let children = (0..3).map(|_| {
        let mut command = command(&pattern, &["--skip-existing"]);
        command
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    });
    let children: Vec<_> = children.collect();
    let mut summaries = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        summaries += stderr(&output).matches(" evaluations in ").count();
    }
    assert_eq!(painted("shared"), [0, 1, 2, 3, 4]);
    assert_eq!(summaries, 5);
    assert_eq!(fs::read_dir(files.path("shared")).unwrap().count(), 5);
}
