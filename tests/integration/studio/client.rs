//! A studio that runs, and requests to it, each on a connection of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chromium::PATIENCE;
use crate::cli::{Files, impasto, interrupt};
use crate::repository;

/// A program that serves a page.
pub struct Studio {
    pub child: Child,
    pub port: u16,
    /// What the program said with the address.
    pub address: String,
}

/// What a request was answered.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {text}", self.status))
    }
}

impl Studio {
    /// A studio in a folder.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    /// The same with further options.
    pub fn start_with(folder: &Path, options: &[&str]) -> Self {
        let folder = folder.to_str().unwrap();
        let arguments = [
            &["studio", "--port", "0", "--folder", folder][..],
            &["--encoder", "builtin"],
            options,
        ];
        Self::run(&arguments.concat(), "The studio is at ")
    }

    /// A run without an end that shows itself, of a picture of this size.
    pub fn live(files: &Files, size: &str) -> Self {
        let output = files.path("out.png");
        let arguments = [
            &["stylize", &files.scene, &files.style, "-o", &output][..],
            &["--encoder", "builtin", "--recipe", "gram", "--size", size],
            &["--iterations", "100000", "--live"],
        ];
        Self::run(&arguments.concat(), "Live at ")
    }

    /// A program that says where its page is.
    pub fn run(arguments: &[&str], says: &str) -> Self {
        let mut child = impasto(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("{said:?}")).unwrap();
            if let Some(address) = line.strip_prefix(says) {
                break address.to_string();
            }
            said.push(line);
        };
        // Or the program would wait for someone to read what it says.
        std::thread::spawn(move || lines.for_each(drop));
        let (_, rest) = address.rsplit_once(':').unwrap();
        let (port, _) = rest.split_once('/').unwrap();
        Self {
            child,
            port: port.parse().unwrap(),
            address,
        }
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request with exactly these headers.
    pub fn raw(&self, first: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let mut head = format!("{first} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body need not read it.
        let _ = stream.write_all(body);
        read_answer(stream)
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.raw(&format!("GET {path}"), &[("Host", &self.host())], &[])
    }

    pub fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        let headers = [
            ("Host", &*self.host()),
            ("X-Impasto", "1"),
            ("Content-Type", kind),
        ];
        self.raw(&format!("POST {path}"), &headers, body)
    }

    /// Posts JSON.
    pub fn send(&self, path: &str, value: &Value) -> Answer {
        let body = serde_json::to_vec(value).unwrap();
        self.post(path, "application/json", &body)
    }

    /// Adds a picture of the repository: its name in the studio.
    pub fn add(&self, path: &str) -> String {
        let bytes = std::fs::read(repository(path)).unwrap();
        let answer = self.post("/api/pictures", "application/octet-stream", &bytes);
        assert_eq!(answer.status, 200);
        answer.json()["id"].as_str().unwrap().to_string()
    }

    /// Settings for a small picture of the scene in two styles.
    pub fn settings(&self, options: Value) -> Value {
        let [content, first, second] =
            ["scene", "swirls", "dots"].map(|name| self.add(&format!("assets/{name}.jpg")));
        json!({
            "content": content,
            "styles": [{"picture": first, "weight": 1.0}, {"picture": second, "weight": 0.5}],
            "recipe": "gram",
            "encoder": "auto",
            "options": options,
        })
    }

    /// Begins a job.
    pub fn paint(&self, settings: &Value) -> u64 {
        let answer = self.send("/api/jobs", settings);
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["id"].as_u64().unwrap()
    }

    /// The jobs as a page is told them first.
    pub fn jobs(&self) -> Vec<Value> {
        let event = self.events().next().unwrap();
        assert_eq!(event["type"], "all");
        event["jobs"].as_array().unwrap().clone()
    }

    pub fn job(&self, id: u64) -> Value {
        let jobs = self.jobs();
        let mut found = jobs.into_iter().filter(|job| job["id"] == id);
        found.next().unwrap()
    }

    /// What a page is told from now on.
    pub fn events(&self) -> impl Iterator<Item = Value> + use<> {
        let mut stream = self.connect();
        let head = format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", self.host());
        stream.write_all(head.as_bytes()).unwrap();
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        // Lines that keep the connection alive say nothing of how long all may take.
        let began = Instant::now();
        let lines = lines.inspect(move |_| assert!(began.elapsed() < PATIENCE));
        lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
    }

    /// Waits until a job is as expected.
    pub fn wait(&self, id: u64, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let job = self.job(id);
            if is(&job) {
                return job;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {job}");
            assert_ne!(job["status"], "failed", "{what}: {job}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn wait_for(&self, id: u64, status: &str) -> Value {
        self.wait(id, status, |job| job["status"] == status)
    }

    /// What the first job that fails says.
    pub fn wait_for_failure(&self) -> String {
        let began = Instant::now();
        loop {
            let jobs = self.jobs();
            let failed = jobs.iter().find(|job| job["status"] == "failed");
            if let Some(job) = failed {
                return job["message"].as_str().unwrap().to_string();
            }
            assert!(began.elapsed() < PATIENCE, "{jobs:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells a job something.
    pub fn act(&self, id: u64, action: &str) -> u16 {
        self.post(&format!("/api/jobs/{id}/{action}"), "text/plain", &[])
            .status
    }

    /// Ctrl-C, and how it ended.
    pub fn end(mut self) {
        interrupt(&self.child);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that is closed before the body was read is reset.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    Answer {
        status: head[9..12].parse().unwrap(),
        body: bytes[end + 4..].to_vec(),
        head,
    }
}
