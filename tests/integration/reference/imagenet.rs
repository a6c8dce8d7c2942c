//! The same checks on the real network, in samples.

use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use impasto::loss::{GramNormalization, Loss, Reduction, VariationNorm, gram_matrix};
use impasto::optim::LineSearch;
use impasto::{Layer, Normalization, Vgg19};

use super::trajectories::{TRAJECTORY, adam, lbfgs, trajectory};
use super::{
    Reference, STYLE_LAYERS, TOLERANCE, Targets, assert_all_close, assert_image, assert_number,
    gradient, variation,
};

#[test]
fn imagenet_weights_match() {
    let Some(path) = crate::imagenet_weights("imagenet_weights_match") else {
        return;
    };
    type B = Autodiff<Flex>;
    let reference = Reference::load("imagenet");
    let encoder = Vgg19::<B>::load(path, &Default::default()).unwrap();
    assert_eq!(encoder.normalization(), Normalization::CAFFE);

    let relus: Vec<Layer> = Layer::all()
        .filter(|layer| layer.to_string().starts_with("relu"))
        .collect();
    let features = encoder.features(reference.tensor("start"), &relus).unwrap();
    let sample = |values: Vec<f64>, stride: f64| -> Vec<f64> {
        values.into_iter().step_by(stride as usize).collect()
    };
    for (layer, response) in features.iter() {
        let values: Vec<f64> = response.clone().into_data().iter().collect();
        let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let expected = reference.number(&format!("/norms/{layer}"));
        assert_number(&format!("norm of {layer}"), norm, expected, TOLERANCE);
        let stride = reference.number(&format!("/strides/features/{layer}"));
        let (_, expected) = reference.values(&format!("features.{layer}"));
        let found = sample(values, stride);
        assert_all_close(
            &layer.to_string(),
            &found[..expected.len()],
            &expected,
            TOLERANCE,
        );
    }
    for layer in STYLE_LAYERS {
        let response = features.get(layer).clone();
        let channels = response.dims()[1] as f64;
        let values = (gram_matrix(response) / channels)
            .into_data()
            .iter()
            .collect();
        let stride = reference.number(&format!("/strides/gram_chw/{layer}"));
        let (_, expected) = reference.values(&format!("gram.chw.{layer}"));
        let found = sample(values, stride);
        assert_all_close(
            &layer.to_string(),
            &found[..expected.len()],
            &expected,
            TOLERANCE,
        );
    }

    let targets = Targets::new(&reference, &encoder);
    let tv = variation(VariationNorm::L1, Reduction::Sum, 255.0);
    let loss = Loss::sum(
        "total",
        1.0,
        vec![
            targets.content(5.0),
            targets.style(100.0, GramNormalization::PerElement),
            Loss::term("tv", 1e-3, tv),
        ],
    );
    let (total, found) = gradient(&encoder, &loss, reference.tensor("start"));
    assert_number("total", total, reference.number("/losses/total"), TOLERANCE);
    reference.assert_close("gradient.total", found);

    // Ten of the twenty L-BFGS steps are compared: later ones amplify rounding, see the deviations
    // of PyTorch's own float32 run in the reference.
    let evaluate = |image: Tensor<Flex, 4>| {
        let (loss, gradient) = gradient(&encoder, &loss, image / 255.0);
        (loss, gradient / 255.0)
    };
    let start = || reference.tensor::<Flex>("start") * 255.0;
    for (name, (image, losses)) in [
        ("adam", trajectory(adam(1.0, 0.999), 20, start(), evaluate)),
        (
            "lbfgs10",
            trajectory(lbfgs(100, 1.0, LineSearch::None), 10, start(), evaluate),
        ),
    ] {
        let expected = reference.numbers(&format!("/trajectories/{name}/losses"));
        for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
            assert_number(
                &format!("{name}, step {step}"),
                *found,
                *expected,
                TRAJECTORY,
            );
        }
        let (_, expected) = reference.values(&format!("{name}.image"));
        assert_image(name, image / 255.0, &expected, TRAJECTORY);
    }
}
