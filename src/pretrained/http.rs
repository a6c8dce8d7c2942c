//! A thin layer over the HTTP client: range requests, redirects of which each step is checked, and
//! limits on every wait.

use std::io::Read;
use std::ops::Range;
use std::time::{Duration, Instant};

use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body, Error};

use super::PretrainedError;

/// Most redirects of a request.
const REDIRECTS: usize = 5;

/// How long to wait, how often to try, and how much to accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a connection to come about.
    pub connect: Duration,
    /// For an answer to begin.
    pub response: Duration,
    /// Between two pieces of an answer.
    pub stall: Duration,
    /// Over which `least_rate` is measured.
    pub window: Duration,
    /// Bytes a second below which a connection is given up.
    pub least_rate: u64,
    /// Attempts at one mirror without much progress between them.
    pub attempts: u32,
    /// Pause before the second attempt; doubled for each further one, with a random part.
    pub backoff: Duration,
    /// Longest pause, whatever the server asks for.
    pub longest_pause: Duration,
    /// Bytes to fetch at most.
    pub size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            response: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            window: Duration::from_secs(60),
            least_rate: 1024,
            attempts: 5,
            backoff: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            size: 1 << 30,
        }
    }
}

impl Limits {
    /// How long to wait after `failures` attempts, at least 1.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        // A random part, so that those who failed together do not all come back together. Nothing
        // better than the clock is needed for that.
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let random = clock.map_or(0, |time| time.subsec_nanos() % 1000);
        let doubled = self.backoff.saturating_mul(1 << (failures - 1).min(16));
        (doubled + doubled * random / 2000).min(self.longest_pause)
    }
}

/// A failure, and whether another attempt may help.
pub(super) struct RequestError {
    pub error: Box<PretrainedError>,
    pub retryable: bool,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
}

impl From<PretrainedError> for RequestError {
    fn from(error: PretrainedError) -> Self {
        Self {
            error: Box::new(error),
            retryable: false,
            retry_after: None,
        }
    }
}

impl RequestError {
    /// A failure of the connection.
    pub fn network(url: &str, problem: impl Into<String>) -> Self {
        let error = PretrainedError::Network {
            url: url.into(),
            problem: problem.into(),
        };
        Self {
            error: Box::new(error),
            retryable: true,
            retry_after: None,
        }
    }
}

/// A client with limits.
pub(super) struct Client {
    agent: Agent,
    limits: Limits,
    allow_http: bool,
}

/// How a server responds to a request for a part of a file.
pub(super) enum RangeResponse {
    /// The part asked for, or the beginning of it.
    Part { body: ResponseBody, from: u64 },
    /// The whole file, whatever was asked for.
    Whole(ResponseBody),
    /// There is no such part.
    OutOfRange,
}

/// The body of a response, not read yet.
pub(super) struct ResponseBody {
    url: String,
    body: Body,
    /// Identifies this version of the file: its ETag, or when it was last modified.
    pub validator: Option<String>,
    /// Length of the whole file in bytes.
    pub total: Option<u64>,
}

impl Client {
    pub fn new(limits: &Limits, allow_http: bool) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("impasto/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_recv_response(Some(limits.response))
            .timeout_per_read(Some(limits.stall))
            .timeout_per_write(Some(limits.stall))
            .build();
        Self {
            agent: config.new_agent(),
            limits: limits.clone(),
            allow_http,
        }
    }

