//! What is kept: compact files, the cache that commands take them from, and what they are checked for.

use std::fs;
use std::path::Path;

use burn::backend::Flex;
use impasto::weights::Precision;
use impasto::{Layer, Normalization, Vgg19Weights, WeightsError};
use safetensors::tensor::{Dtype, TensorView};

use crate::cli::stderr;
use crate::data;

use super::{Place, small};

#[test]
fn compact_files_come_back_as_they_were() {
    let place = Place::new();
    let mut weights = small();
    for normalization in [
        Normalization::TORCHVISION,
        Normalization::CAFFE,
        Normalization::CAFFE_BGR,
        Normalization {
            mean: [0.1, 1.0 / 3.0, 1e-7],
            std: [1.0 / 7.0, 0.2, 3e5],
            ..Normalization::TORCHVISION
        },
    ] {
        weights.normalization = normalization;
        let exact = place.path("exact.safetensors");
        weights.save(&exact, Precision::F32).unwrap();
        assert!(Vgg19Weights::load(&exact).unwrap() == weights);

        let rounded = place.path("rounded.safetensors");
        weights.save(&rounded, Precision::F16).unwrap();
        let once = Vgg19Weights::load(&rounded).unwrap();
        assert_eq!(once.normalization, normalization);
        for (a, b) in once.convolutions().iter().zip(weights.convolutions()) {
            let pairs = a.weight.iter().zip(&b.weight);
            assert!(
                pairs
                    .clone()
                    .all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs() + 1e-6)
            );
        }
        // Rounding once is enough, and the same weights give the same file.
        let again = place.path("again.safetensors");
        once.save(&again, Precision::F16).unwrap();
        assert_eq!(fs::read(&rounded).unwrap(), fs::read(&again).unwrap());
    }
    let part = weights.clone().until(Layer::RELU2_1);
    let path = place.path("part.safetensors");
    part.save(&path, Precision::F32).unwrap();
    assert!(Vgg19Weights::load(&path).unwrap() == part);
}

#[test]
fn damage_to_a_compact_file_is_noticed_wherever_it_is() {
    let place = Place::new();
    let path = place.path("compact.safetensors");
    small().save(&path, Precision::F16).unwrap();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let places = (0..header)
        .step_by(37)
        .chain((header..whole.len()).step_by(1999));
    for at in places.chain([whole.len() - 1]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        match Vgg19Weights::load(&path) {
            Err(_) => {}
            // The name of the sum itself may be what is damaged, or a space: no value is.
            Ok(weights) => {
                fs::write(&path, &whole).unwrap();
                assert!(weights == Vgg19Weights::load(&path).unwrap(), "byte {at}");
            }
        }
        if at >= header {
            let error = Vgg19Weights::load(&path).unwrap_err().to_string();
            assert!(error.contains("import or download it again"), "{error}");
        }
    }
}

#[test]
fn what_a_compact_file_cannot_hold_is_refused() {
    let place = Place::new();
    let refused = |weights: Vgg19Weights, words: &str| {
        let path = place.path("refused.safetensors");
        let error = weights.save(&path, Precision::F16).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(matches!(error, WeightsError::Unsaveable { .. }));
        assert!(!path.exists());
    };
    let mut odd = small();
    odd.normalization.range = 2.0;
    refused(odd, "range");
    #[cfg(feature = "builtin")]
    refused(Vgg19Weights::builtin(), "projections");
    let tensors = [("features.0.weight", 27usize), ("features.0.bias", 1)];
    let large: Vec<u8> = 1e5f32.to_le_bytes().repeat(27);
    let views = tensors.map(|(name, count)| {
        let shape = if count == 1 {
            vec![1]
        } else {
            vec![1, 3, 3, 3]
        };
        (
            name,
            TensorView::new(Dtype::F32, shape, &large[..4 * count]).unwrap(),
        )
    });
    let path = place.path("large.safetensors");
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    refused(Vgg19Weights::load(&path).unwrap(), "100000");
    let nowhere = small().save(place.path("missing/x"), Precision::F32);
    assert!(matches!(nowhere, Err(WeightsError::Save { .. })));
}

