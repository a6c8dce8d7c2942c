//! Who publishes VGG19's weights, and where.

use super::PretrainedError;
use crate::normalization::Normalization;

/// A URL from which a file can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// A URL that begins with `https://`.
    pub url: String,
    /// The SHA-256 of the whole file in hexadecimal digits, or as many of its first digits as the
    /// publisher states. With it the whole file is fetched and compared; without it, the
    /// convolutions alone where that is possible.
    pub sha256: Option<String>,
}

impl Mirror {
    /// The URL with the SHA-256 that the contents were compared with. A file in the cache states it
    /// as its origin.
    pub(super) fn origin(&self) -> String {
        match &self.sha256 {
            Some(sum) => format!("{}#sha256={}", self.url, sum.to_ascii_lowercase()),
            None => self.url.clone(),
        }
    }
}

/// A training of VGG19 and the mirrors that publish it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The name of its file in the cache.
    pub name: String,
    /// What it is, in a few words.
    pub description: String,
    /// Under what terms its publisher gives it.
    pub licence: String,
    /// Bytes to fetch from the first mirror.
    pub download: Option<u64>,
    /// Where to fetch it from, in the order in which they are tried.
    pub mirrors: Vec<Mirror>,
    /// The normalisation of its input, where the file does not state it.
    pub normalization: Option<Normalization>,
    /// Whether a file with fewer than the 16 convolutions, or than were asked for, is refused.
    pub complete: bool,
}

impl Source {
    /// torchvision's training: RGB, ImageNet mean and deviation. From Hugging Face, where the
    /// convolutions can be fetched alone, else from PyTorch's own server.
    pub fn torchvision() -> Self {
        Self {
            name: "torchvision".into(),
            description: "torchvision's own training (IMAGENET1K_V1)".into(),
            licence: "BSD 3-Clause (torchvision)".into(),
            download: Some(80_100_000),
            mirrors: vec![
                mirror(
                    "https://huggingface.co/timm/vgg19.tv_in1k/resolve/main/model.safetensors",
                    None,
                ),
                mirror(
                    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
                    Some("dcbb9e9d"),
                ),
            ],
            normalization: Some(Normalization::TORCHVISION),
            complete: true,
        }
    }

    /// The original training of Simonyan and Zisserman, converted from Caffe: BGR, 0–255. It is
    /// what Gatys et al. and neural-style used.
    pub fn caffe() -> Self {
        Self {
            name: "caffe".into(),
            description: "the original training (Simonyan and Zisserman)".into(),
            licence: "CC BY 4.0 (Oxford Visual Geometry Group)".into(),
            download: Some(574_700_000),
            mirrors: vec![
                mirror(
                    "https://web.eecs.umich.edu/~justincj/models/vgg19-d01eb7cb.pth",
                    Some("d01eb7cb"),
                ),
                mirror(
                    "https://s3-us-west-2.amazonaws.com/jcjohns-models/vgg19-d01eb7cb.pth",
                    Some("d01eb7cb"),
                ),
            ],
            normalization: Some(Normalization::CAFFE_BGR),
            complete: true,
        }
    }

    /// A file of one's own choice, of any kind that [`crate::Vgg19Weights::load`] reads. The
    /// normalisation is the file's own; see there.
    pub fn url(url: impl Into<String>, sha256: Option<String>) -> Self {
        let url = url.into();
        Self {
            name: "custom".into(),
            description: url.clone(),
            licence: "its publisher's".into(),
            download: None,
            mirrors: vec![Mirror { url, sha256 }],
            normalization: None,
            complete: false,
        }
    }

    /// All sources with a name, the default first.
    pub fn all() -> [Self; 2] {
        [Self::torchvision(), Self::caffe()]
    }

    /// The source of that name.
    ///
    /// # Errors
    /// [`PretrainedError::UnknownSource`] with the names that exist.
    pub fn named(name: &str) -> Result<Self, PretrainedError> {
        let found = Self::all().into_iter().find(|source| source.name == name);
        found.ok_or_else(|| PretrainedError::UnknownSource {
            name: name.into(),
            known: Self::all().map(|source| source.name).join(", "),
        })
    }
}

fn mirror(url: &str, sha256: Option<&str>) -> Mirror {
    Mirror {
        url: url.into(),
        sha256: sha256.map(str::to_string),
    }
}
