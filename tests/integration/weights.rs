//! Files of weights, good and bad.

use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::Tensor;
use impasto::weights::{NormalizationSource, Training};
use impasto::{Layer, Normalization, Vgg19, Vgg19Weights, WeightsError};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};

use crate::data;

fn load(name: &str) -> Vgg19Weights {
    Vgg19Weights::load(data(name)).unwrap()
}

/// A file with these contents.
fn file(folder: &tempfile::TempDir, name: &str, contents: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, contents).unwrap();
    path
}

/// Loads what must not load; the message must name the file and hold the given words.
#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let error = match Vgg19Weights::load(path) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error.to_string(),
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    for word in words.iter().chain([&name]) {
        assert!(error.contains(word), "`{error}` does not say `{word}`");
    }
}

#[test]
fn every_format_gives_the_same_weights() {
    let expected = load("small.safetensors");
    assert_eq!(expected.convolutions().len(), 16);
    assert_eq!(expected.normalization, Normalization::TORCHVISION);
    for name in [
        "small.onnx",
        "small-features.onnx",
        "small.pth",
        "small-legacy.pth",
    ] {
        assert!(load(name) == expected, "{name}");
    }
    // Names, order and storage differ; the metadata state another normalisation.
    let scrambled = load("small-scrambled.onnx");
    assert_eq!(scrambled.convolutions(), expected.convolutions());
    assert_eq!(scrambled.normalization, Normalization::CAFFE);
}

#[test]
fn half_precision_is_rounded_not_mangled() {
    let exact = load("small.safetensors");
    for (name, tolerance) in [
        ("small-f16.safetensors", 1e-3),
        ("small-bf16.safetensors", 1e-2),
    ] {
        let rounded = load(name);
        for (a, b) in exact.convolutions().iter().zip(rounded.convolutions()) {
            for (a, b) in a.weight.iter().zip(&b.weight) {
                assert!(
                    (a - b).abs() <= tolerance * a.abs() + 1e-6,
                    "{name}: {a} and {b}"
                );
            }
        }
    }
}

#[test]
fn gzip_is_unpacked_and_a_name_tells_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &fs::read(data("small.onnx")).unwrap()).unwrap();
    let path = file(&folder, "weights.onnx.gz", &packed.finish().unwrap());
    assert!(Vgg19Weights::load(path).unwrap() == load("small.onnx"));

    let path = file(
        &folder,
        "vgg19-d01eb7cb.pth",
        &fs::read(data("small.pth")).unwrap(),
    );
    let weights = Vgg19Weights::load(path).unwrap();
    assert_eq!(weights.normalization, Normalization::TORCHVISION);
    assert_eq!(weights.normalization_source, NormalizationSource::Assumed);
    let doubt = weights.normalization_doubt().unwrap();
    assert!(doubt.contains("batch normalisation folded"), "{doubt}");
    let stated = weights.with_normalization(Normalization::CAFFE_BGR);
    assert_eq!(stated.normalization, Normalization::CAFFE_BGR);
    assert_eq!(stated.normalization_source, NormalizationSource::Given);
    assert_eq!(stated.normalization_doubt(), None);
}

#[test]
fn what_is_no_file_of_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.onnx");
    assert!(matches!(
        Vgg19Weights::load(&missing),
        Err(WeightsError::Io { .. })
    ));
    refused(folder.path(), &["folder"]);
    refused(&file(&folder, "empty.onnx", b""), &["empty"]);
    refused(
        &file(&folder, "text.pth", b"not weights"),
        &["ONNX, safetensors or a PyTorch"],
    );
    refused(
        &file(&folder, "page.html", b"<html>404</html>"),
        &["web page", "expected ONNX"],
    );
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 574674105\n";
    refused(
        &file(&folder, "pointer.onnx", pointer.as_bytes()),
        &["Git LFS pointer", "575 MB", "git lfs pull"],
    );
    refused(
        &file(&folder, "keras.h5", b"\x89HDF\r\n\x1a\n\0\0"),
        &["Keras", "convert"],
    );
    refused(
        &file(
            &folder,
            "numpy.pkl",
            b"\x80\x04\x95\x1b\0\0\0\0\0\0\0}\x94.",
        ),
        &["pickle of Python"],
    );
    refused(&file(&folder, "zip.pth", b"PK\x03\x04rest"), &["zip"]);
}