    /// Asks for a part of a file, or for all of it. With a validator the part is only wanted if the
    /// file is still the same.
    pub fn get(
        &self,
        url: &str,
        part: Option<Range<u64>>,
        validator: Option<&str>,
    ) -> Result<RangeResponse, RequestError> {
        let response = self.follow(url, part.as_ref(), validator)?;
        let text = |name| response.headers().get(name)?.to_str().ok();
        let invalid = |problem: String| PretrainedError::InvalidResponse {
            url: url.into(),
            problem,
        };
        let status = response.status().as_u16();
        let from_total = text(header::CONTENT_RANGE).and_then(content_range);
        match status {
            200 | 206 => {}
            416 => return Ok(RangeResponse::OutOfRange),
            _ => {
                let seconds = text(header::RETRY_AFTER).and_then(|text| text.trim().parse().ok());
                let pause = seconds.map(Duration::from_secs);
                return Err(RequestError {
                    error: Box::new(PretrainedError::Status {
                        url: url.into(),
                        status,
                    }),
                    retryable: matches!(status, 408 | 429 | 500..),
                    retry_after: pause.map(|pause| pause.min(self.limits.longest_pause)),
                });
            }
        }
        let kind = text(header::CONTENT_TYPE).unwrap_or_default().trim_start();
        if kind.to_ascii_lowercase().starts_with("text/html") {
            return Err(PretrainedError::WebPage { url: url.into() }.into());
        }
        if let Some(encoding) = text(header::CONTENT_ENCODING)
            && !encoding.trim().eq_ignore_ascii_case("identity")
        {
            let problem = format!("it sends the file encoded as `{encoding}`, unasked");
            return Err(invalid(problem).into());
        }
        // Only a strong validator promises the same bytes.
        let tag = text(header::ETAG).filter(|tag| tag.starts_with('"'));
        let validator = tag.or(text(header::LAST_MODIFIED)).map(str::to_string);
        let response_body = |total, response: Response<Body>| ResponseBody {
            url: url.into(),
            body: response.into_body(),
            validator,
            total,
        };
        match (status, from_total, part) {
            (200, ..) => {
                let total = response.body().content_length();
                Ok(RangeResponse::Whole(response_body(total, response)))
            }
            (_, Some((from, total)), Some(part)) if from == part.start => Ok(RangeResponse::Part {
                body: response_body(total, response),
                from,
            }),
            _ => Err(invalid("it sends another part of the file than was asked for".into()).into()),
        }
    }

    /// Sends a request and follows redirects.
    fn follow(
        &self,
        url: &str,
        part: Option<&Range<u64>>,
        validator: Option<&str>,
    ) -> Result<Response<Body>, RequestError> {
        let mut here: Uri = self.check(url, true)?;
        let begins_here = is_loopback(&here);
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(&here);
            if let Some(part) = part {
                request = request.header("Range", format!("bytes={}-{}", part.start, part.end - 1));
                if let Some(validator) = validator {
                    request = request.header("If-Range", validator);
                }
            }
            if is_loopback(&here) {
                request = request.config().proxy(None).build();
            }
            let response = request.call().map_err(|error| request_error(url, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|location| resolve(&here, location.to_str().ok()?));
            let location = location.ok_or_else(|| PretrainedError::InvalidResponse {
                url: url.into(),
                problem: "it points to nowhere".into(),
            })?;
            here = self.check(&location, begins_here)?;
        }
        Err(PretrainedError::InvalidResponse {
            url: url.into(),
            problem: format!("it points elsewhere more than {REDIRECTS} times"),
        }
        .into())
    }

    /// Refuses URLs that are not encrypted, unless they lie on this machine or are allowed.
    fn check(&self, url: &str, may_be_local: bool) -> Result<Uri, PretrainedError> {
        let problem = |problem: &str| PretrainedError::InvalidUrl {
            url: url.into(),
            problem: problem.into(),
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| problem("this is no URL; expected https://…"))?;
        match uri.scheme_str() {
            _ if uri.host().is_none_or(str::is_empty) => Err(problem("it names no host")),
            Some("https") => Ok(uri),
            Some("http") if self.allow_http || may_be_local && is_loopback(&uri) => Ok(uri),
            Some("http") => Err(PretrainedError::Insecure { url: url.into() }),
            _ => Err(problem("expected a URL that begins with https://")),
        }
    }
}

impl ResponseBody {
    /// Passes on what arrives, `limit` bytes at most; returns how many bytes came. After a connection
    /// that breaks or gets too slow, another attempt may help.
    pub fn for_each_chunk(
        self,
        limits: &Limits,
        limit: u64,
        mut chunk: impl FnMut(&[u8]) -> Result<(), PretrainedError>,
    ) -> Result<u64, RequestError> {
        let url = self.url;
        let mut reader = self
            .body
            .into_with_config()
            .limit(u64::MAX)
            .reader()
            .take(limit);
        let mut buffer = vec![0; 1 << 16];
        let mut all = 0;
        let mut window = (Instant::now(), 0);
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(all),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(request_error(&url, error.into())),
            };
            chunk(&buffer[..count])?;
            all += count as u64;
            window.1 += count as u64;
            let seconds = window.0.elapsed();
            if seconds >= limits.window {
                if (window.1 as f64) < limits.least_rate as f64 * seconds.as_secs_f64() {
                    let rate = limits.least_rate;
                    let problem = format!("the connection gives less than {rate} bytes a second");
                    return Err(RequestError::network(&url, problem));
                }
                window = (Instant::now(), 0);
            }
        }
    }
}

