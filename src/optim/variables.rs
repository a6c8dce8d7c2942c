//! What an optimiser changes: the pixels of the image, or the coefficients of its Laplacian pyramid.

use burn::tensor::{Tensor, TensorData, backend::Backend};

/// From the variables of the optimiser to the image and back.
///
/// Variables are the pixels, or the coefficients of a Laplacian pyramid (Burt and Adelson 1983): what
/// halving and doubling the image loses, at each of some levels, and the small image that is left. A
/// step of the same size in every coefficient then changes large forms as easily as single pixels. Both
/// are multiplied with a range, in whose units the optimiser's step sizes are.
#[derive(Clone, Debug)]
pub struct Variables<B: Backend> {
    range: f64,
    size: [usize; 2],
    /// From fine to coarse; none for pixels.
    levels: Vec<Level<B>>,
}

/// One halving of the image, bilinear and without aligned corners, as in
/// `torch.nn.functional.interpolate`.
#[derive(Clone, Debug)]
struct Level<B: Backend> {
    /// Height and width above and below.
    large: [usize; 2],
    small: [usize; 2],
    /// From small to large: `[large, small]` for rows and columns.
    up: [Tensor<B, 4>; 2],
    /// From large to small: `[small, large]`.
    down: [Tensor<B, 4>; 2],
}

impl<B: Backend> Variables<B> {
    /// Variables of an image of `size` (height and width): its pixels for 0 `levels`, else a pyramid
    /// of as many, or fewer, since an image with a side of 1 pixel is not halved.
    pub fn new(size: [usize; 2], levels: usize, range: f64, device: &B::Device) -> Self {
        let mut large = size;
        let mut pyramid = Vec::new();
        for _ in 0..levels {
            if large[0].min(large[1]) < 2 {
                break;
            }
            let small = large.map(|side| side / 2);
            let matrices = |to: [usize; 2], from: [usize; 2]| {
                [0, 1].map(|axis| interpolation(to[axis], from[axis], device))
            };
            pyramid.push(Level {
                large,
                small,
                up: matrices(large, small),
                down: matrices(small, large),
            });
            large = small;
        }
        Self {
            range,
            size,
            levels: pyramid,
        }
    }

    /// The shape of the variables of one image.
    pub fn shape(&self) -> [usize; 4] {
        match self.levels.last() {
            None => [1, 3, self.size[0], self.size[1]],
            Some(last) => {
                let large = self.levels.iter().map(|level| level.large);
                let counts = large
                    .chain([last.small])
                    .map(|[rows, columns]| rows * columns);
                [1, 3, 1, counts.sum()]
            }
        }
    }

    /// The variables of an image, `[1, 3, height, width]`, RGB in `[0, 1]`.
    pub fn of(&self, image: Tensor<B, 4>) -> Tensor<B, 4> {
        let mut image = self.scaled(image, self.range);
        let mut bands = Vec::new();
        for level in &self.levels {
            let small = resized(image.clone(), &level.down);
            let band = image - resized(small.clone(), &level.up);
            bands.push(flat(band));
            image = small;
        }
        match bands.is_empty() {
            true => image,
            false => {
                bands.push(flat(image));
                Tensor::cat(bands, 3)
            }
        }
    }

    /// The image of some variables, RGB in `[0, 1]`.
    pub fn image(&self, variables: Tensor<B, 4>) -> Tensor<B, 4> {
        let image = match self.levels.last() {
            None => variables,
            Some(last) => {
                let [_, _, _, count] = variables.dims();
                let mut end = count - last.small[0] * last.small[1];
                let mut image = band(&variables, end, last.small);
                for level in self.levels.iter().rev() {
                    end -= level.large[0] * level.large[1];
                    image = resized(image, &level.up) + band(&variables, end, level.large);
                }
                image
            }
        };
        match self.range {
            1.0 => image,
            range => image.div_scalar(range),
        }
    }

    /// An image times a factor; itself, without a copy, where the range of the values is that of the image.
    fn scaled(&self, image: Tensor<B, 4>, factor: f64) -> Tensor<B, 4> {
        match self.range {
            1.0 => image,
            _ => image.mul_scalar(factor as f32),
        }
    }

