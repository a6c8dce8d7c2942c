//! From a publisher's file to a compact one in the cache.
//!
//! What arrives is appended to a partial file. A manifest beside it states the URL, the version of
//! the file there, and which of its pieces are wanted. The partial file holds these pieces one after
//! another, so its length says how far the download has come. Whatever ends a run, the next one
//! resumes from there if the server still has the same version.

use std::fs::{self, File};
use std::io::Read;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::http::{Client, Limits, RangeResponse, RequestError, ResponseBody};
use super::partial::{PartialFile, ResumeManifest, whole_file};
use super::{Cache, Mirror, PretrainedError, Source};
use crate::layer::Layer;
use crate::weights::compact::{self, CompactInfo, Precision};
use crate::weights::safetensors::Header;
use crate::weights::{Vgg19Weights, WeightsError};

/// Bytes of the first request: enough for the table of contents.
const FIRST_REQUEST: u64 = 1 << 16;

/// Largest gap between wanted tensors that is fetched too, to save a request.
const LARGEST_GAP: u64 = 1 << 16;

/// Bytes between two failures after which the second counts as the first again.
const PROGRESS: u64 = 1 << 20;

/// Ends the origin of weights of which only the first layers were wanted.
const UNTIL_SUFFIX: &str = "#until";

/// How far a download has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DownloadProgress<'a> {
    /// Another process is fetching the same weights.
    Waiting,
    /// Bytes arrive.
    Fetching {
        /// From where.
        url: &'a str,
        /// Bytes that are here, with those of earlier calls.
        done: u64,
        /// Bytes that are wanted, where the server tells.
        total: Option<u64>,
    },
    /// An attempt failed; there will be another one.
    Retrying {
        /// The error.
        error: &'a PretrainedError,
        /// How long to wait before.
        pause: Duration,
    },
    /// A mirror is given up; there are others.
    NextMirror {
        /// The error.
        error: &'a PretrainedError,
    },
    /// Everything is here and is being checked.
    Checking,
}

type OnProgress<'a> = Box<dyn FnMut(&DownloadProgress) -> ControlFlow<()> + 'a>;

/// A download of VGG19's weights, ready to [`run`](Download::run).
pub struct Download<'a> {
    source: Source,
    until: Option<Layer>,
    precision: Precision,
    allow_http: bool,
    limits: Limits,
    progress: OnProgress<'a>,
}

