//! The same network as people save it: in many names, nestings, strides, types, graphs and archives.
//!
//! `tests/reference/wrapped.py` made the files of `wrapped.tar.gz` with PyTorch and ONNX;
//! the property below makes more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use half::{bf16, f16};
use impasto::weights::{Convolution, NormalizationSource};
use impasto::{Layer, Normalization, Vgg19Weights};
use proptest::prelude::*;
use proptest::sample::select;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;

use crate::data;

/// What is expected of a file.
#[derive(Deserialize)]
struct Expected {
    rounding: Rounding,
    normalization: Option<Normalization>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rounding {
    None,
    F16,
    Bf16,
}

impl Rounding {
    fn apply(self, value: f32) -> f32 {
        match self {
            Rounding::None => value,
            Rounding::F16 => f16::from_f32(value).to_f32(),
            Rounding::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }
}

/// The files by name.
pub fn files() -> BTreeMap<String, Vec<u8>> {
    let packed = fs::read(data("wrapped.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
    let read = |entry: std::io::Result<tar::Entry<_>>| {
        let mut entry = entry.unwrap();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_string();
        (name, contents)
    };
    archive.entries().unwrap().map(read).collect()
}

/// The weights that all of them hold.
static WEIGHTS: LazyLock<Vgg19Weights> = LazyLock::new(|| {
    let whole = Vgg19Weights::load(data("small.safetensors")).unwrap();
    whole.until(Layer::RELU3_1)
});

fn rounded(rounding: Rounding) -> Vec<Convolution> {
    let mut convolutions = WEIGHTS.convolutions().to_vec();
    for layer in &mut convolutions {
        let values = layer
            .weight
            .iter_mut()
            .chain(layer.bias.iter_mut().flatten());
        values.for_each(|value| *value = rounding.apply(*value));
    }
    convolutions
}

fn write(folder: &Path, name: &str, contents: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, contents).unwrap();
    path
}

fn assert_near(found: &Normalization, expected: &Normalization, name: &str) {
    assert_eq!(found.range, expected.range, "{name}");
    assert_eq!(found.bgr, expected.bgr, "{name}");
    let pairs = |a: [f32; 3], b: [f32; 3]| a.into_iter().zip(b);
    let mut pairs = pairs(found.mean, expected.mean).chain(pairs(found.std, expected.std));
    // Constants in float32, turned into a mean and a deviation.
    assert!(
        pairs.all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs() + 1e-9),
        "{name}: {found:?}, expected {expected:?}"
    );
}

#[test]
fn files_of_pytorch_and_onnx_load_as_what_they_are() {
    let report: BTreeMap<String, Expected> =
        serde_json::from_slice(&fs::read(data("wrapped.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = files();
    // One has its data in a second file.
    write(folder.path(), "external.bin", &files["external.bin"]);
    for (name, expected) in &report {
        // The name tells nothing.
        let path = write(folder.path(), "a file", &files[name]);
        let weights = Vgg19Weights::load(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            weights.convolutions() == rounded(expected.rounding),
            "{name}"
        );
        match &expected.normalization {
            Some(stated) => {
                assert_near(&weights.normalization, stated, name);
                let source = weights.normalization_source;
                let stated = matches!(
                    source,
                    NormalizationSource::Graph | NormalizationSource::File
                );
                assert!(stated, "{name}: {source:?}");
                assert_eq!(weights.normalization_doubt(), None, "{name}");
            }
            None => {
                let source = weights.normalization_source;
                assert_eq!(source, NormalizationSource::Assumed, "{name}");
                let doubt = weights.normalization_doubt().unwrap();
                assert!(doubt.contains("assumed torchvision's"), "{doubt}");
            }
        }
    }
    assert!(report.len() > 40);
}

#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let error = Vgg19Weights::load(path)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    for word in words.iter().chain([&name]) {
        assert!(error.contains(word), "`{error}` lacks `{word}`");
    }
}

#[test]
fn what_could_be_understood_wrongly_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = files();
    for (name, words) in [
        (
            "two-networks.pth",
            &["two networks", "a.features.0.weight", "b.features"][..],
        ),
        ("integers.pth", &["features.0.weight", "Char", ".float()"]),
        ("refused-resize.onnx", &["GlobalAveragePool"]),
        ("refused-sigmoid.onnx", &["Sigmoid"]),
        ("refused-negative.onnx", &["unusual kind"]),
        ("refused-grey.onnx", &["unusual kind"]),
    ] {
        let path = write(folder.path(), name, &files[name]);
        refused(&path, words);
    }
}

/// A tar archive of these files.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *contents).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(contents: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(contents).unwrap();
    packed.finish().unwrap()
}

/// A compressed zip archive of these files.
fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    for (name, contents) in files {
        archive.start_file(*name, deflated).unwrap();
        archive.write_all(contents).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn an_archive_with_one_file_of_weights_loads() {
    let folder = tempfile::tempdir().unwrap();
    let files = files();
    // As the model zoo packs them: a model, tensors to test it with, and a text.
    let tensor = b"\x08\x01\x08\x03\x10\x01\x4a\x04\0\0\0\0";
    for name in [
        "data-parallel.pth",
        "prefixed.safetensors",
        "f16-cast.onnx",
        "module-legacy.pt",
    ] {
        let expected = Vgg19Weights::load(write(folder.path(), "plain", &files[name])).unwrap();
        let zipped = gzip(&files[name]);
        let members = [
            ("vgg19/README.md", &b"weights"[..]),
            ("vgg19/test_data_set_0/input_0.pb", tensor),
            ("vgg19/._model", b"\0\x05\x16\x07 Mac OS X"),
            ("vgg19/model", &files[name]),
        ];
        let mut packed = members;
        packed[3].1 = &zipped;
        for archive in [
            tar_of(&members),
            gzip(&tar_of(&members)),
            tar_of(&packed),
            zip_of(&members),
            zip_of(&packed),
        ] {
            let path = write(folder.path(), "archive", &archive);
            let weights = Vgg19Weights::load(path).unwrap();
            assert!(weights == expected, "{name}");
        }
    }
    let (one, other) = (&files["bare.pth"][..], &files["tuple.pth"][..]);
    let two = [("a.pth", one), ("b.pth", other)];
    let none = [("readme.txt", &b"text"[..])];
    for (name, archive, words) in [
        (
            "two.tar",
            tar_of(&two),
            &["2 files", "a.pth, b.pth", "name one"][..],
        ),
        ("two.zip", zip_of(&two), &["2 files", "a.pth, b.pth"]),
        (
            "none.tgz",
            gzip(&tar_of(&none)),
            &["no file of weights", "readme.txt"],
        ),
        (
            "none.zip",
            zip_of(&none),
            &["no file of weights", "readme.txt"],
        ),
        (
            "in.tar",
            tar_of(&[("inner.zip", &zip_of(&two))]),
            &["archive in an archive"],
        ),
        (
            "external.tar",
            tar_of(&[("m.onnx", &files["external.onnx"])]),
            &["second file", "unpack"],
        ),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, archive).unwrap();
        let error = Vgg19Weights::load(&path)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        for word in words.iter().chain([&name]) {
            assert!(error.contains(word), "`{error}` lacks `{word}`");
        }
    }
}

/// How a kernel's place is said in its name.
#[derive(Clone, Copy, Debug)]
enum Naming {
    Positions(usize),
    Layers,
    Blocks,
    Slices,
}

const NAMINGS: [Naming; 5] = [
    Naming::Positions(0),
    Naming::Positions(1),
    Naming::Layers,
    Naming::Blocks,
    Naming::Slices,
];

const POSITIONS: [usize; 5] = [0, 2, 5, 7, 10];

impl Naming {
    fn stem(self, index: usize) -> String {
        let position = POSITIONS[index];
        let (block, number) = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)][index];
        match self {
            Naming::Positions(offset) => (position + offset).to_string(),
            Naming::Layers => format!("conv{block}_{number}"),
            Naming::Blocks => format!("block{block}_conv{number}"),
            Naming::Slices => format!("slice{block}.{position}"),
        }
    }
}

