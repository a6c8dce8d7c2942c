//! Features at points, products of columns and nearest columns.

use burn::tensor::backend::Backend;

use super::super::SamplePoints;
use super::*;

type B = Autodiff<Flex>;

/// Random points in a layer and around it, some of them on positions.
fn points(size: [usize; 2], count: usize, seed: u64) -> SamplePoints {
    let mut draw = numbers(seed);
    let points = (0..count).map(|index| {
        size.map(|side| {
            let coordinate = (draw() * 0.6 + 0.5) * side as f32;
            match index % 4 {
                0 => coordinate.round(),
                _ => coordinate,
            }
        })
    });
    SamplePoints::new(size, points.collect())
}

fn values<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f64> {
    x.into_data().iter().collect()
}

/// Whole numbers from −2 to 2: sums are exact, and many are equal.
fn whole_numbers<B: Backend, const D: usize>(shape: [usize; D], seed: u64) -> Tensor<B, D> {
    (random(shape, seed) * 2.0).round()
}

/// All products in double precision.
fn nearest_by_definition(
    queries: &Tensor<Flex, 2>,
    candidates: &Tensor<Flex, 2>,
) -> Vec<(i64, f64)> {
    let ([rows, n], [_, m]) = (queries.dims(), candidates.dims());
    let (queries, candidates) = (values(queries.clone()), values(candidates.clone()));
    let product = |i: usize, j: usize| -> f64 {
        let products = (0..rows).map(|k| queries[k * n + i] * candidates[k * m + j]);
        products.sum()
    };
    let nearest = |i| {
        let mut best = (0, product(i, 0));
        for j in 1..m {
            let product = product(i, j);
            if product > best.1 {
                best = (j as i64, product);
            }
        }
        best
    };
    (0..n).map(nearest).collect()
}

