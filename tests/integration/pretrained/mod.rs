//! Weights on their way: from servers good and bad into a cache, and what is kept there.

mod downloads;
mod files;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use impasto::Vgg19Weights;
use impasto::pretrained::{Cache, Download, Limits, PretrainedError, Source};
use impasto::weights::Precision;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use crate::data;
use crate::server::Server;

fn small() -> Vgg19Weights {
    Vgg19Weights::load(data("small.safetensors")).unwrap()
}

/// The small network with a classifier of a megabyte behind it, as the published files have.
fn published() -> Vec<u8> {
    let bytes = fs::read(data("small.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let classifier = vec![0; 1 << 20];
    let mut tensors = file.tensors();
    for name in ["head.fc.weight", "pre_logits.fc1.weight"] {
        let view = TensorView::new(Dtype::F32, vec![1 << 18], &classifier).unwrap();
        tensors.push((name.into(), view));
    }
    safetensors::serialize(tensors, None).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Patience enough for a busy machine, but not with a server that is in trouble.
fn limits() -> Limits {
    Limits {
        attempts: 3,
        backoff: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        size: 4 << 20,
        ..Limits::default()
    }
}

/// Hardly any patience.
fn hasty() -> Limits {
    Limits {
        connect: Duration::from_millis(500),
        response: Duration::from_millis(500),
        stall: Duration::from_millis(300),
        window: Duration::from_millis(200),
        least_rate: 2000,
        ..limits()
    }
}

/// A cache of its own for a test.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cache(&self) -> Cache {
        Cache::at(self.path("cache"))
    }

    /// Names in the cache, without the locks, which stay and are empty.
    fn listing(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cache().folder());
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort();
        names
    }

    fn download(&self, source: Source) -> Result<PathBuf, PretrainedError> {
        quick(source).run(&self.cache())
    }

    /// A download that must fail and leave nothing.
    #[track_caller]
    fn refused(&self, source: Source, words: &str) -> PretrainedError {
        let error = self.download(source).unwrap_err();
        assert!(
            error.to_string().contains(words),
            "`{error}` lacks `{words}`"
        );
        assert_eq!(self.listing(), [""; 0], "{error}");
        error
    }

    /// The program with this cache.
    fn impasto(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
        command.args(arguments).env_remove("IMPASTO_WEIGHTS");
        command.env("IMPASTO_CACHE", self.cache().folder());
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.impasto(arguments).output().unwrap()
    }
}

fn quick(source: Source) -> Download<'static> {
    Download::new(source)
        .limits(limits())
        .precision(Precision::F32)
}

fn source(server: &Server, name: &str) -> Source {
    Source::url(server.at(name), None)
}
