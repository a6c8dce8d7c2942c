//! A small HTTP server on this machine, as well-behaved or as ill-behaved as a test wants it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which request it is, from 0.
    pub number: usize,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// First and last byte of the range asked for.
    pub fn range(&self) -> Option<(usize, usize)> {
        let range = self.headers.get("range")?.strip_prefix("bytes=")?;
        let (from, to) = range.split_once('-')?;
        Some((from.parse().ok()?, to.parse().unwrap_or(usize::MAX)))
    }
}

/// What the server answers.
#[derive(Clone, Debug)]
pub struct Reply {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The length that it claims.
    length: usize,
    /// Closes the connection after so many bytes of the body.
    cut: usize,
    /// Pause after each byte, or before the first where nothing is sent.
    drip: Option<Duration>,
}

impl Reply {
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: Vec::new(),
            length: body.len(),
            body,
            cut: usize::MAX,
            drip: None,
        }
    }

    /// The whole file, whatever the request says.
    pub fn whole(file: &[u8]) -> Self {
        Self::new("200 OK", file)
    }

    /// The part that the request asks for, if the file still has this tag.
    pub fn part(file: &[u8], tag: &str, request: &Request) -> Self {
        let tag = format!("\"{tag}\"");
        let same = request.headers.get("if-range").is_none_or(|t| *t == tag);
        let reply = match request.range() {
            Some((from, _)) if same && from >= file.len() => {
                Self::new("416 Range Not Satisfiable", "")
            }
            Some((from, to)) if same => {
                let to = to.min(file.len() - 1);
                let range = format!("bytes {from}-{to}/{}", file.len());
                Self::new("206 Partial Content", &file[from..=to]).header("Content-Range", &range)
            }
            _ => Self::whole(file),
        };
        reply.header("ETag", &tag)
    }

    /// The same from a server that does not tell versions apart.
    pub fn untagged(file: &[u8], request: &Request) -> Self {
        let mut reply = Self::part(file, "", request);
        reply.headers.retain(|(name, _)| name != "ETag");
        reply
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn claiming(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = after;
        self
    }

    pub fn drip(mut self, pause: Duration) -> Self {
        self.drip = Some(pause);
        self
    }
}

/// A server that runs until the test ends.
pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    sent: Arc<Mutex<usize>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            requests: Arc::default(),
            sent: Arc::default(),
        };
        let (requests, sent) = (Arc::clone(&server.requests), Arc::clone(&server.sent));
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, sent) = (Arc::clone(&requests), Arc::clone(&sent));
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    // A client that goes away is no concern.
                    let _ = serve(stream, &requests, &sent, &*answer);
                });
            }
        });
        server
    }

    /// A server of one file that honours ranges.
    pub fn of(file: Vec<u8>) -> Self {
        Self::start(move |request| Reply::part(&file, "one", request))
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Bytes of all bodies.
    pub fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }
}

fn serve(
    stream: TcpStream,
    requests: &Mutex<Vec<Request>>,
    sent: &Mutex<usize>,
    answer: &(impl Fn(&Request) -> Reply + ?Sized),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim() {
                "" => break,
                line => lines.push(line.to_string()),
            }
        }
        let mut words = lines[0].split(' ');
        let method = words.next().unwrap_or_default().to_string();
        let path = words.next().unwrap_or_default().to_string();
        let headers = lines[1..].iter().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_string()))
        });
        let request = {
            let mut requests = requests.lock().unwrap();
            let request = Request {
                number: requests.len(),
                path,
                headers: headers.collect(),
            };
            requests.push(request.clone());
            request
        };
        if method == "CONNECT" {
            // A proxy that plays the server behind it, too.
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
            continue;
        }
        let reply = answer(&request);
        let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", reply.status);
        head += &format!("Content-Length: {}\r\n", reply.length);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        let body = &reply.body[..reply.body.len().min(reply.cut)];
        match reply.drip {
            None => {
                for chunk in body.chunks(1 << 14) {
                    stream.write_all(chunk)?;
                    *sent.lock().unwrap() += chunk.len();
                }
            }
            Some(pause) => {
                for byte in body.chunks(1) {
                    stream.write_all(byte)?;
                    *sent.lock().unwrap() += 1;
                    std::thread::sleep(pause);
                }
                std::thread::sleep(pause);
            }
        }
        return Ok(());
    }
}