/// An element type that files have.
#[derive(Clone, Copy, Debug)]
enum Type {
    F16,
    Bf16,
    F32,
    F64,
}

impl Type {
    fn bytes(self, value: f32) -> Vec<u8> {
        match self {
            Type::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            Type::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
            Type::F32 => value.to_le_bytes().to_vec(),
            Type::F64 => f64::from(value).to_le_bytes().to_vec(),
        }
    }

    fn size(self) -> usize {
        self.bytes(0.0).len()
    }

    fn storage(self) -> &'static str {
        match self {
            Type::F16 => "HalfStorage",
            Type::Bf16 => "BFloat16Storage",
            Type::F32 => "FloatStorage",
            Type::F64 => "DoubleStorage",
        }
    }

    fn safetensors(self) -> Dtype {
        match self {
            Type::F16 => Dtype::F16,
            Type::Bf16 => Dtype::BF16,
            Type::F32 => Dtype::F32,
            Type::F64 => Dtype::F64,
        }
    }

    fn rounding(self) -> Rounding {
        match self {
            Type::F16 => Rounding::F16,
            Type::Bf16 => Rounding::Bf16,
            Type::F32 | Type::F64 => Rounding::None,
        }
    }
}

/// A way to save the network.
#[derive(Clone, Debug)]
struct Wrapping {
    nesting: Vec<&'static str>,
    prefix: Vec<&'static str>,
    naming: Naming,
    dtype: Type,
    /// Order in which the axes of kernels lie in memory, outermost first.
    axes: Vec<usize>,
    /// Values between neighbours, at least 1, and before the first.
    step: usize,
    offset: usize,
    unused: bool,
}

