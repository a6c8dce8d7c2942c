//! What is computed in segments, beside the same operations on the whole image.

use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use proptest::prelude::*;

use super::{assert_close, convolution, gram_matrix, random};
use crate::kernel::{
    Epilogue, Moments, Pointwise, Pooling, Read, Stage, StyleBackend, Target, channel_means,
    segment,
};
use crate::rect::Rect;
use crate::tile::Tile;

type A = Autodiff<Flex>;

/// Of the largest response within a tile.
const VALUES: usize = 1 << 12;

const EPILOGUES: [Epilogue; 3] = [
    Epilogue::Relu,
    Epilogue::ReluPool(Pooling::Max),
    Epilogue::ReluPool(Pooling::Average),
];

const MOMENTS: [Option<Moments>; 3] = [None, Some(Moments::Gram), Some(Moments::GramAndMean)];

/// Response, what is read, and gradient.
type Found = (Tensor<Flex, 4>, Vec<Tensor<Flex, 3>>, Tensor<Flex, 4>);

/// The same, of stages applied one after another.
fn plain(
    x: Tensor<A, 4>,
    before: Option<Pointwise<A>>,
    stages: Vec<Stage<A>>,
    area: Rect,
) -> (Tensor<A, 4>, Vec<Read<A>>) {
    let (mut response, mut stride) = (x, 1);
    if let Some(map) = before {
        response = A::conv1x1(response, map.matrix, Some(map.bias));
    }
    let read = stages.into_iter().map(|stage| {
        response = A::convolve(response.clone(), &stage.convolution, stage.epilogue);
        stride *= stage.epilogue.stride();
        let seen = A::crop(response.clone(), area.at_stride(stride));
        let gram = gram_matrix(seen.clone());
        let moments = stage.moments.map(|moments| match moments {
            Moments::Gram => gram,
            Moments::GramAndMean => {
                Tensor::cat(vec![gram, channel_means(seen.clone()).transpose()], 2)
            }
        });
        let distances = stage.distances.into_iter().map(|target| {
            let squares = (seen.clone() - target.values).mul_scalar(target.scale);
            let squares = squares.powi_scalar(2).flatten::<2>(1, 3).sum_dim(1);
            squares.unsqueeze_dim(1)
        });
        moments.into_iter().chain(distances).collect()
    });
    let read = read.collect();
    (response, read)
}

/// Compares the two; `mapped` is whether the channels are mapped before.
fn check(
    x: &Tensor<Flex, 4>,
    mapped: bool,
    stages: &[Stage<A>],
    area: Rect,
    response_counts: bool,
    seed: u64,
) {
    let before = mapped.then(|| Pointwise {
        matrix: random([3, 3], seed + 12),
        bias: random([3], seed + 13),
    });
    let evaluate = |in_segment: bool| -> Found {
        let x = Tensor::<A, 4>::from_inner(x.clone()).require_grad();
        // The image is used elsewhere too.
        let other = x.clone() * 0.5;
        let (y, read) = match in_segment {
            true => A::convolve_segment(x.clone(), before.clone(), stages.to_vec(), area, VALUES),
            false => plain(x.clone(), before.clone(), stages.to_vec(), area),
        };
        let mut loss = other.sum();
        if response_counts {
            loss = loss + (y.clone() * random(y.dims(), seed + 20)).sum();
        }
        let read: Vec<_> = read.into_iter().flatten().collect();
        for (index, read) in read.iter().enumerate() {
            let weights = random(read.dims(), seed + 30 + index as u64);
            loss = loss + (read.clone() * weights).sum();
        }
        let gradient = x.grad(&loss.backward()).unwrap();
        let read = read.into_iter().map(Tensor::inner).collect();
        (y.inner(), read, gradient)
    };
    let (found, expected) = (evaluate(true), evaluate(false));
    // Tiles begin where those of a Winograd convolution do: the same bits.
    assert_eq!(found.0.into_data(), expected.0.into_data());
    assert_eq!(found.1.len(), expected.1.len());
    for (found, expected) in found.1.iter().zip(&expected.1) {
        assert_close(found, expected);
    }
    assert_close(&found.2, &expected.2);
}

