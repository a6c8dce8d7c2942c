//! The studio under attack.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Studio, read_answer};
use crate::cli::{Files, run, stderr};
use crate::repository;

#[test]
fn only_its_own_page_can_use_the_studio() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    let own = format!("127.0.0.1:{}", studio.port);
    let local = format!("localhost:{}", studio.port);
    let origin = format!("http://{own}");
    let page = studio.get("/");
    assert_eq!(page.status, 200);
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(page.head.contains(header), "{header}: {}", page.head);
    }
    assert_eq!(
        studio.raw("GET /api/info", &[("Host", &local)], &[]).status,
        200
    );
    // Another name that leads here (DNS rebinding), another page, or one that embeds pictures.
    for (headers, expected) in [
        (&[][..], 400),
        (&[("Host", "attacker.example")], 403),
        (&[("Host", "attacker.example"), ("X-Impasto", "1")], 403),
        (
            &[("Host", &*own), ("Origin", "http://attacker.example")],
            403,
        ),
        (&[("Host", &*own), ("Sec-Fetch-Site", "cross-site")], 403),
        (&[("Host", &*own), ("Origin", &*origin)], 200),
    ] {
        let answer = studio.raw("GET /api/info", headers, &[]);
        assert_eq!(answer.status, expected, "{headers:?}");
    }
    let json = ("Content-Type", "application/json");
    for headers in [
        &[("Host", &*own), json][..],
        &[("Host", &*own), json, ("Origin", &*origin)],
        &[
            ("Host", &*own),
            json,
            ("Origin", "null"),
            ("X-Impasto", "1"),
        ],
        // Forms send these kinds without asking.
        &[("Host", &*own), ("Content-Type", "text/plain")],
    ] {
        let answer = studio.raw("POST /api/jobs", headers, b"{}");
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    assert!(studio.jobs().is_empty());
    // Nothing of the file system.
    for path in [
        "/../Cargo.toml",
        "/..%2f..%2fetc%2fpasswd",
        "/api/pictures/..%2flock",
        "/api/pictures/%2e%2e",
        "/api/jobs/..%2f1/result",
        "/api/jobs/-1/result",
        "/lock",
    ] {
        let status = studio.get(path).status;
        assert!([400, 404].contains(&status), "{path}: {status}");
    }
}

#[test]
fn other_machines_need_the_token() {
    let files = Files::new();
    let studio = Studio::start_with(files.folder.path(), &["--bind", "0.0.0.0"]);
    let (_, token) = studio.address.split_once("/?token=").unwrap();
    assert_eq!(token.len(), 32);
    let get = |path: &str, cookie: &str| {
        let headers = [("Host", "studio.example"), ("Cookie", cookie)];
        studio.raw(&format!("GET {path}"), &headers, &[])
    };
    for path in ["/", "/api/info", "/api/events", "/?token=", "/?token=0123"] {
        assert_eq!(get(path, "a=b").status, 401, "{path}");
    }
    let entered = get(&format!("/?token={token}"), "a=b");
    assert_eq!(entered.status, 303);
    let (_, rest) = entered.head.split_once("set-cookie: ").unwrap();
    let (cookie, rest) = rest.split_once(';').unwrap();
    assert!(rest.contains("HttpOnly; SameSite=Lax"), "{rest}");
    assert_eq!(get("/api/info", cookie).status, 200);
    // The token does not help another page.
    let headers = [
        ("Host", "studio.example"),
        ("Cookie", cookie),
        ("Origin", "http://attacker.example"),
        ("X-Impasto", "1"),
    ];
    assert_eq!(studio.raw("POST /api/jobs", &headers, b"{}").status, 403);
}

#[test]
fn what_is_too_large_or_no_picture_is_refused() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    // A body of a gigabyte is not read.
    let mut stream = studio.connect();
    let head = format!(
        "POST /api/pictures HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nX-Impasto: 1\r\nContent-Length: 1073741824\r\n\r\n",
        studio.port
    );
    stream.write_all(head.as_bytes()).unwrap();
    let block = vec![0; 1 << 20];
    let sent = (0..1024).take_while(|_| stream.write_all(&block).is_ok());
    let sent = sent.count();
    assert!(sent < 256, "{sent} MiB were taken");
    // Pictures that are none, or damaged, or larger than they say.
    let scene = std::fs::read(repository("assets/scene.jpg")).unwrap();
    let mut bomb = include_bytes!("../../../assets/scene.jpg")[..200].to_vec();
    bomb.extend([0xff; 3000]);
    for bytes in [
        &b""[..],
        b"GIF89a",
        &scene[..scene.len() / 2],
        &bomb,
        b"<svg/>",
    ] {
        let answer = studio.post("/api/pictures", "image/jpeg", bytes);
        assert_eq!(answer.status, 422, "{} bytes", bytes.len());
        let error = answer.json()["error"].to_string();
        assert!(!error.contains("/pictures/"), "{error}");
    }
    let left: Vec<_> = std::fs::read_dir(files.folder.path().join("pictures"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for body in [&b"{"[..], b"null", b"[]", &[b'['; 50_000]] {
        let answer = studio.post("/api/jobs", "application/json", body);
        assert!([400, 422].contains(&answer.status), "{}", answer.status);
    }
    let large = vec![b' '; 1 << 20];
    let answer = studio.post("/api/jobs", "application/json", &large);
    assert_eq!(answer.status, 413);
}

/// Clients that say nothing, or never read, cost others nothing.
#[test]
fn slow_clients_do_not_keep_others_waiting() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    let id = studio.paint(&studio.settings(json!({"size": 48, "iterations": 100000})));
    studio.wait(id, "steps", |job| job["progress"].is_object());
    // Pages of which one never reads what it is told.
    let mut page = studio.events();
    let stalled = studio.events();
    let silent: Vec<_> = (0..200).map(|_| studio.connect()).collect();
    let mut slow = studio.connect();
    slow.write_all(b"GET / HT").unwrap();
    // The page that was there first hears of every step at once.
    let began = Instant::now();
    let steps = page.by_ref().filter(|event| event["type"] == "step");
    assert_eq!(steps.take(10).count(), 10);
    assert!(began.elapsed() < Duration::from_secs(60));
    // The silent ones are sent away, and others have their turn.
    assert_eq!(studio.get("/api/info").status, 200);
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(60), "{waited:?}");
    drop(silent);
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert_eq!(studio.act(id, "finish"), 202);
    studio.wait_for(id, "stopped");
    drop(stalled);
}

#[test]
fn one_studio_works_in_a_folder() {
    let files = Files::new();
    let studio = Studio::start(files.folder.path());
    let folder = files.folder.path().to_str().unwrap();
    let other = run(&["studio", "--port", "0", "--folder", folder]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("--folder"), "{}", stderr(&other));
    let port = studio.port.to_string();
    let elsewhere = files.path("elsewhere");
    let taken = run(&["studio", "--port", &port, "--folder", &elsewhere]);
    assert_eq!(taken.status.code(), Some(2));
    assert!(
        stderr(&taken).contains("another port"),
        "{}",
        stderr(&taken)
    );
    // What does not belong to the studio is left alone.
    std::fs::create_dir(files.folder.path().join("jobs/7")).unwrap();
    std::fs::write(files.folder.path().join("jobs/7/job.json"), "{").unwrap();
    studio.end();
    let studio = Studio::start(files.folder.path());
    assert!(studio.jobs().is_empty());
    let answer = read_answer({
        let mut stream = studio.connect();
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
        stream
    });
    assert_eq!(answer.status, 400);
}