/// What is in the cache later does not change a run that has begun.
#[cfg(feature = "builtin")]
#[test]
fn a_run_goes_on_with_the_encoder_that_it_began_with() {
    let place = Place::new();
    let text = |name: &str| place.path(name).to_str().unwrap().to_string();
    let (output, checkpoint) = (text("out.png"), text("checkpoint"));
    let (scene, style) = (
        crate::repository("assets/scene.jpg"),
        crate::repository("assets/dots.jpg"),
    );
    let mut arguments = vec!["stylize", scene.to_str().unwrap(), style.to_str().unwrap()];
    arguments.extend(["-o", &output, "--size", "48", "--iterations", "3"]);
    arguments.extend(["--checkpoint", &checkpoint, "--checkpoint-every", "0"]);
    let small = data("small.safetensors");
    let import = ["weights", "import", small.to_str().unwrap(), "--f32"];
    let resume = ["resume", &checkpoint];
    // Begun with the encoder inside the program, then with the cache's weights.
    for then in [&import[..], &["weights", "path"]] {
        let begun = place.run(&arguments);
        assert!(begun.status.success(), "{}", stderr(&begun));
        assert!(place.run(then).status.success());
        let resumed = place.run(&resume);
        assert!(resumed.status.success(), "{}", stderr(&resumed));
    }
}

#[test]
fn imported_weights_are_found_by_every_command() {
    let place = Place::new();
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let (onnx, out) = (
        text(&data("small.onnx")),
        text(&place.path("out.safetensors")),
    );
    let output = place.run(&["weights", "import", &onnx, "-o", &out, "--until", "relu2_2"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(Vgg19Weights::load(&out).unwrap().convolutions().len(), 4);
    assert_eq!(place.listing(), [""; 0]);
    let output = place.run(&["weights", "import", &onnx, "--f32"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let cached = place.cache().path("imported");
    assert!(Vgg19Weights::load(&cached).unwrap() == small());
    let path = place.run(&["weights", "path"]);
    assert_eq!(
        String::from_utf8(path.stdout).unwrap().trim(),
        text(&cached)
    );
    let list = String::from_utf8(place.run(&["weights", "list"]).stdout).unwrap();
    for word in [
        "torchvision",
        "caffe",
        "CC BY 4.0",
        "imported",
        "huggingface.co",
    ] {
        assert!(list.contains(word), "{list}");
    }
    // The small network is no VGG19, and `verify` says why.
    let verify = place.run(&["weights", "verify"]);
    assert_eq!(verify.status.code(), Some(1), "{}", stderr(&verify));
    let table = String::from_utf8(verify.stdout).unwrap();
    assert!(table.contains("conv1_1 has shape [4, 3, 3, 3]"), "{table}");
    assert!(table.contains("does not behave"), "{table}");
    let json = place.run(&["weights", "verify", &out, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["layers"].as_array().unwrap().len(), 4);

    // A damaged file in the cache is not passed over in silence.
    let mut bytes = fs::read(&cached).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&cached, bytes).unwrap();
    let scene = text(&crate::repository("assets/scene.jpg"));
    let picture = text(&place.path("out.png"));
    let output = place.run(&["stylize", &scene, &scene, "-o", &picture, "--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("again"), "{}", stderr(&output));
    for arguments in [
        vec!["weights", "import", &scene],
        vec!["weights", "import", &onnx, "--until", "relu9_9"],
        vec!["weights", "download", "nobody"],
        vec!["weights", "download", "--url", "http://example.com/x"],
        vec![
            "weights",
            "download",
            "--url",
            "https://x/",
            "--sha256",
            "xyz",
        ],
    ] {
        let output = place.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
}

/// The published weights behave as they should, and not under another's normalisation.
#[test]
fn imagenet_weights_are_told_from_others() {
    let Some(path) = crate::imagenet_weights("imagenet_weights_are_told_from_others") else {
        return;
    };
    let weights = Vgg19Weights::load(path).unwrap();
    let weights = match cfg!(debug_assertions) {
        true => weights.until(Layer::RELU3_4),
        false => weights,
    };
    let verify = |weights: &Vgg19Weights| {
        impasto::pretrained::verify::<Flex>(weights, &Default::default()).unwrap()
    };
    let report = verify(&weights);
    assert!(report.is_ok(), "{report}");
    let mut wrong = weights.clone();
    wrong.normalization = Normalization::TORCHVISION;
    let report = verify(&wrong);
    assert!(
        !report.is_ok() && report.to_string().contains("normalisation right"),
        "{report}"
    );
    let random = Vgg19Weights::random(64, 1).until(Layer::RELU1_2);
    let report = verify(&random);
    assert!(
        !report.is_ok() && report.to_string().contains("noise"),
        "{report}"
    );
}
