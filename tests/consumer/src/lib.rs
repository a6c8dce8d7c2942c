//! A user's own code on top of impasto: generic over the backend, with a loss term of its own and a
//! loop of its own beside the ready-made one.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use impasto::loss::{ContentTerm, Loss, Part, Term};
use impasto::optim::{Adam, AdamConfig, Evaluation, Optimizer};
use impasto::{
    AutodiffStyleBackend, Error, Evaluator, Layer, Picture, Recipe, StyleTransfer, Vgg19,
};

/// Paints `content` in the style of `style`, on whatever backend.
pub fn paint<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    content: Picture,
    style: Picture,
    size: usize,
) -> Result<Picture, Error> {
    let recipe = Recipe {
        iterations: 30,
        coarse_iterations: vec![10],
        ..Recipe::default()
    };
    let outcome = StyleTransfer::new(encoder)
        .content(content)
        .style(style, 1.0)
        .recipe(recipe.with_size(size))
        .run()?;
    Ok(outcome.picture)
}

/// A term that the crate does not have: distance of the mean colour from a given one.
#[derive(Debug)]
pub struct MeanColor<B: Backend>(pub Tensor<B, 2>);

impl<B: Backend> Term<B> for MeanColor<B> {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }

    /// The means of the channels, `[batch, 3]`.
    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let [height, width] = part.size();
        let sums = part.image().sum_dim(2).sum_dim(3);
        sums.reshape([part.batch(), 3]) / (height * width) as f64
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        let squares = (sums - self.0.clone()).powi_scalar(2);
        squares.sum_dim(1).squeeze_dim(1)
    }

    fn describe(&self) -> String {
        "squared distance of the mean colour".to_string()
    }
}

/// Keeps the contents of `image` but moves its mean colour; returns the losses on the way.
pub fn tint<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    image: Tensor<B::InnerBackend, 4>,
    color: Tensor<B, 2>,
    steps: usize,
) -> Result<(Tensor<B::InnerBackend, 4>, Vec<f64>), Error> {
    let target = encoder.features(Tensor::from_inner(image.clone()), &[Layer::RELU2_1])?;
    let target = target.get(Layer::RELU2_1).clone();
    let channels = encoder.channels(Layer::RELU2_1)?;
    let loss = Loss::sum(
        "total",
        1.0,
        vec![
            Loss::term(
                "content",
                1e-6,
                ContentTerm::new(Layer::RELU2_1, channels, target),
            ),
            Loss::term("color", 1.0, MeanColor(color)),
        ],
    );
    let evaluator = Evaluator::new(encoder.clone(), loss);
    let mut losses = Vec::new();
    let mut optimizer = Adam::new(AdamConfig::default());
    let mut image = image;
    for _ in 0..steps {
        image = optimizer.step(image, |image| {
            let found = evaluator.evaluate(&image)?;
            let (loss, gradient) = (found.losses.weighted(), found.gradient);
            losses.push(loss);
            Ok::<_, Error>(Evaluation { loss, gradient })
        })?;
    }
    Ok((image, losses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};

    type B = Autodiff<Flex>;

    fn checkerboard(size: usize, color: [f32; 3]) -> Picture {
        let rgb = (0..size * size)
            .flat_map(|i| {
                let dark = (i % size / 4 + i / size / 4) % 2 == 0;
                color.map(|value| if dark { value / 4.0 } else { value })
            })
            .collect();
        Picture::from_rgb(size, size, rgb).unwrap()
    }

    #[test]
    fn a_stranger_can_paint() {
        let encoder = Vgg19::<B>::builtin(&Default::default());
        let content = checkerboard(64, [0.9, 0.5, 0.2]);
        let style = checkerboard(40, [0.1, 0.4, 0.9]);
        let picture = paint(&encoder, content.clone(), style, 48).unwrap();
        assert_eq!((picture.width(), picture.height()), (48, 48));
        // It has left the content's colours (-0.44) for the style's (0.5).
        let blueness = |picture: &Picture| -> f32 {
            picture
                .rgb()
                .chunks(3)
                .map(|rgb| rgb[2] - rgb[0])
                .sum::<f32>()
                / (picture.width() * picture.height()) as f32
        };
        let (before, after) = (blueness(&content), blueness(&picture));
        assert!(after > before + 0.3, "{before} became {after}");
    }

    #[test]
    fn a_stranger_can_write_a_term_and_a_loop() {
        let device = Default::default();
        let encoder = Vgg19::<B>::builtin(&device);
        let image = checkerboard(32, [0.5, 0.5, 0.5]).to_tensor(&device);
        let green = Tensor::from_floats([[0.1f32, 0.6, 0.1]], &device);
        let (_, losses) = tint(&encoder, image, green, 20).unwrap();
        assert!(losses[19] < 0.5 * losses[0], "{losses:?}");
    }
}