fn wrapping() -> impl Strategy<Value = Wrapping> {
    let key = select(vec![
        "state_dict",
        "model_state_dict",
        "model",
        "net",
        "params",
        "any key",
        "ema",
    ]);
    let part = select(vec![
        "module",
        "model",
        "backbone",
        "_orig_mod",
        "encoder",
        "vgg",
        "net",
        "features",
        "0",
        "vgg19",
        "loss.vgg",
    ]);
    (
        prop::collection::vec(key, 0..3),
        prop::collection::vec(part, 0..4),
        select(NAMINGS.to_vec()),
        select(vec![Type::F16, Type::Bf16, Type::F32, Type::F64]),
        Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        1usize..3,
        0usize..3,
        any::<bool>(),
    )
        .prop_map(
            |(nesting, prefix, naming, dtype, axes, step, offset, unused)| Wrapping {
                nesting,
                prefix,
                naming,
                dtype,
                axes,
                step,
                offset,
                unused,
            },
        )
}

/// A tensor to be saved: name, shape and values.
type Saved = (String, Vec<usize>, Vec<f32>);

impl Wrapping {
    fn tensors(&self) -> Vec<Saved> {
        let prefix: String = self.prefix.iter().map(|part| format!("{part}.")).collect();
        let mut tensors = Vec::new();
        for (index, layer) in WEIGHTS.convolutions().iter().enumerate() {
            let stem = self.naming.stem(index);
            let bias = layer.bias.clone().unwrap();
            tensors.push((format!("{prefix}{stem}.bias"), vec![bias.len()], bias));
            tensors.push((
                format!("{prefix}{stem}.weight"),
                layer.shape.to_vec(),
                layer.weight.clone(),
            ));
        }
        if self.unused {
            tensors.push(("classifier.0.weight".into(), vec![2, 3], vec![0.0; 6]));
            tensors.push(("decoder.0.weight".into(), vec![3, 4, 3, 3], vec![0.0; 108]));
            tensors.push(("decoder.2.weight".into(), vec![2, 4, 3, 3], vec![0.0; 72]));
        }
        tensors
    }

