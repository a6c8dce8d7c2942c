//! Linear maps of colours that bring a picture to mean and covariance of another.

use super::raster::Picture;

/// Three rows.
pub(super) type Matrix = [[f64; 3]; 3];

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// Mean and covariance of the colours.
fn gaussian(picture: &Picture) -> ([f64; 3], Matrix) {
    let pixels = || {
        picture
            .rgb
            .as_chunks::<3>()
            .0
            .iter()
            .map(|color| color.map(f64::from))
    };
    let count = (picture.width * picture.height) as f64;
    let mut mean = [0.0; 3];
    for color in pixels() {
        for (sum, value) in mean.iter_mut().zip(color) {
            *sum += value / count;
        }
    }
    let mut covariance = [[0.0; 3]; 3];
    for color in pixels() {
        let centred: [f64; 3] = std::array::from_fn(|axis| color[axis] - mean[axis]);
        for i in 0..3 {
            for j in 0..3 {
                covariance[i][j] += centred[i] * centred[j] / count;
            }
        }
    }
    // A picture of few colours has no spread along some axis, by which nothing can be divided.
    for (axis, row) in covariance.iter_mut().enumerate() {
        row[axis] += 1e-6;
    }
    (mean, covariance)
}

/// The lower triangular L with L·Lᵀ = `matrix`.
fn cholesky(matrix: &Matrix) -> Matrix {
    let mut factor = [[0.0; 3]; 3];
    for i in 0..3 {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            factor[i][j] = match i == j {
                true => (matrix[i][i] - known).max(1e-12).sqrt(),
                false => (matrix[i][j] - known) / factor[j][j],
            };
        }
    }
    factor
}

/// The inverse of a lower triangular matrix.
fn inverse_of_lower(factor: &Matrix) -> Matrix {
    let mut inverse = [[0.0; 3]; 3];
    for j in 0..3 {
        inverse[j][j] = 1.0 / factor[j][j];
        for i in j + 1..3 {
            let known: f64 = (j..i).map(|k| factor[i][k] * inverse[k][j]).sum();
            inverse[i][j] = -known / factor[i][i];
        }
    }
    inverse
}

/// A power of a symmetric positive matrix, by Jacobi's rotations.
fn power(matrix: &Matrix, exponent: f64) -> Matrix {
    let mut diagonal = *matrix;
    let mut vectors: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(i == j)));
    for _ in 0..16 {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if diagonal[p][q].abs() < 1e-18 {
                continue;
            }
            let angle = 0.5 * (2.0 * diagonal[p][q]).atan2(diagonal[q][q] - diagonal[p][p]);
            let (sine, cosine) = angle.sin_cos();
            let mut rotation: Matrix =
                std::array::from_fn(|i| std::array::from_fn(|j| f64::from(i == j)));
            rotation[p][p] = cosine;
            rotation[q][q] = cosine;
            rotation[p][q] = sine;
            rotation[q][p] = -sine;
            let transposed = transpose(&rotation);
            diagonal = product(&product(&transposed, &diagonal), &rotation);
            vectors = product(&vectors, &rotation);
        }
    }
    let scaled: Matrix = std::array::from_fn(|i| {
        std::array::from_fn(|j| vectors[i][j] * diagonal[j][j].max(1e-12).powf(exponent))
    });
    product(&scaled, &transpose(&vectors))
}

fn transpose(matrix: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| matrix[j][i]))
}

/// The linear map after which colours of covariance `from` have the covariance `to`, by the Cholesky
/// factors of both.
pub(super) fn cholesky_map(from: &Matrix, to: &Matrix) -> Matrix {
    product(&cholesky(to), &inverse_of_lower(&cholesky(from)))
}

/// The same along the principal axes.
pub(super) fn pca_map(from: &Matrix, to: &Matrix) -> Matrix {
    product(&power(to, 0.5), &power(from, -0.5))
}

/// The same by the symmetric map, which moves colours least.
pub(super) fn symmetric_map(from: &Matrix, to: &Matrix) -> Matrix {
    let (root, inverse) = (power(from, 0.5), power(from, -0.5));
    let middle = power(&product(&product(&root, to), &root), 0.5);
    product(&product(&inverse, &middle), &inverse)
}

/// `style` with mean and covariance of the colours of `content`.
pub(super) fn transfer(
    style: &Picture,
    content: &Picture,
    map: fn(&Matrix, &Matrix) -> Matrix,
) -> Picture {
    let ((from, spread), (to, wanted)) = (gaussian(style), gaussian(content));
    let map = map(&spread, &wanted);
    let recolored = style.rgb.as_chunks::<3>().0.iter().flat_map(|color| {
        let centred: [f64; 3] = std::array::from_fn(|axis| f64::from(color[axis]) - from[axis]);
        std::array::from_fn::<f32, 3, _>(|i| {
            let mapped: f64 = (0..3).map(|j| map[i][j] * centred[j]).sum();
            (mapped + to[i]) as f32
        })
    });
    style.clone().with_rgb(recolored.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::test_picture::picture;
    use proptest::prelude::*;

    type Map = fn(&Matrix, &Matrix) -> Matrix;
    const MAPS: [(&str, Map); 3] = [
        ("cholesky", cholesky_map),
        ("pca", pca_map),
        ("symmetric", symmetric_map),
    ];

    proptest! {
        #[test]
        fn linear_maps_give_the_contents_mean_and_covariance(seed in 0u64..1000) {
            let (style, content) = (picture(40, 30, seed), picture(25, 31, seed + 1000));
            let (mean, covariance) = gaussian(&content);
            for (method, map) in MAPS {
                let recolored = transfer(&style, &content, map);
                let (found_mean, found) = gaussian(&recolored);
                for i in 0..3 {
                    prop_assert!((found_mean[i] - mean[i]).abs() < 1e-4, "{method}");
                    for j in 0..3 {
                        prop_assert!((found[i][j] - covariance[i][j]).abs() < 2e-5, "{method}");
                    }
                }
            }
        }
    }

    #[test]
    fn symmetric_moves_least_and_cholesky_is_triangular() {
        let (from, to) = (
            gaussian(&picture(50, 50, 3)).1,
            gaussian(&picture(50, 50, 4)).1,
        );
        let maps = MAPS.map(|(_, map)| map(&from, &to));
        assert_eq!([maps[0][0][1], maps[0][0][2], maps[0][1][2]], [0.0; 3]);
        for (i, j) in [(0, 1), (0, 2), (1, 2)] {
            assert!((maps[2][i][j] - maps[2][j][i]).abs() < 1e-9);
        }
        // E|Ax - x|² = tr((A - I) Σ (A - I)ᵀ)
        let moved = maps.map(|mut map| {
            (0..3).for_each(|i| map[i][i] -= 1.0);
            let spread = product(&product(&map, &from), &transpose(&map));
            spread[0][0] + spread[1][1] + spread[2][2]
        });
        assert!(moved[2] <= moved[0] && moved[2] <= moved[1], "{moved:?}");
    }
}