/// Sorts the client's errors into those that may pass and those that stay.
fn request_error(url: &str, error: Error) -> RequestError {
    let problem = match error {
        Error::Io(error) if is_unknown_host(&error) => {
            return request_error(url, Error::HostNotFound);
        }
        Error::Io(error) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "the connection ended early".to_string(),
            _ => format!("the connection failed ({error})"),
        },
        Error::Timeout(timeout) => format!("no answer for too long ({timeout})"),
        Error::ConnectionFailed => "no connection".to_string(),
        Error::Protocol(error) => format!("the answer is no HTTP ({error})"),
        error => {
            let problem = match error {
                Error::HostNotFound => "there is no such host; is there a network?".to_string(),
                error => error.to_string(),
            };
            let url = url.into();
            return PretrainedError::InvalidUrl { url, problem }.into();
        }
    };
    RequestError::network(url, problem)
}

/// Whether a name could not be looked up, for which the standard library has no kind of error. Without
/// a network that is what happens, and waiting does not help.
fn is_unknown_host(error: &std::io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address")
}

/// The first byte's place and the length of the whole out of `bytes 0-99/1234`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()))
}

/// The URL that a redirect at `base` points to.
fn resolve(base: &Uri, location: &str) -> Option<String> {
    let location = location.split('#').next()?.trim();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = location
        .split_once("://")
        .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Some(match location {
        "" => return None,
        _ if absolute => location.to_string(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => {
            let folder = base
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    })
}

/// Whether a URL is of this machine.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let base: Uri = "https://host:8/a/b?c=d".parse().unwrap();
        let to = |location| resolve(&base, location);
        assert_eq!(
            to("https://other/x?y=://").unwrap(),
            "https://other/x?y=://"
        );
        assert_eq!(to("//other/x").unwrap(), "https://other/x");
        assert_eq!(to("/x").unwrap(), "https://host:8/x");
        assert_eq!(to("x?u=http://z").unwrap(), "https://host:8/a/x?u=http://z");
        assert_eq!(to("ftp://other").unwrap(), "ftp://other");
        assert_eq!(to(" "), None);
    }

    #[test]
    fn only_encrypted_or_local_urls_are_requested() {
        let client = Client::new(&Limits::default(), false);
        for good in [
            "https://a.b/c",
            "http://localhost:1/c",
            "http://127.0.0.9/",
            "http://[::1]:2/",
        ] {
            assert!(client.check(good, true).is_ok(), "{good}");
        }
        for bad in [
            "http://a.b/c",
            "http://localhost.a.b/",
            "http://127.0.0.1.a.b/",
        ] {
            let error = client.check(bad, true).unwrap_err();
            assert!(matches!(error, PretrainedError::Insecure { .. }), "{bad}");
        }
        for bad in ["", "a.b/c", "file:///etc/passwd", "ftp://a.b/c", "https://"] {
            assert!(client.check(bad, true).is_err(), "{bad}");
        }
        // A server elsewhere does not send anyone to this machine.
        assert!(client.check("http://localhost:1/c", false).is_err());
        assert!(
            Client::new(&Limits::default(), true)
                .check("http://a.b/c", true)
                .is_ok()
        );
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let limits = Limits::default();
        for (failures, least) in [(1, 1), (2, 2), (4, 8)] {
            let pause = limits.pause(failures).as_secs_f64();
            let least = f64::from(least);
            assert!(
                (least..=1.5 * least).contains(&pause),
                "{failures}: {pause}"
            );
        }
        assert_eq!(limits.pause(40), limits.longest_pause);
    }

    #[test]
    fn ranges_are_read_from_their_header() {
        assert_eq!(content_range("bytes 5-9/100"), Some((5, Some(100))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */100"), None);
        assert_eq!(content_range("rows 5-9/100"), None);
    }
}
