//! VGG19's weights from where they are published, into a cache that every program shares.
//!
//! A download fetches only what is needed: where the server can send parts of a file, and the file
//! lists its contents, that is the convolutions alone, 80 MB of 575. What has arrived stays when
//! the connection breaks or the program ends, and the next call goes on from there. A file appears
//! under its final name only when it is whole and checked, and it carries a sum that is checked on
//! every later load.
//!
//! ```no_run
//! use impasto::pretrained::{Cache, Download, Source};
//! use impasto::{Layer, Vgg19Weights};
//!
//! let cache = Cache::open()?;
//! let file = match cache.find() {
//!     Some(file) => file,
//!     None => Download::new(Source::torchvision()).until(Layer::RELU5_1).run(&cache)?,
//! };
//! let weights = Vgg19Weights::load(file)?;
//! # Ok::<(), impasto::Error>(())
//! ```
//!
//! Nothing else in the crate touches the network.

mod cache;
mod download;
mod http;
mod partial;
mod sources;
mod verify;

use std::path::PathBuf;

pub use cache::Cache;
pub use download::{Download, DownloadProgress};
pub use http::Limits;
pub use sources::{Mirror, Source};
pub use verify::{LayerReport, Report, verify};

use crate::weights::WeightsError;

/// What can go wrong between a publisher and the cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainedError {
    /// A name that no source has.
    #[error("there is no source `{name}` of weights; the sources are {known}")]
    UnknownSource {
        /// The name as given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The platform has no folder for caches.
    #[error("found no folder for caches; name one in IMPASTO_CACHE")]
    NoCacheFolder,
    /// The cache cannot be written to.
    #[error(
        "{}: cannot write to the cache; make room there or name another folder in IMPASTO_CACHE",
        path.display()
    )]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A URL without encryption.
    #[error(
        "{url} is not https; allow it with --allow-http (`Download::allow_http`) if you trust \
             the network"
    )]
    Insecure {
        /// The URL.
        url: String,
    },
    /// A URL that cannot be requested: malformed, of another scheme, or of an unknown host.
    #[error("{url}: {problem}")]
    InvalidUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server refused the request.
    #[error("{url} answered with status {status}{}", explain(*.status))]
    Status {
        /// The URL.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
    /// The connection failed or was too slow at every attempt.
    #[error("{url}: {problem}; try again later")]
    Network {
        /// The URL.
        url: String,
        /// What happened last.
        problem: String,
    },
    /// Something else than a file.
    #[error(
        "{url} answered with a web page instead of a file; a proxy or a portal may stand in \
             the way"
    )]
    WebPage {
        /// The URL.
        url: String,
    },
    /// The response contradicts itself or the request.
    #[error("{url}: {problem}")]
    InvalidResponse {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file beyond the limit.
    #[error("{url}: the file has more than the allowed {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A file with other contents than the published ones.
    #[error("{url}: the SHA-256 is {found}, expected {expected}; the file is damaged or another")]
    Checksum {
        /// The URL.
        url: String,
        /// The sum, or its beginning, as published.
        expected: String,
        /// The sum of what arrived.
        found: String,
    },
    /// The file arrived, but cannot be used.
    #[error("{url}: what arrived cannot be used")]
    Unusable {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: WeightsError,
    },
    /// No mirror of a source gave the file.
    #[error("no mirror of `{name}` gave the weights:{}", list(.failures))]
    AllFailed {
        /// The source.
        name: String,
        /// Why each mirror failed.
        failures: Vec<PretrainedError>,
    },
    /// The caller asked to stop.
    #[error("the download was stopped; the next one goes on from there")]
    Stopped,
    /// Weights that cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What a status code means to someone who only wants a file.
fn explain(status: u16) -> &'static str {
    match status {
        401 | 403 => " (access denied)",
        404 | 410 => " (there is no such file any more)",
        407 => " (the proxy wants a password)",
        408 | 429 | 500.. => " (try again later)",
        _ => "",
    }
}

/// The failures with their causes, a line each.
fn list(failures: &[PretrainedError]) -> String {
    let line = |failure: &PretrainedError| {
        let cause = std::error::Error::source(failure);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("\n  {failure}{cause}")
    };
    failures.iter().map(line).collect()
}