#[test]
fn truncated_files_are_refused_at_any_length() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "small.safetensors",
        "small.onnx",
        "small.pth",
        "small-legacy.pth",
    ] {
        let whole = fs::read(data(name)).unwrap();
        for part in [1, 3, 40, 90, 99] {
            let path = file(&folder, name, &whole[..whole.len() * part / 100]);
            refused(&path, &[]);
        }
    }
}

#[test]
fn foreign_networks_are_refused_with_what_was_expected() {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, tensors: &[(&str, Vec<usize>)]| {
        let zeros = vec![0u8; 4 * 512 * 512 * 9];
        let views = tensors.iter().map(|(name, shape)| {
            let bytes = 4 * shape.iter().product::<usize>();
            let view = TensorView::new(Dtype::F32, shape.clone(), &zeros[..bytes]).unwrap();
            (name.to_string(), view)
        });
        file(&folder, name, &serialize(views, None).unwrap())
    };
    let resnet = save(
        "resnet.safetensors",
        &[
            ("conv1.weight", vec![64, 3, 7, 7]),
            ("layer1.0.conv1.weight", vec![64, 64, 3, 3]),
            ("layer4.0.conv1.weight", vec![512, 256, 3, 3]),
        ],
    );
    refused(&resnet, &["ResNet", "VGG19", "weights download"]);
    let large = save(
        "alexnet.safetensors",
        &[
            ("features.0.weight", vec![64, 3, 11, 11]),
            ("features.0.bias", vec![64]),
        ],
    );
    refused(
        &large,
        &[
            "AlexNet",
            "features.0.weight",
            "[64, 3, 11, 11]",
            "[64, 3, 3, 3]",
        ],
    );
    let no_bias = save(
        "nobias.safetensors",
        &[("features.0.weight", vec![64, 3, 3, 3])],
    );
    refused(&no_bias, &["features.0.bias"]);
    // VGG19 with batch normalisation has its second convolution at 3.
    let normalised = save(
        "vgg19_bn.safetensors",
        &[
            ("features.0.weight", vec![64, 3, 3, 3]),
            ("features.0.bias", vec![64]),
            ("features.3.weight", vec![64, 64, 3, 3]),
        ],
    );
    refused(&normalised, &["features.3.weight", "another network"]);
    let clip = save(
        "clip.safetensors",
        &[
            ("logit_scale", vec![1]),
            ("visual.conv1.weight", vec![8, 3, 32, 32]),
        ],
    );
    refused(&clip, &["CLIP"]);
    let adapter = save("lora.safetensors", &[("unet.lora_up.weight", vec![8, 8])]);
    refused(&adapter, &["LoRA"]);
    let nothing = save("embedding.safetensors", &[("emb", vec![8, 8])]);
    refused(&nothing, &["`emb`", "no convolutions"]);
}

/// Tensors of networks of the VGG family, first block of 2 channels, names as torchvision's.
fn vgg(widths: &[&[usize]], normalised: bool) -> Vec<(String, Vec<usize>)> {
    let (mut tensors, mut position, mut channels) = (Vec::new(), 0, 3);
    for block in widths {
        for &width in *block {
            let mut add = |name: String, shape: Vec<usize>| tensors.push((name, shape));
            add(
                format!("features.{position}.weight"),
                vec![2 * width, channels, 3, 3],
            );
            add(format!("features.{position}.bias"), vec![2 * width]);
            position += 1;
            if normalised {
                for name in ["weight", "bias", "running_mean", "running_var"] {
                    add(format!("features.{position}.{name}"), vec![2 * width]);
                }
                position += 1;
            }
            position += 1;
            channels = 2 * width;
        }
        position += 1;
    }
    tensors
}

