//! The page in a browser.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Studio;
use crate::chromium::Browser;
use crate::cli::Files;
use crate::repository;

#[test]
#[ignore = "needs Chromium"]
fn a_picture_is_painted_in_the_browser() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    let mut browser = Browser::start();
    browser.resize(1280, 900);
    browser.open(&studio.address, "Connected");

    // Two pictures, and the first look.
    let [scene, swirls] = ["scene", "swirls"].map(|name| repository(&format!("assets/{name}.jpg")));
    browser.choose("#content-file", &[&scene]);
    browser.wait("document.querySelector('#content-shown img').naturalWidth > 0");
    browser.choose("#style-file", &[&swirls]);
    browser.wait("document.querySelectorAll('#styles li').length === 1");
    browser.set("#size", "256");
    let began = Instant::now();
    browser.press("Paint");
    browser.wait("document.querySelector('#after').naturalWidth > 0");
    println!("first look after {:?}", began.elapsed());
    browser.wait("document.querySelector('#job-status').textContent.startsWith('done')");
    println!("256 pixels after {:?}", began.elapsed());
    browser.screenshot("done");

    // A longer one, whose picture and losses change as it is painted and steered.
    browser.set("#recipe", "gram");
    browser.set("#iterations", "100000");
    browser.press("Paint");
    browser.wait("document.querySelector('#job-title').textContent.startsWith('2')");
    // At its last scale, with curves of its own.
    browser.wait(
        "/scale (\\d) of \\1, 256 ×.* step \\d{2}/.test(document.querySelector('#job-status').textContent)",
    );
    browser.wait("document.querySelector('#legend')?.textContent.includes('style')");
    let shown = browser.evaluate("document.querySelector('#after').src");
    browser.wait(&format!("document.querySelector('#after').src !== {shown}"));
    let style = "Number([...document.querySelectorAll('#legend span')]
        .find((one) => one.textContent.startsWith('style')).textContent.split(' ')[1])";
    let before = browser.evaluate(style).as_f64().unwrap();
    browser.set("#style_weight", "3");
    browser.wait(&format!("{style} > {}", 2.0 * before));
    let id = 2;
    let job = studio.job(id);
    let settings = &job["steering"][0]["settings"];
    assert!(settings["options"]["style_weight"].is_number(), "{job}");
    browser.screenshot("painting");

    // It survives a reload, paused, with the form as it was.
    browser.press("Pause");
    browser.wait("document.querySelector('#job-status').textContent.startsWith('paused')");
    let known = browser.evaluate("document.querySelector('#job-status').textContent");
    browser.call("Page.reload", json!({}));
    std::thread::sleep(Duration::from_millis(300));
    browser.wait("document.readyState === 'complete'");
    browser.wait(&format!(
        "document.querySelector('#job-status')?.textContent === {known}"
    ));
    browser.wait("document.querySelectorAll('#styles li').length === 1");
    assert_eq!(
        browser.evaluate("document.querySelector('#recipe').value"),
        "gram"
    );
    browser.wait("document.querySelector('#content-shown img').naturalWidth > 0");
    browser.wait("document.querySelector('#legend span') !== null");

    // It goes on, is finished, and is what the download gives.
    browser.press("Go on");
    browser.wait("document.querySelector('#job-status').textContent.startsWith('is painted')");
    browser.press("Finish now");
    browser.wait("document.querySelector('#job-status').textContent.startsWith('finished early')");
    browser.wait("document.querySelector('#after').src.includes('job-2')");
    let length = browser.evaluate(
        "fetch(document.querySelector('#job-actions a').href).then((r) => r.blob()).then((b) => b.size)",
    );
    let result = studio.get(&format!("/api/jobs/{id}/result"));
    assert_eq!(length, result.body.len());
    browser.set("#compare", "50");
    browser.wait("!document.querySelector('#before').hidden");
    browser.screenshot("compare");
    browser.press("Zoom to pixels");
    let width = browser.evaluate("document.querySelector('#frame').offsetWidth");
    assert_eq!(width, 256);
    browser.press("Zoom to pixels");

    // Restarted from where it stands, which is another job that starts from this one.
    browser.press("Paint");
    browser.wait("document.querySelector('#job-title').textContent.startsWith('3')");
    browser
        .wait("document.querySelector('#job-status').textContent.startsWith('is painted: scale')");
    browser.press("Restart from here");
    browser.wait("document.querySelectorAll('#job-list li').length === 4");
    assert_eq!(studio.job(4)["settings"]["start"], "job-3");
    browser.wait("document.querySelector('#job-title').textContent.startsWith('4')");
    for left in [3, 2] {
        browser.press("Delete");
        browser.wait(&format!(
            "document.querySelectorAll('#job-list li').length === {left}"
        ));
    }
    browser.wait("document.querySelector('#job-title').textContent.startsWith('2')");

    // A second style, dropped.
    browser.evaluate(
        "(async () => {
            const answer = await fetch(document.querySelector('#styles img').src);
            const data = new DataTransfer();
            data.items.add(new File([await answer.blob()], 'style.png'));
            const drop = new DragEvent('drop', {dataTransfer: data, cancelable: true});
            document.querySelector('#style-drop').dispatchEvent(drop);
        })()",
    );
    browser.wait("document.querySelectorAll('#styles li').length === 2");
    browser.press("Remove");
    browser.wait("document.querySelectorAll('#styles li').length === 1");

    // A mask by keyboard alone.
    browser.press("Everywhere …");
    browser.wait("document.querySelector('#mask-editor').open");
    browser.wait("document.activeElement.id === 'mask-canvas'");
    for key in [" ", "ArrowLeft", "ArrowLeft", " ", "ArrowUp", " "] {
        browser.key(key);
    }
    browser.screenshot("mask");
    browser.press("Done");
    browser.wait("document.querySelector('#styles button').textContent.startsWith('Painted')");

    // Every control has a name; nothing is wider than a phone; nothing was complained about.
    let unnamed = browser.evaluate(
        "[...document.querySelectorAll('input, select, button, canvas, progress')].filter((one) =>
            !(one.labels?.length || one.getAttribute('aria-label') ||
                (one.tagName === 'BUTTON' && one.textContent.trim())))
            .map((one) => one.outerHTML)",
    );
    assert_eq!(unnamed, json!([]));
    for (width, height, name) in [
        (360, 740, "phone"),
        (768, 1024, "tablet"),
        (1440, 900, "desk"),
    ] {
        browser.resize(width, height);
        for dark in [false, true] {
            browser.set_dark(dark);
            std::thread::sleep(Duration::from_millis(200));
            let wide = browser.evaluate("document.documentElement.scrollWidth");
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{name}: {wide}");
            let shade = if dark { "dark" } else { "light" };
            browser.screenshot(&format!("{name}-{shade}"));
        }
    }
    // But for a picture of a job that was deleted while it was fetched.
    let deleted = |complaint: &Value| {
        let url = complaint["entry"]["url"].as_str().unwrap_or_default();
        let pictures = ["/jobs/3/", "/jobs/4/", "job-3", "job-4"];
        pictures.iter().any(|job| url.contains(job))
    };
    browser.complaints.retain(|complaint| !deleted(complaint));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// A page that only looks: the picture and its curves, and nothing to press.
#[test]
#[ignore = "needs Chromium"]
fn a_running_command_is_watched_in_the_browser() {
    let files = Files::new();
    let studio = Studio::live(&files, "128");
    let mut browser = Browser::start();
    browser.open(&studio.address, "Connected");
    browser.wait("document.querySelector('#after').naturalWidth > 0");
    let shown = browser.evaluate("document.querySelector('#after').src");
    browser.wait(&format!("document.querySelector('#after').src !== {shown}"));
    browser.wait("document.querySelector('#legend')?.textContent.includes('style')");
    let status = browser.evaluate("document.querySelector('#job-status').textContent");
    browser.wait(&format!(
        "document.querySelector('#job-status').textContent !== {status}"
    ));
    let title = browser.evaluate("document.querySelector('#job-title').textContent");
    assert!(title.as_str().unwrap().ends_with("out.png"), "{title}");
    assert_eq!(
        browser.evaluate("document.querySelector('#controls').hidden"),
        true
    );
    assert_eq!(
        browser.evaluate("document.querySelectorAll('#job-actions > *').length"),
        0
    );
    browser.screenshot("live");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
