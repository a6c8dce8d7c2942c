//! The page without a server, in Chromium: what `web/build` has built into `IMPASTO_WEB` (by default `web/dist`).

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use burn::backend::{Autodiff, Flex};
use impasto::{Picture, Recipe, StyleTransfer, Vgg19};
use serde_json::{Value, json};

use crate::chromium::Browser;
use crate::repository;

/// A web server of files, as simple as they come, until it is dropped.
struct Server {
    port: u16,
    ends: Arc<AtomicBool>,
}

impl Server {
    /// Serves a folder, all but a file of this name.
    fn start(folder: PathBuf, missing: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let folder = folder.clone();
                // A browser opens connections on which it says nothing.
                thread::spawn(move || serve(&folder, missing, stream?));
            }
        });
        Self { port, ends }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(folder: &Path, missing: &str, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let address = first.split([' ', '?']).nth(1).unwrap_or("/");
    let name = address.trim_start_matches('/');
    let name = if name.is_empty() { "index.html" } else { name };
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("svg") => "image/svg+xml",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    };
    let (status, body) = match std::fs::read(folder.join(name)) {
        Ok(body) if name != missing => ("200 OK", body),
        _ => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(&body)
}

/// The page in a browser, without one of its files.
fn open(missing: &'static str) -> (Server, Browser) {
    let folder = std::env::var_os("IMPASTO_WEB").map_or(repository("web/dist"), PathBuf::from);
    assert!(folder.join("index.html").exists(), "run web/build first");
    let server = Server::start(folder, missing);
    let mut browser = Browser::start();
    browser.resize(1280, 900);
    let began = Instant::now();
    browser.open(&server.address(), "Paints");
    println!("the page is there after {:?}", began.elapsed());
    (server, browser)
}

fn choose_pictures(browser: &mut Browser) {
    let [scene, swirls] = ["scene", "swirls"].map(|name| repository(&format!("assets/{name}.jpg")));
    browser.choose("#content-file", &[&scene]);
    browser.wait("document.querySelector('#content-shown img').naturalWidth > 0");
    browser.choose("#style-file", &[&swirls]);
    browser.wait("document.querySelectorAll('#styles li').length === 1");
}

/// The expression for what the browser keeps under a name.
fn get(name: &str) -> String {
    format!(
        "new Promise((done) => {{
            indexedDB.open('impasto').onsuccess = ({{ target }}) => {{
                const store = target.result.transaction('kept').objectStore('kept');
                store.get('{name}').onsuccess = ({{ target }}) => done(target.result);
            }};
        }})"
    )
}

/// What is known of a job.
fn kept_job(browser: &mut Browser, id: u64) -> Value {
    browser.evaluate(&get(&format!("job/{id}")))
}

/// The result of a job.
fn result(browser: &mut Browser, id: u64) -> Picture {
    let encoded = browser.evaluate(&format!(
        "{}.then((blob) => new Promise((done) => {{
            const reader = new FileReader();
            reader.onload = () => done(reader.result.split(',')[1]);
            reader.readAsDataURL(blob);
        }}))",
        get(&format!("result/{id}"))
    ));
    let bytes = BASE64_STANDARD.decode(encoded.as_str().unwrap()).unwrap();
    Picture::from_bytes(&bytes, "painted").unwrap()
}

fn wait_for(browser: &mut Browser, status: &str) {
    browser.wait(&format!(
        "document.querySelector('#job-status').textContent.startsWith('{status}')"
    ));
}

/// The losses and the picture of the same run here.
fn native(recipe: Recipe) -> (Vec<f64>, Picture) {
    let encoder = Vgg19::<Autodiff<Flex>>::builtin(&Default::default());
    let mut losses = Vec::new();
    let outcome = StyleTransfer::new(&encoder)
        .content(Picture::open(repository("assets/scene.jpg")).unwrap())
        .style(Picture::open(repository("assets/swirls.jpg")).unwrap(), 1.0)
        .recipe(recipe)
        .on_step(|step| {
            losses.push(step.losses.weighted());
            ControlFlow::Continue(())
        })
        .run()
        .unwrap();
    (losses, outcome.picture)
}

/// Whether the curves of a job begin with these losses.
fn assert_losses(job: &Value, expected: &[f64]) {
    let curves = job["curves"].as_array().unwrap();
    assert!(curves.len() >= expected.len(), "{curves:?}");
    for (point, expected) in curves.iter().zip(expected) {
        let found = point["total"].as_f64().unwrap();
        assert!(
            (found - expected).abs() <= 1e-4 * expected.abs(),
            "{found} {expected}"
        );
    }
}

/// The mean and the largest difference of two pictures, of 255.
fn differences(a: &Picture, b: &Picture) -> [f64; 2] {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let differences = a.rgb().iter().zip(b.rgb());
    let differences = differences.map(|(a, b)| 255.0 * f64::from((a - b).abs()));
    let (sum, largest) = differences.fold((0.0, 0f64), |(sum, largest), difference| {
        (sum + difference, largest.max(difference))
    });
    [sum / a.rgb().len() as f64, largest]
}

