//! Lets burn-import generate a Burn model from the small VGG19-shaped ONNX file.

use burn_import::onnx::ModelGen;

fn main() {
    ModelGen::new()
        .input("../data/small-features.onnx")
        .out_dir("model/")
        .run_from_script();
}