    /// As safetensors, where there are no strides.
    fn safetensors(&self) -> Vec<u8> {
        let nesting: String = self.nesting.iter().map(|key| format!("{key}.")).collect();
        let tensors: Vec<_> = self
            .tensors()
            .into_iter()
            .map(|(name, shape, values)| {
                let bytes: Vec<u8> = values.iter().flat_map(|&v| self.dtype.bytes(v)).collect();
                (format!("{nesting}{name}"), shape, bytes)
            })
            .collect();
        let views = tensors.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(self.dtype.safetensors(), shape.clone(), bytes).unwrap();
            (name.clone(), view)
        });
        safetensors::serialize(views, None).unwrap()
    }

    /// As PyTorch saves it.
    fn pytorch(&self) -> Vec<u8> {
        let mut pickle = b"\x80\x02".to_vec();
        for key in &self.nesting {
            pickle.extend(b"}(");
            pickle.extend([text("epoch"), int(3), text(key)].concat());
        }
        pickle.extend(b"}(");
        let mut storages = Vec::new();
        for (name, shape, values) in self.tensors() {
            let (strides, data) = self.laid_out(&shape, &values);
            pickle.extend(text(&name));
            pickle.extend(self.tensor(storages.len(), &shape, &strides, data.len()));
            storages.push(data);
        }
        pickle.push(b'u');
        pickle.extend(b"u".repeat(self.nesting.len()));
        pickle.push(b'.');
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        archive.start_file("any/data.pkl", stored).unwrap();
        archive.write_all(&pickle).unwrap();
        for (key, data) in storages.iter().enumerate() {
            archive
                .start_file(format!("any/data/{key}"), stored)
                .unwrap();
            archive.write_all(data).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    /// Strides, and the values where these say.
    fn laid_out(&self, shape: &[usize], values: &[f32]) -> (Vec<usize>, Vec<u8>) {
        let order: Vec<usize> = match shape.len() {
            4 => self.axes.clone(),
            dimensions => (0..dimensions).collect(),
        };
        let mut strides = vec![0; shape.len()];
        let mut next = self.step;
        for &axis in order.iter().rev() {
            strides[axis] = next;
            next *= shape[axis];
        }
        let mut data = vec![0xff; (self.offset + next) * self.dtype.size()];
        for (place, &value) in values.iter().enumerate() {
            let (mut rest, mut at) = (place, self.offset);
            for axis in (0..shape.len()).rev() {
                at += rest % shape[axis] * strides[axis];
                rest /= shape[axis];
            }
            let size = self.dtype.size();
            data[at * size..(at + 1) * size].copy_from_slice(&self.dtype.bytes(value));
        }
        (strides, data)
    }

    fn tensor(&self, key: usize, shape: &[usize], strides: &[usize], bytes: usize) -> Vec<u8> {
        let sizes = |sizes: &[usize]| {
            let sizes: Vec<u8> = sizes.iter().flat_map(|&size| int(size)).collect();
            [b"(", &sizes[..], b"t"].concat()
        };
        [
            &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
            &text("storage"),
            format!("ctorch\n{}\n", self.dtype.storage()).as_bytes(),
            &text(&key.to_string()),
            &text("cpu"),
            &int(bytes / self.dtype.size()),
            b"tQ",
            &int(self.offset),
            &sizes(shape),
            &sizes(strides),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    }
}

fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

fn int(number: usize) -> Vec<u8> {
    [b"J", &(number as u32).to_le_bytes()[..]].concat()
}

proptest! {
    /// Whatever wraps the network, and however its values lie, it is found as it is.
    #[test]
    fn wrapped_networks_are_found(wrapping in wrapping(), pytorch in any::<bool>()) {
        let bytes = match pytorch {
            true => wrapping.pytorch(),
            false => wrapping.safetensors(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "file", &bytes);
        let weights = Vgg19Weights::load(path);
        let weights = weights.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(weights.convolutions() == rounded(wrapping.dtype.rounding()));
    }
}