#[test]
#[ignore = "needs Chromium, and web/build before"]
fn the_web_page_paints_what_the_program_paints() {
    // The first steps of the default recipe, where the page may not share memory between threads.
    let first_steps = |browser: &mut Browser| {
        choose_pictures(browser);
        for size in [64, 128] {
            let option = format!("new Option('{size} pixels', {size})");
            browser.evaluate(&format!("document.querySelector('#size').append({option})"));
        }
        browser.set("#size", "64");
        browser.set("#iterations", "5");
        browser.press("Paint");
        wait_for(browser, "done");
        result(browser, 1)
    };
    let (server, mut browser) = open("service-worker.js");
    assert_eq!(browser.evaluate("crossOriginIsolated"), false);
    let by_one_thread = first_steps(&mut browser);
    drop((server, browser));

    // With threads: the same bytes, and the losses and the picture of the library here.
    let (_server, mut browser) = open("");
    assert_eq!(browser.evaluate("crossOriginIsolated"), true);
    let painted = first_steps(&mut browser);
    assert_eq!(painted, by_one_thread);
    let recipe = Recipe {
        iterations: 5,
        ..Recipe::default().with_longest_side(64)
    };
    let (losses, picture) = native(recipe);
    assert_losses(&kept_job(&mut browser, 1), &losses);
    let [mean, largest] = differences(&painted, &picture);
    println!("first steps: differences of {mean:.3} in the mean, {largest:.3} at most");
    assert!(largest <= 2.0, "{largest}");

    // All steps at 128 and 256 pixels, with the times.
    browser.set("#iterations", "");
    for (id, size) in [(2, "128"), (3, "256")] {
        browser.set("#size", size);
        let began = Instant::now();
        browser.press("Paint");
        browser.wait(&format!(
            "document.querySelector('#job-title').textContent.startsWith('{id}') &&
                document.querySelector('#after').alt.startsWith('{id}')"
        ));
        let first = began.elapsed();
        wait_for(&mut browser, "done");
        let end = began.elapsed();
        println!("{size} pixels: first look after {first:?}, end after {end:?}");
        assert!(first.as_secs() < 5 && end.as_secs() < 60);
    }
    // Rounding has some positions choose other neighbours later on. Natively, one pixel of 1,600 that differs by 1
    // of 255 makes a difference of 15 in the mean: the same picture in other strokes.
    let (losses, picture) = native(Recipe::default().with_longest_side(256));
    assert_losses(&kept_job(&mut browser, 3), &losses[..5]);
    let [mean, largest] = differences(&result(&mut browser, 3), &picture);
    println!("all steps: differences of {mean:.3} in the mean, {largest:.3} at most");
    assert!(mean < 25.0, "{mean}");
    browser.screenshot("web");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// What was loaded once needs no network, and a job goes on when its page is opened again.
#[test]
#[ignore = "needs Chromium, and web/build before"]
fn the_web_page_works_without_a_network_and_goes_on_after_it_was_closed() {
    let (server, mut browser) = open("");
    let address = server.address();
    browser.wait("navigator.serviceWorker.controller !== null");
    choose_pictures(&mut browser);
    drop(server);

    // A mask for a second style; the first is then painted everywhere.
    browser.choose("#style-file", &[&repository("assets/dots.jpg")]);
    browser.wait("document.querySelectorAll('#styles li').length === 2");
    browser.evaluate("document.querySelectorAll('#styles button')[2].click()");
    browser.wait("document.activeElement.id === 'mask-canvas'");
    browser.key(" ");
    browser.press("Done");
    browser.wait("document.querySelector('#styles').innerText.includes('Painted area')");

    // Painted, steered, and closed in the middle.
    browser.set("#recipe", "gram");
    browser.set("#size", "256");
    browser.set("#iterations", "100000");
    browser.press("Paint");
    browser.wait("/scale (\\d) of \\1, .* step \\d{2}/.test(document.querySelector('#job-status').textContent)");
    browser.set("#style_weight", "3");
    browser.wait("document.querySelector('#command-hint').textContent.includes('steered')");
    browser.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));",
    );
    browser.wait(&get("checkpoint/1"));
    let before = kept_job(&mut browser, 1);
    browser.call("Page.navigate", json!({"url": "about:blank"}));
    browser.open(&address, "Paints");
    wait_for(&mut browser, "is painted: scale");
    let job = kept_job(&mut browser, 1);
    let evaluation = |job: &Value| job["progress"]["evaluation"].as_u64().unwrap();
    assert!(evaluation(&job) >= evaluation(&before), "{job}");
    assert_eq!(job["steering"], before["steering"]);

    // Paused, gone on with, finished.
    browser.press("Pause");
    wait_for(&mut browser, "paused");
    browser.press("Go on");
    wait_for(&mut browser, "is painted: scale");
    browser.press("Finish now");
    wait_for(&mut browser, "finished early");
    let painted = result(&mut browser, 1);
    assert_eq!((painted.width(), painted.height()), (256, 192));
    browser.press("Delete");
    browser.wait("document.querySelectorAll('#job-list li').length === 0");
    let gone = format!("(await {}) === undefined", get("result/1"));
    browser.wait(&gone);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
