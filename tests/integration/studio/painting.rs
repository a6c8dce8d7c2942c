//! What the studio paints.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use impasto::Picture;
use serde_json::json;

use super::client::Studio;
use crate::chromium::PATIENCE;
use crate::cli::{Files, impasto, interrupt, run, stderr};

#[test]
fn a_job_is_the_command_that_the_page_shows() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    let mask = Picture::from_rgb(4, 3, (0..36).map(|i| (i / 18) as f32).collect()).unwrap();
    mask.save(files.path("mask.png")).unwrap();
    let mask = fs::read(files.path("mask.png")).unwrap();
    let mask = studio.post("/api/pictures", "image/png", &mask).json()["id"].clone();
    let mut plain = studio.settings(json!({"size": 48, "iterations": 3, "tv_weight": 3e5}));
    let first = studio.paint(&plain);
    // Its result is a picture of the next.
    studio.wait_for(first, "done");
    // With a mask for one of the styles, from the first result.
    plain["styles"][1]["mask"] = mask;
    plain["start"] = json!(format!("job-{first}"));
    plain["recipe"] = json!("impasto");
    plain["options"] = json!({"size": 48, "strength": 0.7, "colors": "luminance-lab", "seed": 7});
    let second = studio.paint(&plain);
    for id in [first, second] {
        let job = studio.wait_for(id, "done");
        let result = studio.get(&format!("/api/jobs/{id}/result"));
        assert!(result.head.contains("impasto-"), "{}", result.head);
        let words = shlex::split(job["command"].as_str().unwrap()).unwrap();
        assert_eq!(words[0], "impasto");
        let mut words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let output = words.iter().position(|word| *word == "-o").unwrap();
        let copy = files.path("copy.png");
        words[output + 1] = &copy;
        let painted = run(&words);
        assert!(painted.status.success(), "{}", stderr(&painted));
        assert!(fs::read(&copy).unwrap() == result.body, "job {id}");
        let curves = studio.get(&format!("/api/jobs/{id}/curves")).json();
        let evaluations = job["progress"]["evaluation"].as_u64().unwrap();
        assert_eq!(curves.as_array().unwrap().len() as u64, evaluations);
        assert!(curves[0]["total"].as_f64().unwrap() > 0.0);
    }
    // What a page shows of it.
    let shown = studio.get(&format!("/api/pictures/job-{second}?small=true"));
    assert_eq!(&shown.body[1..4], b"PNG");
    let preview = studio.get(&format!("/api/jobs/{second}/preview"));
    assert_eq!(preview.body[..2], [0xff, 0xd8]);
    studio.end();
}

#[test]
fn a_job_is_steered_paused_and_survives_the_program() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    let mut settings = studio.settings(json!({"size": 96, "iterations": 100000}));
    let id = studio.paint(&settings);
    let other = studio.paint(&studio.settings(json!({"size": 48, "iterations": 2})));
    // Where a step no longer changes the losses by much.
    let settled = |job: &serde_json::Value| {
        job["progress"]["width"] == 96 && job["progress"]["iteration"].as_u64() > Some(60)
    };
    studio.wait(id, "steps", settled);

    // Weights and the blend act on the losses of the steps to come.
    settings["options"]["style_weight"] = json!(40000.0);
    settings["styles"][1]["weight"] = json!(3.0);
    let steer = format!("/api/jobs/{id}/steer");
    assert_eq!(studio.send(&steer, &settings).status, 202);
    let job = studio.wait(id, "steering", |job| job["steering"][0].is_object());
    assert_eq!(job["steering"][0]["settings"], settings);
    let after = job["steering"][0]["evaluation"].as_u64().unwrap();
    studio.wait(id, "points", |job| {
        job["progress"]["evaluation"].as_u64().unwrap() > after + 2
    });
    let curves = studio.get(&format!("/api/jobs/{id}/curves")).json();
    let style = |steered: bool| {
        let points = curves.as_array().unwrap().iter();
        let mut of = points.filter(|p| (p["evaluation"].as_u64() > Some(after)) == steered);
        let point = if steered { of.next() } else { of.next_back() };
        point.unwrap()["terms"]["style"].as_f64().unwrap()
    };
    assert!(
        style(true) > 2.0 * style(false),
        "{} {}",
        style(true),
        style(false)
    );
    // What cannot be changed is refused, and the job goes on.
    let mut wrong = settings.clone();
    wrong["content"] = settings["styles"][0]["picture"].clone();
    assert_eq!(studio.send(&steer, &wrong).status, 422);
    wrong = settings.clone();
    wrong["options"]["size"] = json!(128);
    assert_eq!(studio.send(&steer, &wrong).status, 202);
    let job = studio.wait(id, "a message", |job| job["message"].is_string());
    assert!(job["message"].as_str().unwrap().contains("size"), "{job}");

    // While it is paused, the other is painted.
    assert_eq!(studio.act(id, "pause"), 202);
    studio.wait_for(other, "done");
    let paused = studio.wait_for(id, "paused");
    let evaluations = |job: &serde_json::Value| job["progress"]["evaluation"].as_u64().unwrap();
    assert_eq!(studio.act(id, "pause"), 409);
    studio.end();

    // Another start of the program: the same jobs, and the paused one goes on where it was.
    let studio = Studio::start(files.folder.path());
    let again = studio.job(id);
    assert_eq!(again["status"], "paused");
    assert_eq!(again["steering"][0]["settings"], settings);
    assert_eq!(evaluations(&again), evaluations(&paused));
    assert_eq!(studio.job(other)["status"], "done");
    assert_eq!(studio.act(id, "continue"), 202);
    let job = studio.wait(id, "more steps", |job| {
        evaluations(job) > evaluations(&paused) + 3
    });
    assert_eq!(job["status"], "painting");
    studio.end();

    // One that was painted when the program ended goes on by itself.
    let studio = Studio::start(files.folder.path());
    studio.wait(id, "steps", |now| evaluations(now) > evaluations(&job) + 3);
    assert_eq!(studio.act(id, "finish"), 202);
    studio.wait_for(id, "stopped");
    let history = studio.get(&format!("/api/jobs/{id}/history")).json();
    assert_eq!(history["steering"][0]["settings"], settings);
    let result = studio.get(&format!("/api/jobs/{id}/result"));
    let path = files.write("steered.png", &result.body);
    let shown = impasto(&["show", &path, "--json"]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["recipe"]["style_weight"], 40000.0, "{shown}");
    assert_eq!(studio.act(id, "remove"), 202);
    assert_eq!(studio.jobs().len(), 1);
    assert!(!files.folder.path().join(format!("jobs/{id}")).exists());
    // No other job gets its number, after another start either.
    assert_eq!(studio.act(other, "remove"), 202);
    studio.end();
    let studio = Studio::start(files.folder.path());
    assert_eq!(studio.paint(&settings), other + 1);
}

