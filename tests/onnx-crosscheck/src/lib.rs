//! The ONNX route, checked by something that nobody here wrote: burn-import generates a model from
//! a file at build time, and the native module loaded from the same file must respond alike.

/// The generated model.
#[allow(clippy::all, missing_docs, unused)]
pub mod generated {
    include!(concat!(env!("OUT_DIR"), "/model/small-features.rs"));
}

#[cfg(test)]
mod tests {
    use super::generated::Model;
    use burn::backend::Flex;
    use burn::tensor::Tensor;
    use impasto::{Layer, Vgg19};

    #[test]
    fn native_and_generated_model_respond_alike_at_every_tap() {
        let device = Default::default();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/small-features.onnx");
        let native = Vgg19::<Flex>::load(file, &device).unwrap();
        let generated: Model<Flex> = Model::default();

        let values: Vec<f32> = (0..3 * 32 * 32)
            .map(|i| ((i * 7919) % 251) as f32 / 250.0)
            .collect();
        let image = Tensor::<Flex, 1>::from_floats(&values[..], &device).reshape([1, 3, 32, 32]);
        // The generated model has no normalisation: give it the normalised image.
        let outputs = generated.forward(native.normalization().apply(image.clone()));
        let (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q) = outputs;
        let outputs = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q];
        let taps: Vec<Layer> = Layer::all()
            .filter(|layer| layer.to_string().starts_with("relu") || *layer == Layer::POOL5)
            .collect();
        let features = native.features(image, &taps).unwrap();
        for (layer, output) in taps.into_iter().zip(outputs) {
            let largest: f32 = output.clone().abs().max().into_scalar();
            let error: f32 = (features.get(layer).clone() - output)
                .abs()
                .max()
                .into_scalar();
            assert!(error <= 1e-5 * largest, "{layer}: {error} of {largest}");
        }
    }
}