impl<'a> Download<'a> {
    /// A download of all convolutions, stored with 16 bits.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            until: None,
            precision: Precision::default(),
            allow_http: false,
            limits: Limits::default(),
            progress: Box::new(|_| ControlFlow::Continue(())),
        }
    }

    /// Only the layers up to this one.
    pub fn until(mut self, layer: Layer) -> Self {
        self.until = Some(layer);
        self
    }

    /// How to store the weights.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Allows URLs without encryption. Those of this machine are always allowed.
    pub fn allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// Other limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Calls `progress` whenever something arrives and before each pause. On `Break` the download
    /// stops, and what has arrived is kept.
    pub fn on_progress(
        mut self,
        progress: impl FnMut(&DownloadProgress) -> ControlFlow<()> + 'a,
    ) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Fetches the weights into the cache, unless it has them, and returns the file. Where another
    /// process is doing the same, it waits for that one's result.
    ///
    /// # Errors
    /// [`PretrainedError`]. The cache then holds no file that it did not hold before, except for a
    /// partial one under another name, if the next call can resume it.
    pub fn run(self, cache: &Cache) -> Result<PathBuf, PretrainedError> {
        let path = cache.path(&self.source.name);
        self.run_to(cache, &path)?;
        Ok(path)
    }

    /// Writes the weights to a file of one's own choice. A copy in the cache is used if there is
    /// one; partial files are kept there too.
    ///
    /// # Errors
    /// As [`Download::run`].
    pub fn run_to(mut self, cache: &Cache, path: impl AsRef<Path>) -> Result<(), PretrainedError> {
        let path = path.as_ref();
        let name = self.source.name.clone();
        let progress = &mut self.progress;
        let _lock = cache.lock(&name, || progress(&DownloadProgress::Waiting))?;
        let cached = cache.path(&name);
        crate::atomic::check(path).map_err(|source| WeightsError::Save {
            path: path.into(),
            source: source.into(),
        })?;
        if let Some((weights, origin)) = self.find(&cached) {
            if path != cached {
                self.save(weights, path, &origin)?;
            }
            return Ok(());
        }

        let mut partial = PartialFile::open(&cache.folder().join(format!(".vgg19-{name}.partial")));
        let saved = self.fetch(&mut partial).and_then(|(weights, origin)| {
            let saved = self.save(weights, path, &origin);
            // Whether it could be saved or not, as on a full disk: nothing stays behind.
            partial.discard();
            saved
        });
        if let Err(PretrainedError::Cache { .. }) = saved {
            partial.discard();
        }
        saved
    }

    /// The weights in the cache, if they are whole, enough, and from the same source.
    fn find(&self, cached: &Path) -> Option<(Vgg19Weights, String)> {
        let info = CompactInfo::read(cached)?;
        let origin = info.source?;
        let mut mirrors = self.source.mirrors.iter();
        // What was not cut short holds all that the source has, however little that is.
        let (origin, all) = match origin.strip_suffix(UNTIL_SUFFIX) {
            Some(origin) => (origin.to_string(), false),
            None => (origin, self.until.is_none()),
        };
        let known = mirrors.any(|mirror| mirror.origin() == origin);
        let enough = all || info.convolutions >= self.depth();
        if !known || !enough || info.precision < self.precision {
            return None;
        }
        Some((Vgg19Weights::load(cached).ok()?, origin))
    }

    /// How many convolutions are wanted.
    fn depth(&self) -> usize {
        self.until.map_or(16, Layer::depth)
    }

    fn save(
        &self,
        weights: Vgg19Weights,
        path: &Path,
        origin: &str,
    ) -> Result<(), PretrainedError> {
        let (weights, origin) = match self.until {
            Some(layer) => (weights.until(layer), format!("{origin}{UNTIL_SUFFIX}")),
            None => (weights, origin.to_string()),
        };
        Ok(weights.save_from(path, self.precision, Some(&origin))?)
    }

    /// The weights from the first mirror that gives them.
    fn fetch(
        &mut self,
        partial: &mut PartialFile,
    ) -> Result<(Vgg19Weights, String), PretrainedError> {
        let mut mirrors = self.source.mirrors.clone();
        // What an earlier call began comes first.
        mirrors.sort_by_key(|mirror| !partial.is_from(&mirror.url));
        let mut failures = Vec::new();
        for mirror in mirrors {
            match self.fetch_from(&mirror, partial) {
                Ok(weights) => return Ok((weights, mirror.origin())),
                Err(error @ (PretrainedError::Cache { .. } | PretrainedError::Stopped)) => {
                    return Err(error);
                }
                Err(error) => {
                    if failures.len() + 1 < self.source.mirrors.len() {
                        self.report(DownloadProgress::NextMirror { error: &error })?;
                    }
                    failures.push(error);
                }
            }
        }
        Err(match failures.len() {
            1 => failures.remove(0),
            _ => PretrainedError::AllFailed {
                name: self.source.name.clone(),
                failures,
            },
        })
    }

    fn fetch_from(
        &mut self,
        mirror: &Mirror,
        partial: &mut PartialFile,
    ) -> Result<Vgg19Weights, PretrainedError> {
        let client = Client::new(&self.limits, self.allow_http);
        let (mut failures, mut furthest) = (0, partial.length);
        loop {
            let can_resume = partial.fits(mirror, self.depth());
            let result = match can_resume {
                true if partial.is_complete() => break,
                true => self.resume(&client, mirror, partial),
                false => self.begin(&client, mirror, partial),
            };
            let error = match result {
                Ok(()) => continue,
                Err(error) if error.retryable => error,
                Err(error) => return Err(*error.error),
            };
            // What is only fetched again is no progress.
            if partial.length >= furthest + PROGRESS {
                (failures, furthest) = (0, partial.length);
            }
            failures += 1;
            if failures >= self.limits.attempts {
                return Err(*error.error);
            }
            let pause = error
                .retry_after
                .unwrap_or_else(|| self.limits.pause(failures));
            let error = error.error.as_ref();
            self.report(DownloadProgress::Retrying { error, pause })?;
            std::thread::sleep(pause);
        }
        self.report(DownloadProgress::Checking)?;
        let weights = self.check(mirror, partial);
        if weights.is_err() {
            // It is whole, and wrong.
            partial.discard();
        }
        weights
    }

    /// Starts with a mirror: reads the beginning of the file and decides what to fetch of it.
    fn begin(
        &mut self,
        client: &Client,
        mirror: &Mirror,
        partial: &mut PartialFile,
    ) -> Result<(), RequestError> {
        let url = &mirror.url;
        // A sum is of the whole file.
        let part = mirror.sha256.is_none().then_some(0..FIRST_REQUEST);
        let body = match client.get(url, part, None)? {
            RangeResponse::Whole(body) => return self.take_whole(mirror, body, partial),
            RangeResponse::Part { body, .. } => body,
            RangeResponse::OutOfRange => {
                return Err(unusable(url, "the file is empty".into()).into());
            }
        };
        let (validator, total) = (body.validator.clone(), body.total);
        let Some(total) = total else {
            // The server might as well not support ranges.
            return match client.get(url, None, None)? {
                RangeResponse::Whole(body) => self.take_whole(mirror, body, partial),
                _ => Err(RequestError::network(
                    url,
                    "the server does not tell the file's length",
                )),
            };
        };
        let mut start = self.read(body, FIRST_REQUEST)?;
        if start.is_empty() {
            return Err(RequestError::network(url, "the connection ended early"));
        }
        refuse_page(url, &start)?;
        let wrong = |problem| unusable(url, problem);
        let mut pieces = whole_file(total);
        let mut whole = true;
        if Header::begins(&start) {
            let header = self.read_header(client, url, validator.as_deref(), &mut start)?;
            if header.file_length() != total {
                let expected = header.file_length();
                let problem = format!("the file has {total} bytes, expected {expected}");
                return Err(wrong(problem).into());
            }
            // Refuse another network before all of it is fetched.
            pieces = wanted_pieces(&header, self.depth()).map_err(wrong)?;
            whole = false;
        }
        let first = start.len().min(pieces[0].end as usize);
        let manifest = ResumeManifest {
            url: url.clone(),
            validator,
            total: Some(total),
            depth: self.depth(),
            whole,
            pieces,
        };
        self.refuse_large(url, manifest.length())?;
        partial.begin(manifest)?;
        partial.append(&start[..first])?;
        self.report_fetched(partial)
    }

    /// The table of contents of a file that begins with `start`, which is extended as far as needed.
    fn read_header(
        &mut self,
        client: &Client,
        url: &str,
        validator: Option<&str>,
        start: &mut Vec<u8>,
    ) -> Result<Header, RequestError> {
        let wrong = |problem| unusable(url, problem);
        let length = Header::length(start).map_err(wrong)?.unwrap_or(0);
        let from = start.len() as u64;
        if from < length {
            let response = client.get(url, Some(from..length), validator)?;
            let RangeResponse::Part { body, .. } = response else {
                return Err(RequestError::network(url, "the file changed on the way"));
            };
            start.extend(self.read(body, length - from)?);
        }
        if (start.len() as u64) < length {
            return Err(RequestError::network(url, "the connection ended early"));
        }
        Ok(Header::read(start).map_err(wrong)?)
    }

    /// Fetches the next piece, or the rest of one.
    fn resume(
        &mut self,
        client: &Client,
        mirror: &Mirror,
        partial: &mut PartialFile,
    ) -> Result<(), RequestError> {
        let url = &mirror.url;
        let Some((manifest, wanted)) = partial.manifest.as_ref().zip(partial.next_range()) else {
            return Ok(());
        };
        let (validator, total) = (manifest.validator.clone(), manifest.total);
        let changed = || RequestError::network(url, "the file changed on the way");
        let response = client.get(url, Some(wanted.clone()), validator.as_deref())?;
        let body = match response {
            RangeResponse::Part { body, from } if from == wanted.start => body,
            // The server does not support ranges, or has another version now.
            RangeResponse::Whole(body) => return self.take_whole(mirror, body, partial),
            _ => {
                partial.forget();
                return Err(changed());
            }
        };
        let other = |a: &Option<_>, b: &Option<_>| a.is_some() && b.is_some() && a != b;
        if other(&body.validator, &validator) || body.total.is_some() && body.total != total {
            partial.forget();
            return Err(changed());
        }
        let limits = self.limits.clone();
        let count = body.for_each_chunk(&limits, wanted.end - wanted.start, |chunk| {
            partial.append(chunk)?;
            self.report_fetched(partial)
        })?;
        match count == wanted.end - wanted.start {
            true => Ok(()),
            false => Err(RequestError::network(url, "the connection ended early")),
        }
    }

    /// Takes a file from its first byte to its last.
    fn take_whole(
        &mut self,
        mirror: &Mirror,
        body: ResponseBody,
        partial: &mut PartialFile,
    ) -> Result<(), RequestError> {
        let url = &mirror.url;
        let total = body.total;
        self.refuse_large(url, total.unwrap_or(0))?;
        let limit = self.limits.size;
        let mut manifest = Some(ResumeManifest {
            url: url.clone(),
            // Without a length nothing can tell what is missing.
            validator: body.validator.clone().filter(|_| total.is_some()),
            total,
            depth: self.depth(),
            whole: true,
            pieces: whole_file(total.unwrap_or(u64::MAX)),
        });
        let limits = self.limits.clone();
        let count = body.for_each_chunk(&limits, limit.saturating_add(1), |chunk| {
            // What an earlier mirror has sent is kept until this one sends something.
            if let Some(manifest) = manifest.take() {
                refuse_page(url, chunk)?;
                partial.begin(manifest)?;
            }
            partial.append(chunk)?;
            self.refuse_large(url, partial.length)
                .inspect_err(|_| partial.discard())?;
            self.report_fetched(partial)
        })?;
        if count == 0 {
            return Err(RequestError::network(url, "the server sent nothing"));
        }
        if total.is_none() {
            partial.end_here();
        }
        match partial.is_complete() {
            true => Ok(()),
            false => Err(RequestError::network(url, "the connection ended early")),
        }
    }

    fn read(&mut self, body: ResponseBody, limit: u64) -> Result<Vec<u8>, RequestError> {
        let mut bytes = Vec::new();
        body.for_each_chunk(&self.limits, limit, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Checks what has arrived and turns it into weights.
    fn check(
        &self,
        mirror: &Mirror,
        partial: &mut PartialFile,
    ) -> Result<Vgg19Weights, PretrainedError> {
        let url = &mirror.url;
        partial.close();
        if let Some(expected) = &mirror.sha256 {
            let found = sha256_of_file(&partial.path).map_err(|source| partial.error(source))?;
            let expected = expected.trim().to_ascii_lowercase();
            if expected.is_empty() || !found.starts_with(&expected) {
                let url = url.clone();
                return Err(PretrainedError::Checksum {
                    url,
                    expected,
                    found,
                });
            }
        }
        let whole = partial
            .manifest
            .as_ref()
            .is_none_or(|manifest| manifest.whole);
        let weights = match whole {
            true => Vgg19Weights::load_published(&partial.path, self.source.normalization),
            false => self.assemble(url, partial)?,
        };
        let weights = weights.map_err(|source| PretrainedError::Unusable {
            url: url.clone(),
            source,
        })?;
        let (found, wanted) = (weights.convolutions().len(), self.depth());
        if found < wanted && (self.source.complete || self.until.is_some()) {
            let problem = format!("it holds {found} convolutions where {wanted} are wanted");
            return Err(unusable(url, problem));
        }
        Ok(weights)
    }

    /// The weights whose pieces lie in the partial file.
    fn assemble(
        &self,
        url: &str,
        partial: &PartialFile,
    ) -> Result<Result<Vgg19Weights, WeightsError>, PretrainedError> {
        let bytes = fs::read(&partial.path).map_err(|source| partial.error(source))?;
        let bytes = Bytes::from(bytes);
        let header = Header::read(&bytes).map_err(|problem| unusable(url, problem))?;
        let wanted = header
            .first_convolutions(self.depth())
            .map_err(|problem| unusable(url, problem))?;
        let data = |place: Range<u64>| {
            let range = partial.find(&place).filter(|_| wanted.contains(&place))?;
            (range.end <= bytes.len()).then(|| bytes.slice(range))
        };
        Ok(Vgg19Weights::from_parts(
            &header,
            data,
            self.source.normalization,
            Path::new(url),
        ))
    }

    fn refuse_large(&self, url: &str, length: u64) -> Result<(), PretrainedError> {
        let limit = self.limits.size;
        match length > limit {
            true => Err(PretrainedError::TooLarge {
                url: url.into(),
                limit,
            }),
            false => Ok(()),
        }
    }

    fn report(&mut self, progress: DownloadProgress) -> Result<(), PretrainedError> {
        match (self.progress)(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(PretrainedError::Stopped),
        }
    }

    fn report_fetched<E: From<PretrainedError>>(&mut self, partial: &PartialFile) -> Result<(), E> {
        if let Some(manifest) = &partial.manifest {
            self.report(DownloadProgress::Fetching {
                url: &manifest.url,
                done: partial.length,
                total: manifest.total.map(|_| manifest.length()),
            })?;
        }
        Ok(())
    }
}

/// The error for a file, or the beginning of one, that is not VGG19's.
fn unusable(url: &str, problem: String) -> PretrainedError {
    PretrainedError::Unusable {
        url: url.into(),
        source: WeightsError::Unsuitable {
            path: url.rsplit('/').next().unwrap_or(url).into(),
            problem,
        },
    }
}

/// Refuses what begins as a web page does.
fn refuse_page(url: &str, start: &[u8]) -> Result<(), PretrainedError> {
    let text = start[..start.len().min(64)].trim_ascii_start();
    let tag = matches!(text, [b'<', b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..]);
    // A table of contents may have a length that reads like `<a`, but zeros follow.
    match tag && !text.contains(&0) {
        true => Err(PretrainedError::WebPage { url: url.into() }),
        false => Ok(()),
    }
}

/// The pieces of a file that hold its table of contents and the first `depth` convolutions.
fn wanted_pieces(header: &Header, depth: usize) -> Result<Vec<Range<u64>>, String> {
    let mut wanted = header.first_convolutions(depth)?;
    wanted.sort_by_key(|place| place.start);
    let mut pieces = whole_file(header.length);
    for place in wanted {
        match pieces.last_mut() {
            Some(last) if place.start <= last.end + LARGEST_GAP => {
                last.end = last.end.max(place.end)
            }
            _ => pieces.push(place),
        }
    }
    Ok(pieces)
}

/// The SHA-256 of a file, in hexadecimal digits.
fn sha256_of_file(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(compact::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
