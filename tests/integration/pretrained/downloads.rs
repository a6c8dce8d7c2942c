//! Downloads from servers good and bad.

use std::fs;
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use impasto::pretrained::{Cache, DownloadProgress, Mirror, PretrainedError, Source};
use impasto::weights::{NormalizationSource, Precision};
use impasto::{Layer, Normalization, Vgg19Weights};

use crate::cli::stderr;
use crate::data;
use crate::server::{Reply, Request, Server};

use super::{Place, hasty, limits, published, quick, sha256, small, source};

#[test]
fn ranges_fetch_the_convolutions_alone() {
    let server = Server::of(published());
    let place = Place::new();
    let path = place
        .download(source(&server, "model.safetensors"))
        .unwrap();
    assert!(Vgg19Weights::load(&path).unwrap() == small());
    assert!(server.sent() < 330_000, "{} bytes", server.sent());
    assert_eq!(place.listing(), ["vgg19-custom.safetensors"]);
    // What is there is not fetched again; more of it is.
    let before = server.requests().len();
    place
        .download(source(&server, "model.safetensors"))
        .unwrap();
    assert_eq!(server.requests().len(), before);

    let place = Place::new();
    let sent = server.sent();
    let part = quick(source(&server, "model.safetensors")).until(Layer::RELU1_2);
    let path = part.run(&place.cache()).unwrap();
    assert_eq!(server.sent() - sent, 65_536);
    let weights = Vgg19Weights::load(&path).unwrap();
    assert_eq!(weights.convolutions(), &small().convolutions()[..2]);
    place
        .download(source(&server, "model.safetensors"))
        .unwrap();
    assert!(Vgg19Weights::load(&path).unwrap() == small());
}

#[test]
fn pieces_far_apart_are_fetched_one_by_one() {
    let server = Server::of(published());
    let place = Place::new();
    let part = quick(source(&server, "model.safetensors")).until(Layer::RELU2_2);
    let path = part.run(&place.cache()).unwrap();
    let weights = Vgg19Weights::load(path).unwrap();
    assert_eq!(weights.convolutions(), &small().convolutions()[..4]);
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.range().unwrap())
        .collect();
    assert_eq!(ranges.len(), 2);
    assert!(
        ranges[1].0 > 300_000 && ranges[1].1 - ranges[1].0 < 5000,
        "{ranges:?}"
    );
}

/// A file of one's own may hold fewer layers; that is no reason to fetch it again.
#[test]
fn short_files_are_fetched_once() {
    let place = Place::new();
    let path = place.path("short");
    let short = small().until(Layer::RELU4_1);
    short.save(&path, Precision::F32).unwrap();
    let server = Server::of(fs::read(path).unwrap());
    let cached = place.download(source(&server, "x")).unwrap();
    assert!(Vgg19Weights::load(&cached).unwrap() == short);
    let before = server.requests().len();
    place.download(source(&server, "x")).unwrap();
    assert_eq!(server.requests().len(), before);
    let deeper = quick(source(&server, "x")).until(Layer::RELU5_1);
    assert!(deeper.run(&place.cache()).is_err());
}