#[test]
fn a_job_that_cannot_be_painted_says_why() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    let settings = studio.settings(json!({"size": 48}));
    let change = |name: &str, value: serde_json::Value| {
        let mut settings = settings.clone();
        settings[name] = value;
        let answer = studio.send("/api/jobs", &settings);
        (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        )
    };
    for (name, value, words) in [
        ("styles", json!([]), "choose a style"),
        ("recipe", json!("--output=x"), "no recipe"),
        ("recipe", json!("../../etc/passwd"), "no recipe"),
        ("content", json!("0".repeat(32)), "choose it again"),
        ("content", json!("../lock"), "no picture"),
        ("content", json!("job-99"), "choose it again"),
        ("options", json!({"strength": 2}), "strength"),
        ("options", json!({"content_weight": -1}), "content_weight"),
        ("options", json!({"size": 0}), "size"),
        ("options", json!({"output": "x"}), "unknown field"),
        ("colors", json!("style"), "unknown field"),
    ] {
        let (status, body) = change(name, value.clone());
        assert_eq!(status, 422, "{value}: {body}");
        assert!(body.contains(words), "{value}: {body}");
    }
    // What only painting finds out.
    let (status, body) = change("options", json!({"size": 60000}));
    assert_eq!(status, 200, "{body}");
    let failed = studio.wait_for_failure();
    assert!(failed.contains("pixels"), "{failed}");
}

#[test]
fn live_shows_a_run_that_goes_on() {
    let files = Files::new();
    let (output, checkpoint) = (files.path("out.png"), files.path("checkpoint"));
    let arguments = [
        &["stylize", &files.scene, &files.style, "-o", &output, "-q"][..],
        &["--encoder", "builtin", "--recipe", "gram", "--size", "64"],
        &["--iterations", "100000", "--checkpoint", &checkpoint],
        &["--checkpoint-every", "0"],
    ];
    let mut child = impasto(&arguments.concat()).spawn().unwrap();
    let began = Instant::now();
    while !Path::new(&checkpoint).exists() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let studio = Studio::run(&["resume", &checkpoint, "--live"], "Live at ");
    let mut events = studio.events();
    let step = events.find(|event| event["type"] == "step").unwrap();
    assert!(step["progress"]["evaluation"].as_u64().unwrap() > 1);
}

/// A command that is running shows its run to whoever looks, and to nobody else.
#[test]
fn live_shows_a_running_command() {
    let files = Files::new();
    let studio = Studio::live(&files, "96");
    let info = studio.get("/api/info").json();
    assert_eq!(info["read_only"], true);
    let mut events = studio.events();
    let step = events.find(|event| event["type"] == "step").unwrap();
    assert!(step["points"][0]["total"].as_f64().unwrap() > 0.0);
    let id = step["id"].as_u64().unwrap();
    let job = studio.job(id);
    assert!(job["title"].as_str().unwrap().ends_with("out.png"));
    let preview = studio.get(&format!("/api/jobs/{id}/preview"));
    assert_eq!(preview.body[..2], [0xff, 0xd8]);
    assert_eq!(studio.act(id, "finish"), 403);
    assert_eq!(studio.post("/api/pictures", "image/png", b"x").status, 403);
    assert_eq!(studio.get(&format!("/api/jobs/{id}/result")).status, 404);
}