    /// The gradient with respect to the variables, from that with respect to the image.
    pub fn gradient(&self, gradient: Tensor<B, 4>) -> Tensor<B, 4> {
        let mut gradient = self.scaled(gradient, 1.0 / self.range);
        let mut bands = Vec::new();
        for level in &self.levels {
            bands.push(flat(gradient.clone()));
            let transposed = level.up.clone().map(|matrix| matrix.swap_dims(2, 3));
            gradient = resized(gradient, &transposed);
        }
        match bands.is_empty() {
            true => gradient,
            false => {
                bands.push(flat(gradient));
                Tensor::cat(bands, 3)
            }
        }
    }
}

/// The finest band of an image's Laplacian pyramid: what halving and doubling it loses.
pub fn finest_band<B: Backend>(image: Tensor<B, 4>) -> Tensor<B, 4> {
    let [_, _, height, width] = image.dims();
    let device = image.device();
    let pyramid = Variables::new([height, width], 1, 1.0, &device);
    match pyramid.levels.first() {
        None => image.zeros_like(),
        Some(level) => {
            let small = resized(image.clone(), &level.down);
            image - resized(small, &level.up)
        }
    }
}

/// `[1, 3, height, width]` to `[1, 3, 1, height · width]`.
fn flat<B: Backend>(image: Tensor<B, 4>) -> Tensor<B, 4> {
    let [batch, channels, height, width] = image.dims();
    image.reshape([batch, channels, 1, height * width])
}

/// The coefficients of a level, from `first` on.
fn band<B: Backend>(variables: &Tensor<B, 4>, first: usize, [h, w]: [usize; 2]) -> Tensor<B, 4> {
    let [batch, channels, ..] = variables.dims();
    let band = variables.clone().narrow(3, first, h * w);
    band.reshape([batch, channels, h, w])
}

/// An image times a matrix for its rows and one for its columns.
fn resized<B: Backend>(image: Tensor<B, 4>, matrices: &[Tensor<B, 4>; 2]) -> Tensor<B, 4> {
    let [rows, columns] = matrices.clone();
    rows.matmul(image).matmul(columns.swap_dims(2, 3))
}

/// The matrix of bilinear interpolation from a side of `from` pixels to one of `to`, `[1, 1, to, from]`.
fn interpolation<B: Backend>(to: usize, from: usize, device: &B::Device) -> Tensor<B, 4> {
    let mut matrix = vec![0.0f32; to * from];
    for (index, row) in matrix.chunks_exact_mut(from).enumerate() {
        let at = (index as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let at = at.clamp(0.0, (from - 1) as f64);
        let first = at as usize;
        let fraction = (at - first as f64) as f32;
        row[first] += 1.0 - fraction;
        row[(first + 1).min(from - 1)] += fraction;
    }
    Tensor::from_data(TensorData::new(matrix, [1, 1, to, from]), device)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::Distribution;

    fn random(shape: [usize; 4]) -> Tensor<Flex, 4> {
        Tensor::random(shape, Distribution::Uniform(0.0, 1.0), &Default::default())
    }

    fn dot(a: &Tensor<Flex, 4>, b: &Tensor<Flex, 4>) -> f32 {
        (a.clone() * b.clone()).sum().into_scalar()
    }

    #[test]
    fn images_survive_and_gradients_are_adjoint() {
        let device = Default::default();
        for (size, levels) in [
            ([1, 1], 3),
            ([2, 2], 1),
            ([37, 22], 8),
            ([5, 64], 3),
            ([9, 9], 0),
        ] {
            let variables = Variables::<Flex>::new(size, levels, 255.0, &device);
            let image = random([1, 3, size[0], size[1]]);
            let coefficients = variables.of(image.clone());
            assert_eq!(coefficients.dims(), variables.shape(), "{size:?}");
            let error = (variables.image(coefficients) - image.clone()).abs().max();
            assert!(error.into_scalar() < 1e-5, "{size:?}");
            // ⟨A v, g⟩ = ⟨v, Aᵀ g⟩.
            let some = random(variables.shape());
            let left = dot(&variables.image(some.clone()), &image);
            let right = dot(&some, &variables.gradient(image));
            assert!(
                (left - right).abs() < 1e-4 * left.abs().max(1.0),
                "{size:?}"
            );
        }
    }

    #[test]
    fn flat_images_have_no_finest_band() {
        let flat = Tensor::<Flex, 4>::full([1, 3, 13, 8], 0.3, &Default::default());
        assert!(finest_band(flat).abs().max().into_scalar() < 1e-6);
    }
}