proptest! {
    #[test]
    fn segments_of_any_shape(
        batch in 1usize..3, height in 1usize..70, width in 1usize..90,
        kinds in prop::collection::vec(
            (0usize..3, 1usize..8, 0usize..3, any::<bool>(), 0usize..3), 1..5,
        ),
        place in (0usize..9, 0usize..9), mapped: bool, response_counts: bool, seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let strides = kinds.iter().map(|kind| EPILOGUES[kind.0].stride());
        let stride: usize = strides.product();
        let (height, width) = (height.max(stride), width.max(stride));
        let x = random([batch, 3, height, width], seed);
        let first = |place: usize, side: usize| (place * stride).min((side / stride - 1) * stride);
        let (top, left) = (first(place.0, height), first(place.1, width));
        let area = Rect { top, left, height: height - top, width: (width - left).min(20).max(stride) };
        let (mut channels, mut stride) = (3, 1);
        let stages: Vec<Stage<A>> = kinds.into_iter().enumerate().map(|(index, kind)| {
            let (epilogue, channels_out, moments, projected, targets) = kind;
            let seed = seed + 40 + 2 * index as u64;
            let mut convolution = convolution(channels, channels_out, seed);
            channels = channels_out;
            if projected {
                let projection = random([channels + 1, channels], seed);
                convolution.projection = Some(projection);
                channels += 1;
            }
            let epilogue = EPILOGUES[epilogue];
            stride *= epilogue.stride();
            let seen = area.at_stride(stride);
            let distances = (0..targets).map(|index| Target {
                values: random(
                    [if index == 0 { 1 } else { batch }, channels, seen.height, seen.width],
                    seed + 9,
                ),
                scale: 0.4,
            });
            Stage { convolution, epilogue, moments: MOMENTS[moments], distances: distances.collect() }
        }).collect();
        check(&x, mapped, &stages, area, response_counts, seed);
    }
}

/// Images of which no tile's moments are read, whose tiles are all alike, and with edges of one pixel.
#[test]
fn segments_of_long_images() {
    for (height, width) in [(1, 2000), (2000, 1), (300, 9)] {
        let stages = [(3, 8), (8, 8), (8, 5)].map(|(channels_in, channels_out)| Stage {
            convolution: convolution(channels_in, channels_out, 5),
            epilogue: Epilogue::Relu,
            moments: Some(Moments::GramAndMean),
            distances: Vec::new(),
        });
        let shapes: Vec<_> = stages.iter().map(Stage::shape).collect();
        let tiles = segment::tiles([height, width], &shapes, VALUES);
        assert!(tiles.len() > 2);
        let area = Rect {
            top: 0,
            left: 0,
            height: height.min(40),
            width: width.min(40),
        };
        let x = random([1, 3, height, width], 7);
        check(&x, true, &stages, area, true, 7);
    }
}

/// Tiles hold about as many values as they may, and little beside what belongs to them.
#[test]
fn tiles_are_as_large_as_they_may_be() {
    let stage = |channels| Stage::<A> {
        convolution: convolution(channels, channels, 1),
        epilogue: Epilogue::Relu,
        moments: None,
        distances: Vec::new(),
    };
    let shapes = [stage(8).shape(), stage(4).shape()];
    let most = 1 << 16;
    let tiles = segment::tiles([1000, 700], &shapes, most);
    let values = segment::largest_response(Tile::largest(&tiles).window, &shapes);
    assert!(values <= most * 2 && values >= most / 2, "{values}");
    let windows: usize = tiles.iter().map(|tile| tile.window.count()).sum();
    assert!(windows < 700_000 * 3 / 2, "{windows}");
    // The mean over channels of nothing but ones.
    let ones = Tensor::<Flex, 4>::ones([1, 2, 3, 5], &Default::default());
    assert_eq!(
        channel_means(ones).into_data().to_vec::<f32>().unwrap(),
        [1.0, 1.0]
    );
}