#[track_caller]
fn check_nearest(rows: usize, n: usize, m: usize, seed: u64) {
    let queries = whole_numbers([rows, n], seed);
    let candidates = whole_numbers([rows, m], seed + 1);
    let expected = nearest_by_definition(&queries, &candidates);
    type Nearest = fn(
        Tensor<Flex, 2>,
        Tensor<Flex, 2>,
    ) -> (Tensor<Flex, 1, burn::tensor::Int>, Tensor<Flex, 1>);
    for nearest in [
        <Flex as ConvOps>::nearest as Nearest,
        reference::nearest::<Flex>,
    ] {
        let (indices, products) = nearest(queries.clone(), candidates.clone());
        assert_eq!((indices.dims(), products.dims()), ([n], [n]));
        let indices: Vec<i64> = indices.into_data().iter().collect();
        let found: Vec<_> = indices.into_iter().zip(values(products)).collect();
        assert_eq!(found, expected, "{rows} values, {n} and {m} columns");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn samples_of_any_shape(
        batch in 1usize..3, channels in 1usize..20, height in 1usize..40, width in 1usize..40,
        count in 1usize..200, seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let points = points([height, width], count, seed);
        let features = random::<Flex, 4>([batch, channels, height, width], seed + 1);
        let found = <Flex as ConvOps>::sample(features.clone(), &points);
        assert_close(&found, &reference::sample(features.clone(), &points));

        // By definition: each position weighs less, the farther it lies from the point.
        let (samples, features) = (values(found.clone()), values(features));
        let weight = |distance: f64| (1.0 - distance.abs()).max(0.0);
        for (plane, samples) in samples.chunks(count).enumerate() {
            for (&[y, x], sample) in points.points().iter().zip(samples) {
                let mut expected = 0.0;
                for row in 0..height {
                    for column in 0..width {
                        let weight = weight(f64::from(y) - row as f64)
                            * weight(f64::from(x) - column as f64);
                        expected += weight * features[(plane * height + row) * width + column];
                    }
                }
                prop_assert!((sample - expected).abs() < 1e-5);
            }
        }

        let gradient = random(found.dims(), seed + 2);
        let whole = random([batch + 1, channels, height, width], seed + 3);
        let view = |first| Some(whole.clone().narrow(0, first, batch));
        for sum in [None, Some(random([batch, channels, height, width], 7)), view(0), view(1)] {
            let gradient = gradient.clone();
            let expected = reference::sample_backward(gradient.clone(), &points, sum.clone());
            let shared = sum.clone();
            let found = <Flex as ConvOps>::sample_backward(gradient, &points, sum);
            assert_close(&found, &expected);
            prop_assert!(shared.is_none_or(|sum| sum.into_data() != found.into_data()));
        }
    }

    #[test]
    fn column_products_of_any_shape(
        batch in 1usize..3, channels in 1usize..40, samples in 1usize..4200, seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let columns = random::<Flex, 3>([batch, channels, samples], seed);
        let target = random([1, channels, samples], seed + 1);
        let found = <Flex as ConvOps>::column_products(columns.clone(), target.clone());
        assert_close(&found, &reference::column_products(columns.clone(), target.clone()));
        let gradient = random([batch, 2, samples], seed + 2);
        let (same, columns_too, target_too) = (gradient.clone(), columns.clone(), target.clone());
        let found = <Flex as ConvOps>::column_products_backward(gradient, columns, target);
        assert_close(&found, &reference::column_products_backward(same, columns_too, target_too));
    }

    #[test]
    fn nearest_columns_of_any_shape(
        rows in 1usize..40, n in 1usize..300, m in 1usize..420, seed in any::<u32>(),
    ) {
        check_nearest(rows, n, m, seed.into());
    }
}

#[test]
fn nearest_columns_with_many_values_or_columns() {
    let cases = [
        (1, 1, 1),
        (300, 17, 200),
        (1000, 1, 7),
        (600, 130, 1),
        // More than one block of the reference.
        (2, 1030, 8200),
        // More candidates than are packed at once.
        (1500, 3, 3000),
    ];
    for (seed, (rows, n, m)) in cases.into_iter().enumerate() {
        check_nearest(rows, n, m, seed as u64);
    }
}

#[test]
fn nothing_gives_nothing() {
    let device = Default::default();
    let (indices, products) = <Flex as ConvOps>::nearest(random([3, 0], 1), random([3, 2], 2));
    assert_eq!((indices.dims(), products.dims()), ([0], [0]));
    let none = SamplePoints::new([4, 5], Vec::new());
    let samples = <Flex as ConvOps>::sample(random([1, 2, 4, 5], 3), &none);
    assert_eq!(samples.dims(), [1, 2, 0]);
    let sum = random([1, 2, 4, 5], 4);
    let same = <Flex as ConvOps>::sample_backward(samples, &none, Some(sum.clone()));
    assert_eq!(same.into_data(), sum.into_data());
    let none = Tensor::<Flex, 3>::zeros([1, 4, 0], &device);
    let products = <Flex as ConvOps>::column_products(none.clone(), none);
    assert_eq!(products.dims(), [1, 2, 0]);
}

#[test]
#[should_panic]
fn points_of_a_layer_of_another_size_are_refused() {
    let points = points([4, 6], 3, 1);
    <Flex as ConvOps>::sample(random([1, 2, 6, 4], 3), &points);
}

/// The same in Burn's own operations, whose gradients are Burn's, or in those of the kernels.
fn loss<B: StyleBackend>(x: Tensor<B, 4>, fast: bool) -> Tensor<B, 1> {
    let [_, channels, height, width] = x.dims();
    let dtype = x.dtype();
    let constant = |shape: [usize; 3], seed| random::<B, 3>(shape, seed).cast(dtype);
    let mut all = x.clone().powi_scalar(2).sum() * 0.01;
    // Twice, so that a gradient is added to another.
    for (count, seed) in [(70, 1), (9, 2)] {
        let points = points([height, width], count, seed);
        let target = constant([1, channels, count], seed + 2);
        let products = if fast {
            B::column_products(B::sample(x.clone(), &points), target)
        } else {
            reference::column_products(reference::sample(x.clone(), &points), target)
        };
        let factors = constant([2, 2, count], seed + 4);
        all = all + (products * factors).sum();
    }
    all
}

#[test]
fn gradients_are_those_of_burn() {
    let start = random::<Flex, 4>([2, 5, 13, 22], 2);
    let gradient = |fast| {
        let x = Tensor::<B, 4>::from_inner(start.clone()).require_grad();
        x.grad(&loss(x.clone(), fast).backward()).unwrap()
    };
    assert_close(&gradient(true), &gradient(false));
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let start = random::<Flex, 4>([2, 3, 7, 1], 2);
    let x = Tensor::<B, 4>::from_inner(start.clone()).require_grad();
    let gradient = x.grad(&loss(x.clone(), true).backward()).unwrap();
    let start = start.cast(DType::F64);
    let value = |x: Tensor<Flex, 4>| values(loss(x, true))[0];
    for (index, expected) in values(gradient).into_iter().enumerate() {
        let mut step = vec![0.0; 2 * 3 * 7];
        step[index] = 1e-4;
        let step = TensorData::new(step, [2, 3, 7, 1]);
        let step = Tensor::from_data(step, (&Default::default(), DType::F64));
        let difference = value(start.clone() + step.clone()) - value(start.clone() - step);
        let found = difference / 2e-4;
        assert!(
            (found - expected).abs() < 1e-4,
            "{found} and {expected} at {index}"
        );
    }
}

/// The found columns are constants, also where the queries have gradients.
#[test]
fn nearest_columns_have_no_gradient() {
    let [queries, candidates] = [1, 2].map(|seed| random::<Flex, 2>([5, 20], seed));
    let tracked = Tensor::<B, 2>::from_inner(queries.clone()).require_grad();
    let others = Tensor::from_inner(candidates.clone());
    let (indices, products) = <B as StyleBackend>::nearest(tracked.clone(), others);
    let (expected, largest) = <Flex as ConvOps>::nearest(queries, candidates);
    assert_eq!(indices.inner().into_data(), expected.into_data());
    assert_eq!(products.clone().inner().into_data(), largest.into_data());
    let gradients = (products.sum() + tracked.clone().sum() * 2.0).backward();
    let gradient = tracked.grad(&gradients).unwrap();
    assert!(values(gradient).into_iter().all(|value| value == 2.0));
}

/// Results of all operations.
fn evaluate<B: ConvOps>() -> Vec<TensorData> {
    let points = points([31, 45], 3000, 1);
    let features = random::<B, 4>([2, 9, 31, 45], 2);
    let samples = <B as ConvOps>::sample(features.clone(), &points);
    let target = random([1, 9, 3000], 3);
    let products = <B as ConvOps>::column_products(samples.clone(), target.clone());
    let backward = B::column_products_backward(products.clone(), samples.clone(), target);
    let gradient = B::sample_backward(backward.clone(), &points, None);
    let sum = B::sample_backward(backward.clone(), &points, Some(features));
    let queries = random([310, 300], 5);
    let (indices, largest) = <B as ConvOps>::nearest(queries, random([310, 1000], 6));
    vec![
        samples.into_data(),
        products.into_data(),
        backward.into_data(),
        gradient.into_data(),
        sum.into_data(),
        // The backends differ in their integers.
        indices.into_data().convert::<i64>(),
        largest.into_data(),
    ]
}

#[cfg_attr(target_family = "wasm", ignore = "has one thread")]
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(evaluate::<Flex>)
    };
    let expected = run(1);
    for threads in 2..=5 {
        assert_eq!(run(threads), expected);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn results_do_not_depend_on_the_width_of_the_vectors() {
    use super::super::cpu::FORCE_AVX2;
    use std::sync::atomic::Ordering::Relaxed;
    let wide = evaluate::<Flex>();
    FORCE_AVX2.store(true, Relaxed);
    let narrow = evaluate::<Flex>();
    FORCE_AVX2.store(false, Relaxed);
    assert_eq!(narrow, wide);
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_gives_the_same_bits() {
    assert_eq!(evaluate::<Flex>(), evaluate::<burn::backend::NdArray>());
}