#[test]
fn the_rest_of_the_vgg_family_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let vgg16: &[&[usize]] = &[&[1, 1], &[2, 2], &[4; 3], &[8; 3], &[8; 3]];
    let vgg19: &[&[usize]] = &[&[1, 1], &[2, 2], &[4; 4], &[8; 4], &[8; 4]];
    let write = |name: &str, tensors: &[(String, Vec<usize>)]| {
        let tensors: Vec<(&str, &[usize])> = tensors
            .iter()
            .map(|(name, shape)| (name.as_str(), &shape[..]))
            .collect();
        file(&folder, name, &safetensors(&tensors))
    };
    for (name, widths, normalised, words) in [
        (
            "11",
            &[&[1][..], &[2], &[4; 2], &[8; 2], &[8; 2]][..],
            false,
            &["VGG11"][..],
        ),
        (
            "13",
            &[&[1, 1], &[2, 2], &[4; 2], &[8; 2], &[8; 2]],
            false,
            &["VGG13"],
        ),
        ("16", vgg16, false, &["VGG16", "VGG19"]),
        ("16_bn", vgg16, true, &["VGG16 with batch normalisation"]),
        ("19_bn", vgg19, true, &["VGG19 with batch normalisation"]),
        // Cut after relu4_1.
        (
            "16_cut",
            &[&[1, 1], &[2, 2], &[4; 3], &[8]],
            false,
            &["VGG16"],
        ),
    ] {
        let path = write(name, &vgg(widths, normalised));
        refused(&path, words);
    }
    let whole = vgg(vgg19, false);
    assert!(Vgg19Weights::load(write("19", &whole)).is_ok());
    // One missing in between, where all shapes are equal.
    let gap: Vec<_> = whole
        .iter()
        .filter(|(name, _)| !name.starts_with("features.30."))
        .cloned()
        .collect();
    refused(
        &write("gap", &gap),
        &["features.32.weight", "another network"],
    );
    // A network cut into blocks, of which each alone would be a short VGG19.
    let blocks = |tensors: &[(String, Vec<usize>)]| -> Vec<(String, Vec<usize>)> {
        let rename = |(name, shape): &(String, Vec<usize>)| {
            let position: usize = name.split('.').nth(1).unwrap().parse().unwrap();
            let name = name.strip_prefix("features.").unwrap();
            (format!("block{}.{name}", position / 5), shape.clone())
        };
        tensors.iter().map(rename).collect()
    };
    refused(&write("blocks16", &blocks(&vgg(vgg16, false))), &["VGG16"]);
    assert!(Vgg19Weights::load(write("blocks19", &blocks(&whole))).is_ok());
}

/// A safetensors file of these tensors, all values 0.5.
fn safetensors(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let values: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, shape)| 0.5f32.to_le_bytes().repeat(shape.iter().product()))
        .collect();
    let views = tensors.iter().zip(&values).map(|((name, shape), values)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), values).unwrap();
        (name.to_string(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn slim_networks_choose_their_widths() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, first: &[usize], second: [usize; 4]| {
        let tensors: [(&str, &[usize]); 6] = [
            ("features.0.weight", &[5, 3, 3, 3]),
            ("features.0.bias", &[5]),
            ("readout.0.weight", first),
            ("features.2.weight", &second),
            ("features.2.bias", &[second[0]]),
            ("readout.1.weight", &[6, second[0], 1, 1]),
        ];
        file(&folder, name, &safetensors(&tensors))
    };
    let path = write("slim.safetensors", &[2, 5, 1, 1], [7, 2, 3, 3]);
    let weights = Vgg19Weights::load(path).unwrap();
    assert_eq!(weights.convolutions()[1].shape, [7, 2, 3, 3]);
    let encoder = Vgg19::<Flex>::from_weights(weights, &Default::default());
    // What normalises to zero: the bias 1/2 is left, and five times the half of it projected.
    let mean =
        Tensor::<Flex, 1>::from_floats(encoder.normalization().mean_color(), &Default::default());
    let image = mean.reshape([1, 3, 1, 1]).expand([1, 3, 4, 5]);
    let layers = [Layer::RELU1_1, Layer::RELU1_2];
    let features = encoder.features(image, &layers).unwrap();
    let response = features.get(Layer::RELU1_1).clone();
    assert_eq!(response.dims(), [1, 2, 4, 5]);
    let difference: f32 = (response - 1.25).abs().max().into_scalar();
    assert!(difference < 1e-5, "{difference}");
    assert_eq!(features.get(Layer::RELU1_2).dims(), [1, 6, 4, 5]);
    assert_eq!(encoder.channels(Layer::RELU1_2).unwrap(), 64);

    let path = write("gap.safetensors", &[2, 5, 1, 1], [7, 3, 3, 3]);
    refused(&path, &["features.2.weight", "[7, 2, 3, 3]"]);
    let path = write("readout.safetensors", &[2, 4, 1, 1], [7, 2, 3, 3]);
    refused(&path, &["readout.0.weight", "[2, 5, 1, 1]"]);
    let path = write("empty.safetensors", &[2, 5, 1, 1], [0, 2, 3, 3]);
    refused(&path, &["features.2.weight", "[1, 2, 3, 3]"]);
    let tensors: [(&str, &[usize]); 5] = [
        ("features.0.weight", &[3, 3, 3, 3]),
        ("features.0.bias", &[3]),
        ("features.2.weight", &[7, 3, 3, 3]),
        ("features.2.bias", &[7]),
        ("readout.0.weight", &[3, 3, 1, 1]),
    ];
    let path = file(&folder, "fewer.safetensors", &safetensors(&tensors));
    refused(&path, &["1 projections for 2 convolutions"]);
}

#[test]
fn not_a_number_among_the_weights_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(data("small.safetensors")).unwrap();
    let length = bytes.len();
    bytes[length - 400..length - 396].copy_from_slice(&f32::NAN.to_le_bytes());
    refused(
        &file(&folder, "nan.safetensors", &bytes),
        &["features.", "NaN", "index"],
    );
}