#[test]
fn a_long_table_of_contents_is_read_to_its_end() {
    let bytes = fs::read(data("small.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let note = ("note".to_string(), "x".repeat(100_000));
    let file = safetensors::serialize(file.tensors(), Some([note].into())).unwrap();
    let place = Place::new();
    let path = place.download(source(&Server::of(file), "x")).unwrap();
    assert!(Vgg19Weights::load(path).unwrap() == small());
}

/// Within one call a file of the same length has to do; between two, nothing is promised.
#[test]
fn without_a_tag_only_the_same_call_goes_on() {
    let file = published();
    let server = Server::start(move |request| {
        let reply = Reply::untagged(&file, request);
        match request.number {
            1 => reply.cut(100_000),
            _ => reply,
        }
    });
    let place = Place::new();
    let path = place.download(source(&server, "x")).unwrap();
    assert!(Vgg19Weights::load(path).unwrap() == small());
    assert_eq!(server.requests()[2].range().unwrap().0, 165_536);
    let place = Place::new();
    stop(&place, source(&server, "x"), 200_000);
    let before = server.requests().len();
    place.download(source(&server, "x")).unwrap();
    assert_eq!(server.requests()[before].range().unwrap().0, 0);
}

#[test]
fn a_file_of_ones_own_is_written_from_the_cache_or_the_server() {
    let server = Server::of(published());
    let place = Place::new();
    let path = place.path("mine.safetensors");
    let url = server.at("model.safetensors");
    let arguments = [
        "weights",
        "download",
        "--url",
        &url,
        "-o",
        path.to_str().unwrap(),
    ];
    let output = place.run(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(place.listing(), [""; 0]);
    let mine = fs::read(&path).unwrap();
    assert!(place.run(&arguments[..4]).status.success());
    let before = server.requests().len();
    assert!(place.run(&arguments).status.success());
    assert_eq!(server.requests().len(), before);
    assert_eq!(fs::read(&path).unwrap(), mine);
    let nowhere = place.path("missing/x").to_str().unwrap().to_string();
    let output = place.run(&["weights", "download", "--url", &url, "-o", &nowhere]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("does not exist"),
        "{}",
        stderr(&output)
    );
    assert_eq!(server.requests().len(), before);
}

#[test]
fn every_kind_of_file_comes_from_any_kind_of_server() {
    for name in [
        "small.pth",
        "small-legacy.pth",
        "small.onnx",
        "small.safetensors",
    ] {
        let file = fs::read(data(name)).unwrap();
        let sum = sha256(&file);
        let whole = {
            let file = file.clone();
            Server::start(move |_| Reply::whole(&file))
        };
        let ranges = Server::of(file);
        for (server, sum) in [
            (&whole, None),
            (&ranges, None),
            (&whole, Some(sum.clone())),
            (&ranges, Some(sum[..8].to_uppercase())),
        ] {
            let place = Place::new();
            let path = place.download(Source::url(server.at(name), sum)).unwrap();
            assert!(Vgg19Weights::load(&path).unwrap() == small(), "{name}");
            assert_eq!(place.listing(), ["vgg19-custom.safetensors"]);
        }
    }
    // What a file is called says nothing of it.
    let server = Server::of(fs::read(data("small.pth")).unwrap());
    let place = Place::new();
    let path = place
        .download(source(&server, "vgg19-d01eb7cb.pth?x=y"))
        .unwrap();
    let weights = Vgg19Weights::load(path).unwrap();
    assert_eq!(weights.normalization_source, NormalizationSource::Assumed);
}

#[test]
fn a_broken_connection_costs_only_the_rest() {
    for name in ["small.safetensors", "small.pth"] {
        let file = fs::read(data(name)).unwrap();
        let length = file.len();
        // The start goes through, the first long answer does not.
        let server = Server::start(move |request| {
            let reply = Reply::part(&file, "one", request);
            match request.number {
                1 => reply.cut(100_000),
                _ => reply,
            }
        });
        let place = Place::new();
        let path = place.download(source(&server, name)).unwrap();
        assert!(Vgg19Weights::load(&path).unwrap() == small());
        assert!(server.sent() <= length, "{name}: {} bytes", server.sent());
        let requests = server.requests();
        assert_eq!(requests[2].range().unwrap().0, 65_536 + 100_000);
        assert_eq!(requests[2].headers["if-range"], "\"one\"");
    }
}

/// Stops a download once it has so many bytes.
fn stop(place: &Place, source: Source, after: u64) {
    let stopped = quick(source)
        .on_progress(|progress| match progress {
            DownloadProgress::Fetching { done, .. } if *done >= after => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .run(&place.cache());
    assert!(
        matches!(stopped, Err(PretrainedError::Stopped)),
        "{stopped:?}"
    );
}

#[test]
fn a_later_call_goes_on_where_an_earlier_one_stopped() {
    let file = published();
    let server = Server::of(file.clone());
    for sum in [None, Some(sha256(&file))] {
        let source = || Source::url(server.at("model.safetensors"), sum.clone());
        let place = Place::new();
        let before = server.requests().len();
        stop(&place, source(), 200_000);
        let listing = place.listing();
        assert_eq!(
            listing,
            [".vgg19-custom.partial", ".vgg19-custom.partial.json"]
        );
        let part = fs::metadata(place.path("cache/.vgg19-custom.partial")).unwrap();
        let path = place.download(source()).unwrap();
        assert!(Vgg19Weights::load(&path).unwrap() == small());
        assert_eq!(place.listing(), ["vgg19-custom.safetensors"]);
        let requests = server.requests();
        let last = requests.last().unwrap();
        assert_eq!(last.range().unwrap().0 as u64, part.len());
        assert!(requests.len() - before <= 3);
    }
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_anew() {
    let (old, new) = (published(), fs::read(data("small.safetensors")).unwrap());
    let server = Server::start(move |request| match request.number {
        0 | 1 => Reply::part(&old, "old", request),
        _ => Reply::part(&new, "new", request),
    });
    let place = Place::new();
    stop(&place, source(&server, "model.safetensors"), 200_000);
    let path = place
        .download(source(&server, "model.safetensors"))
        .unwrap();
    assert!(Vgg19Weights::load(&path).unwrap() == small());
}

#[test]
fn what_lies_about_itself_is_refused() {
    let file = fs::read(data("small.pth")).unwrap();
    let place = Place::new();
    let other = Source::url(
        Server::of(file.clone()).at("small.pth"),
        Some("0123456789".into()),
    );
    let error = place.refused(other, "expected 0123456789");
    assert!(error.to_string().contains(&sha256(&file)), "{error}");

    // Less than it says: what came is kept, in case that it was the connection.
    let longer = file.clone();
    let server = Server::start(move |_| Reply::whole(&longer).claiming(longer.len() + 1000));
    let error = place.download(source(&server, "small.pth")).unwrap_err();
    assert!(error.to_string().contains("ended early"), "{error}");
    assert!(!place.cache().path("custom").exists());
    // More than it says.
    let place = Place::new();
    let shorter = file.clone();
    let server = Server::start(move |_| Reply::whole(&shorter).claiming(shorter.len() / 2));
    place.refused(source(&server, "small.pth"), "cannot be used");
    // Another part than was asked for.
    let server = Server::start(|_| {
        Reply::new("206 Partial Content", "abc").header("Content-Range", "bytes 5-7/9")
    });
    place.refused(source(&server, "small.pth"), "another part");
    // A table of contents for another file.
    let mut file = published();
    file.truncate(1 << 20);
    place.refused(
        source(&Server::of(file), "cut.safetensors"),
        "cannot be used",
    );
    // An endless file.
    let large = vec![0x80; 5 << 20];
    let server = Server::of(large.clone());
    place.refused(source(&server, "large"), "more than the allowed");
    let server = Server::start(move |_| Reply::whole(&large));
    place.refused(source(&server, "large"), "more than the allowed");
}

#[test]
fn web_pages_are_no_weights() {
    let place = Place::new();
    let page = "\n<!DOCTYPE html><title>Please log in</title>";
    let typed =
        Server::start(move |_| Reply::whole(b"welcome").header("Content-Type", "text/html"));
    let untyped = Server::start(move |_| Reply::whole(page.as_bytes()));
    let ranged = Server::of(page.into());
    for server in [typed, untyped, ranged] {
        place.refused(source(&server, "model.safetensors"), "web page");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn redirects_are_followed_as_far_as_they_are_safe() {
    let file = fs::read(data("small.safetensors")).unwrap();
    let there = Server::of(file);
    let target = there.at("file");
    let server = Server::start(move |request: &Request| {
        let to = match request.path.as_str() {
            "/a/first" => "second?x=y",
            "/a/second?x=y" => "/third",
            "/third" => &target,
            "/insecure" => "http://example.com/file",
            "/nowhere" => return Reply::new("302 Found", ""),
            _ => "/loop",
        };
        Reply::new("302 Found", "").header("Location", to)
    });
    let place = Place::new();
    let path = place.download(source(&server, "a/first")).unwrap();
    assert!(Vgg19Weights::load(&path).unwrap() == small());
    let place = Place::new();
    let error = place.refused(source(&server, "insecure"), "not https");
    assert!(matches!(error, PretrainedError::Insecure { .. }));
    place.refused(source(&server, "nowhere"), "points to nowhere");
    place.refused(source(&server, "loop"), "more than 5 times");
    place.refused(Source::url("http://example.com/x", None), "--allow-http");
    place.refused(Source::url("example.com/x", None), "https");
}

#[test]
fn refusals_are_final_and_trouble_passes() {
    let place = Place::new();
    for (status, words) in [
        ("403 Forbidden", "access denied"),
        ("404 Not Found", "no such file"),
        ("401 Unauthorized", "401"),
    ] {
        let server = Server::start(move |_| Reply::new(status, "<html>sorry</html>"));
        place.refused(source(&server, "x"), words);
        assert_eq!(server.requests().len(), 1);
    }
    let server = Server::start(|_| Reply::new("500 Internal Server Error", ""));
    place.refused(source(&server, "x"), "500");
    assert_eq!(server.requests().len(), 3);

    let file = fs::read(data("small.safetensors")).unwrap();
    let server = Server::start(move |request| match request.number {
        0 => Reply::new("500 Internal Server Error", ""),
        1 => Reply::new("429 Too Many Requests", "").header("Retry-After", "3600"),
        _ => Reply::part(&file, "one", request),
    });
    let mut pauses = Vec::new();
    let path = quick(source(&server, "x")).on_progress(|progress| {
        if let DownloadProgress::Retrying { pause, .. } = progress {
            pauses.push(*pause);
        }
        ControlFlow::Continue(())
    });
    let path = path.run(&place.cache()).unwrap();
    assert!(Vgg19Weights::load(&path).unwrap() == small());
    assert_eq!(pauses[1], limits().longest_pause);
}

#[test]
fn a_second_address_steps_in() {
    let gone = Server::start(|_| Reply::new("404 Not Found", ""));
    let good = Server::of(fs::read(data("small.pth")).unwrap());
    let mirror = |url: String| Mirror { url, sha256: None };
    let both = Source {
        mirrors: vec![mirror(gone.at("x")), mirror(good.at("x"))],
        ..Source::caffe()
    };
    let place = Place::new();
    let path = place.download(both.clone()).unwrap();
    assert!(path.ends_with("vgg19-caffe.safetensors"));
    let weights = Vgg19Weights::load(&path).unwrap();
    assert_eq!(weights.normalization, Normalization::CAFFE_BGR);
    assert_eq!(weights.convolutions(), small().convolutions());
    assert_eq!(place.cache().find(), Some(path));

    let neither = Source {
        mirrors: vec![mirror(gone.at("first")), mirror(gone.at("second"))],
        ..both
    };
    let error = Place::new().refused(neither, "no mirror of `caffe`");
    assert!(error.to_string().contains("/first") && error.to_string().contains("/second"));
    assert!(
        Source::named("pytorch")
            .unwrap_err()
            .to_string()
            .contains("torchvision, caffe")
    );
}

#[test]
fn slow_and_silent_servers_are_given_up() {
    let place = Place::new();
    let download = |source| quick(source).limits(hasty()).run(&place.cache());
    let file = fs::read(data("small.safetensors")).unwrap();
    let drip = Server::start(move |request| {
        Reply::part(&file, "one", request).drip(Duration::from_millis(20))
    });
    let error = download(source(&drip, "x")).unwrap_err();
    assert!(error.to_string().contains("bytes a second"), "{error}");
    let silent = Server::start(|_| {
        Reply::whole(b"P")
            .claiming(100)
            .drip(Duration::from_secs(5))
    });
    let error = download(source(&silent, "x")).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    let mute = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(5));
        Reply::whole(b"")
    });
    let error = download(source(&mute, "x")).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert!(!place.cache().path("custom").exists());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", closed.local_addr().unwrap());
    drop(closed);
    let error = download(Source::url(url, None)).unwrap_err();
    assert!(matches!(error, PretrainedError::Network { .. }), "{error}");
}

#[test]
fn two_clients_share_one_download() {
    let server = Server::of(published());
    let place = Place::new();
    let url = server.at("model.safetensors");
    let arguments = ["weights", "download", "--url", &url, "--f32"];
    let start = || {
        place
            .impasto(&arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both: Vec<Child> = (0..2).map(|_| start()).collect();
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert!(server.sent() < 330_000, "{} bytes", server.sent());
    assert_eq!(place.listing(), ["vgg19-custom.safetensors"]);
    assert!(Vgg19Weights::load(place.cache().path("custom")).unwrap() == small());
}

/// Waits for something that happens soon.
fn until(mut happened: impl FnMut() -> bool) {
    for _ in 0..400 {
        if happened() {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("it did not happen");
}

#[test]
fn a_killed_download_leaves_nothing_bad_and_goes_on() {
    let file = published();
    let length = file.len();
    // The first long answer never ends.
    let server = Server::start(move |request| {
        let reply = Reply::part(&file, "one", request);
        match request.number {
            1 => reply.cut(100_000).drip(Duration::from_micros(10)),
            _ => reply,
        }
    });
    let place = Place::new();
    let url = server.at("model.safetensors");
    let arguments = ["weights", "download", "--url", &url, "--f32", "--quiet"];
    let mut child = place.impasto(&arguments).spawn().unwrap();
    let partial = place.path("cache/.vgg19-custom.partial");
    until(|| fs::metadata(&partial).is_ok_and(|facts| facts.len() > 70_000));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.cache().path("custom").exists());
    let path = place.run(&["weights", "path"]);
    assert_eq!(path.status.code(), Some(1));
    assert!(stderr(&path).contains("weights download"));

    let output = place.run(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(Vgg19Weights::load(place.cache().path("custom")).unwrap() == small());
    assert!(server.sent() < length);
    assert!(server.requests()[2].range().unwrap().0 > 70_000);
    assert_eq!(place.listing(), ["vgg19-custom.safetensors"]);
}

#[test]
fn caches_that_cannot_be_written_to_say_so() {
    let server = Server::of(published());
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let cache = Cache::at(place.path("file/cache"));
    let error = quick(source(&server, "x")).run(&cache).unwrap_err();
    assert!(error.to_string().contains("IMPASTO_CACHE"), "{error}");
    assert!(server.requests().is_empty());
}

/// The disk is full after a hundred kilobytes.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_gives_an_error_and_is_left_clean() {
    let server = Server::of(published());
    let place = Place::new();
    let url = server.at("model.safetensors");
    let impasto = place.impasto(&["weights", "download", "--url", &url]);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "-"]);
    limited.arg(impasto.get_program()).args(impasto.get_args());
    for (name, value) in impasto.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("make room"), "{}", stderr(&output));
    assert_eq!(place.listing(), [""; 0]);
}

#[test]
fn proxies_are_asked_for_hosts_elsewhere() {
    let file = fs::read(data("small.safetensors")).unwrap();
    let proxy = Server::of(file);
    let place = Place::new();
    let url = "http://weights.invalid/small.safetensors";
    let arguments = ["weights", "download", "--url", url, "--allow-http", "--f32"];
    let output = place
        .impasto(&arguments)
        .env("HTTP_PROXY", &proxy.url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(proxy.requests()[0].path, "weights.invalid:80");
    assert!(Vgg19Weights::load(place.cache().path("custom")).unwrap() == small());
}