/// A protobuf field that holds bytes.
fn field(number: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2, contents.len() as u8];
    bytes.extend(contents);
    bytes
}

/// An ONNX node with one input beside its constants.
fn node(operator: &[u8], constants: &[&[u8]], attributes: &[u8]) -> Vec<u8> {
    let mut bytes = field(1, b"x");
    constants
        .iter()
        .for_each(|name| bytes.extend(field(1, name)));
    bytes.extend([field(2, b"y"), field(4, operator), attributes.to_vec()].concat());
    field(1, &bytes)
}

/// Padding of one pixel, as an attribute.
fn padded() -> Vec<u8> {
    field(
        5,
        &[field(1, b"pads"), vec![0x40, 1, 0x40, 1, 0x40, 1, 0x40, 1]].concat(),
    )
}

#[test]
fn onnx_graphs_of_other_networks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = |nodes: &[Vec<u8>]| [vec![0x08, 8], field(7, &nodes.concat())].concat();
    // A batch normalisation whose numbers are not there, of the input and after a convolution.
    let to = |input: &[u8], operator: &[u8], attributes: &[u8]| {
        let inputs = [field(1, input), field(1, b"w")].concat();
        field(
            1,
            &[
                inputs,
                field(2, b"z"),
                field(4, operator),
                attributes.to_vec(),
            ]
            .concat(),
        )
    };
    let normalised = model(&[
        node(b"BatchNormalization", &[], &[]),
        to(b"y", b"Conv", &padded()),
    ]);
    refused(
        &file(&folder, "bn.onnx", &normalised),
        &["BatchNormalization", "convolution 1"],
    );
    let unpadded = model(&[node(b"Conv", &[b"w"], &[])]);
    refused(
        &file(&folder, "valid.onnx", &unpadded),
        &["no padding", "1 pixel"],
    );
    let strided = field(5, &[field(1, b"strides"), vec![0x40, 2, 0x40, 2]].concat());
    let strided = model(&[node(b"Conv", &[b"w"], &[padded(), strided].concat())]);
    refused(
        &file(&folder, "strided.onnx", &strided),
        &["strides", "another network"],
    );
    let constant = model(&[node(b"Conv", &[b"w"], &padded())]);
    refused(
        &file(&folder, "unknown.onnx", &constant),
        &["`w`", "no constant"],
    );
    refused(
        &file(&folder, "bare.onnx", &model(&[])),
        &["no convolutions"],
    );
}

#[test]
fn external_data_of_an_onnx_model_stay_in_its_folder() {
    // One Conv node whose kernel lies in another file: model { graph { node, initializer } }.
    let model = |location: &str| {
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        let mut tensor = vec![0x08, 2, 0x08, 3, 0x08, 3, 0x08, 3, 0x10, 1];
        tensor.extend(field(8, b"w"));
        tensor.extend(field(13, &entry));
        tensor.extend([0x70, 1]);
        let graph = [node(b"Conv", &[b"w"], &padded()), field(5, &tensor)].concat();
        [vec![0x08, 8], field(7, &graph)].concat()
    };
    let folder = tempfile::tempdir().unwrap();
    let outside = file(&folder, "outside.onnx", &model("../secret"));
    refused(&outside, &["outside the model's folder"]);
    let absent = file(&folder, "absent.onnx", &model("absent.data"));
    refused(&absent, &["absent.data", "keep the two files together"]);
    let kernel: Vec<u8> = (0..54).flat_map(|i| (i as f32).to_le_bytes()).collect();
    file(&folder, "model.data", &kernel);
    let whole = file(&folder, "whole.onnx", &model("model.data"));
    let weights = Vgg19Weights::load(whole).unwrap();
    assert_eq!(weights.convolutions()[0].shape, [2, 3, 3, 3]);
    assert_eq!(weights.convolutions()[0].weight[53], 53.0);
    file(&folder, "model.data", &kernel[..100]);
    refused(&folder.path().join("whole.onnx"), &["w", "complete"]);
}

proptest! {
    /// Damage anywhere gives an answer: an error, or weights that are finite.
    #[test]
    fn damaged_files_are_survived(
        which in 0usize..4, place in any::<prop::sample::Index>(), byte in any::<u8>(),
        near_the_front in any::<bool>(),
    ) {
        let names = ["small.safetensors", "small.onnx", "small.pth", "small-legacy.pth"];
        let mut bytes = fs::read(data(names[which])).unwrap();
        let end = if near_the_front { 4000 } else { bytes.len() };
        bytes[place.index(end)] = byte;
        let folder = tempfile::tempdir().unwrap();
        let path = file(&folder, "damaged", &bytes);
        if let Ok(weights) = Vgg19Weights::load(&path) {
            let finite = |c: &impasto::weights::Convolution| c.weight.iter().all(|w| w.is_finite());
            prop_assert!(weights.convolutions().iter().all(finite));
        }
    }
}

/// The published weights, if they are at hand, in any form and length: their values tell the training.
#[test]
fn imagenet_weights_are_recognised_by_their_values() {
    let test = "imagenet_weights_are_recognised_by_their_values";
    let Some(path) = crate::imagenet_weights(test) else {
        return;
    };
    let weights = Vgg19Weights::load(path).unwrap();
    // A file that states nothing, in half precision.
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, count: usize, change: &dyn Fn(usize, Vec<f32>) -> Vec<f32>| {
        let mut tensors = Vec::new();
        for (index, layer) in weights.convolutions()[..count].iter().enumerate() {
            let position = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34][index];
            let (kernel, bias) = (layer.weight.clone(), layer.bias.clone().unwrap());
            let half = |values: Vec<f32>| -> Vec<u8> {
                let halves = values.iter().map(|&value| half::f16::from_f32(value));
                halves.flat_map(|value| value.to_le_bytes()).collect()
            };
            let kernel = half(change(index, kernel));
            tensors.push((
                format!("net.{position}.weight"),
                layer.shape.to_vec(),
                kernel,
            ));
            tensors.push((
                format!("net.{position}.bias"),
                layer.shape[..1].to_vec(),
                half(bias),
            ));
        }
        let views = tensors.iter().map(|(name, shape, values)| {
            let view = TensorView::new(Dtype::F16, shape.clone(), values).unwrap();
            (name.clone(), view)
        });
        file(&folder, name, &safetensors::serialize(views, None).unwrap())
    };
    let flip = |index: usize, mut kernel: Vec<f32>| {
        if index == 0 {
            for planes in kernel.chunks_exact_mut(27) {
                let (red, rest) = planes.split_at_mut(9);
                red.swap_with_slice(&mut rest[9..]);
            }
        }
        kernel
    };
    let unit = |index: usize, mut kernel: Vec<f32>| {
        let factor = if index == 0 { 255.0 } else { 1.0 };
        kernel.iter_mut().for_each(|value| *value *= factor);
        kernel
    };
    let as_they_are = |_: usize, kernel: Vec<f32>| kernel;
    let folded = Normalization {
        std: [255.0; 3],
        ..Normalization::CAFFE
    };
    for (count, change, expected) in [
        (
            16,
            &as_they_are as &dyn Fn(usize, Vec<f32>) -> Vec<f32>,
            Normalization::CAFFE,
        ),
        (13, &flip, Normalization::CAFFE_BGR),
        (9, &as_they_are, Normalization::CAFFE),
        (9, &unit, folded),
        (1, &flip, Normalization::CAFFE_BGR),
    ] {
        let found = Vgg19Weights::load(save("torchvision-vgg19", count, change)).unwrap();
        let values = NormalizationSource::Values(Training::Caffe);
        assert_eq!(found.normalization_source, values);
        assert_eq!(found.normalization, expected);
        assert_eq!(found.normalization_doubt(), None);
    }
    assert_eq!(weights.convolutions()[0].shape, [64, 3, 3, 3]);
    assert_eq!(
        weights.convolutions().last().unwrap().shape,
        [512, 512, 3, 3]
    );
}
