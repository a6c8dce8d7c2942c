//! Losses by matching against `tests/reference/matching.py`.

use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use impasto::eval::Evaluator;
use impasto::kernel::StyleBackend;
use impasto::loss::{
    Distance, Hypercolumns, LayerNeighborsTerm, Loss, NeighborsTerm, PaletteTerm, Part,
    PixelColumns, PixelSample, SampledMomentsTerm, SelfSimilarityTerm, TransportTerm, pixel_colors,
};
use impasto::optim::{Adam, AdamConfig, Evaluation, Optimizer, Variables};
use impasto::{Layer, Vgg19};
use serde_json::Value;

use super::{Reference, TOLERANCE, assert_all_close, assert_image, assert_number, small};

type B = Autodiff<Flex>;

/// Gradients and pictures are stored as every seventh element.
const SAMPLE_STRIDE: usize = 7;

struct Case {
    reference: Reference,
    encoder: Vgg19<Flex>,
}

impl Case {
    fn load() -> Self {
        Self {
            reference: Reference::load("matching"),
            encoder: small(),
        }
    }

    fn picture(&self, name: &str) -> Tensor<Flex, 4> {
        self.reference.tensor(name)
    }

    fn layers(&self, path: &str) -> Vec<Layer> {
        let names = self.reference.scalars.pointer(path).unwrap();
        let names = names.as_array().unwrap().iter();
        let names = names.map(|name| name.as_str().unwrap());
        names
            .filter(|name| *name != "rgb")
            .map(|name| name.parse().unwrap())
            .collect()
    }

    fn positions(&self, path: &str) -> Vec<[usize; 2]> {
        let list = self.reference.scalars.pointer(path).unwrap();
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let pair = |pair: &Value| [number(&pair[0]), number(&pair[1])];
        list.as_array().unwrap().iter().map(pair).collect()
    }

    fn part(&self, image: Tensor<Flex, 4>, layers: &[Layer]) -> Part<Flex> {
        let mut sorted = layers.to_vec();
        sorted.sort();
        let features = self.encoder.features(image.clone(), &sorted).unwrap();
        Part::whole(image, features)
    }

    /// Hypercolumns of an image, a column each, for each layer apart.
    fn hypercolumns(&self, image: Tensor<Flex, 4>) -> Vec<Tensor<Flex, 2>> {
        let layers = self.layers("/hypercolumns/layers");
        let [_, _, height, width] = image.dims();
        let columns = Hypercolumns::new(&self.encoder, &layers, [height, width]).unwrap();
        let part = self.part(image, &layers);
        let positions = columns.positions(&part);
        assert_eq!(positions.len(), columns.count());
        let found = columns.columns(&part, &positions).into_iter();
        let found = found.zip(columns.factors());
        found
            .map(|(columns, factor)| columns.squeeze_dim::<2>(0) * factor)
            .collect()
    }

    /// The targets of the reference's neighbours: for each layer the matched columns.
    fn neighbors(&self) -> NeighborsTerm<B> {
        let indices = self.reference.numbers("/matches/indices");
        let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
        let indices =
            Tensor::<Flex, 1, burn::tensor::Int>::from_ints(&indices[..], &Default::default());
        let turned = rotations(self.picture("style")).map(|style| self.hypercolumns(style));
        let layers = self.layers("/hypercolumns/layers");
        let targets: Vec<Tensor<Flex, 2>> = (0..layers.len())
            .map(|layer| {
                let all = turned.iter().map(|columns| columns[layer].clone());
                Tensor::cat(all.collect(), 1).select(1, indices.clone())
            })
            .collect();
        let hypercolumns = Hypercolumns::new(&self.encoder, &layers, [39, 50]).unwrap();
        let weights = Tensor::ones([hypercolumns.count()], &Default::default());
        // Features as they are.
        let targets = targets.into_iter().zip(hypercolumns.factors());
        let targets = targets.map(|(target, factor)| Tensor::from_inner(target / factor));
        let targets: Vec<_> = targets.collect();
        NeighborsTerm::new(hypercolumns, Distance::Cosine, &Default::default())
            .with_targets(targets, weights)
    }

    fn strotss(&self, sample: &PixelSample, alpha: f64) -> Loss<B> {
        let layers = self.layers("/strotss/layers");
        let content = self.part(self.picture("content"), &layers);
        let columns = PixelColumns::new(layers.clone());
        let content = columns.at(&content, sample.pool()).squeeze_dim(0);
        let style = self.part(self.picture("style"), &layers);
        let pixels = self.positions("/strotss/style_positions");
        let style_columns = self.style_columns(&style, &layers, &pixels);
        let colors = Tensor::from_inner(pixel_colors(&style, &pixels).squeeze_dim(0));
        let sum = 1.0 / (alpha + 2.0);
        Loss::sum(
            "total",
            1.0,
            vec![
                Loss::term(
                    "self_similarity",
                    alpha * sum,
                    SelfSimilarityTerm::new(
                        columns.clone(),
                        sample.clone(),
                        Tensor::from_inner(content),
                    ),
                ),
                Loss::term(
                    "remd",
                    sum,
                    TransportTerm::new(columns.clone(), sample.clone(), style_columns.clone()),
                ),
                Loss::term(
                    "moments",
                    sum,
                    SampledMomentsTerm::new(columns, sample.clone(), style_columns),
                ),
                Loss::term(
                    "palette",
                    sum / alpha.max(1.0),
                    PaletteTerm::new(sample.clone(), colors),
                ),
            ],
        )
    }

    /// The program reads the style at the nearest position before the pixel.
    fn style_columns(
        &self,
        style: &Part<Flex>,
        layers: &[Layer],
        pixels: &[[usize; 2]],
    ) -> Tensor<B, 2> {
        let layers = layers.iter().map(|&layer| {
            let [height, width] = style.layer_size(layer);
            let point = |[row, column]: &[usize; 2]| {
                let row = (row / layer.stride()).min(height - 1);
                [row as f32, (column / layer.stride()).min(width - 1) as f32]
            };
            let points: Vec<_> = pixels.iter().map(point).collect();
            style.sample(layer, &points)
        });
        let columns = std::iter::once(pixel_colors(style, pixels)).chain(layers);
        Tensor::from_inner(Tensor::cat(columns.collect(), 1).squeeze_dim(0))
    }

    /// Value and gradient of a loss at an image.
    #[track_caller]
    fn check(&self, loss: Loss<B>, image: &Tensor<Flex, 4>, value: f64, gradient: &str) {
        let evaluator = Evaluator::new(small(), loss);
        let found = evaluator.evaluate(image).unwrap();
        assert_number(gradient, found.losses.weighted(), value, TOLERANCE);
        let (_, expected) = self.reference.values(gradient);
        assert_all_close(gradient, &sampled(found.gradient), &expected, TOLERANCE);
    }
}

fn sampled(image: Tensor<Flex, 4>) -> Vec<f64> {
    image
        .into_data()
        .iter::<f64>()
        .step_by(SAMPLE_STRIDE)
        .collect()
}

/// An image turned by 0°, 90°, 180° and 270° counter-clockwise.
fn rotations(image: Tensor<Flex, 4>) -> [Tensor<Flex, 4>; 4] {
    [
        image.clone(),
        image.clone().flip([3]).swap_dims(2, 3),
        image.clone().flip([2, 3]),
        image.swap_dims(2, 3).flip([3]),
    ]
}

fn centered(columns: Vec<Tensor<Flex, 2>>) -> Tensor<Flex, 2> {
    let columns = Tensor::cat(columns, 0);
    let columns = columns.clone() - columns.mean_dim(1);
    let length = columns.clone().powi_scalar(2).sum_dim(0).sqrt();
    columns / length
}

#[test]
fn hypercolumns_and_their_neighbours() {
    let case = Case::load();
    let columns = Tensor::cat(case.hypercolumns(case.picture("image")), 0);
    let sum: f32 = columns.clone().sum().into_scalar();
    assert_number(
        "sum",
        sum.into(),
        case.reference.number("/hypercolumns/sum"),
        TOLERANCE,
    );
    let squares: f32 = columns.clone().powi_scalar(2).sum().into_scalar();
    let expected = case.reference.number("/hypercolumns/sum_of_squares");
    assert_number("sum of squares", squares.into(), expected, TOLERANCE);
    let places = case.positions("/hypercolumns/columns");
    let places: Vec<i32> = places
        .iter()
        .map(|[row, column]| (row * 12 + column) as i32)
        .collect();
    let places = Tensor::<Flex, 1, burn::tensor::Int>::from_ints(&places[..], &Default::default());
    let found = columns.select(1, places).transpose();
    case.reference.assert_close("hypercolumns.columns", found);

    let (content, other) = (case.picture("content"), case.picture("other"));
    let queries = centered(case.hypercolumns(content * 0.75 + other * 0.25));
    let turned = rotations(case.picture("style")).map(|style| case.hypercolumns(style));
    let layers = (0..turned[0].len()).map(|layer| {
        let all = turned.iter().map(|columns| columns[layer].clone());
        Tensor::cat(all.collect(), 1)
    });
    let candidates = centered(layers.collect());
    let (nearest, product) = <Flex as StyleBackend>::nearest(queries, candidates);
    let nearest: Vec<f64> = nearest
        .into_data()
        .iter::<i64>()
        .map(|i| i as f64)
        .collect();
    assert_eq!(nearest, case.reference.numbers("/matches/indices"));
    case.reference
        .assert_close("matches.distances", product.neg() + 1.0);
}

#[test]
fn neighbours_loss() {
    let case = Case::load();
    let value = case.reference.number("/neighbours/loss");
    let loss = Loss::sum(
        "total",
        1.0,
        vec![Loss::term("neighbors", 1.0, case.neighbors())],
    );
    case.check(loss, &case.picture("image"), value, "gradient.neighbours");
}

#[test]
fn last_pass() {
    let case = Case::load();
    let [height, width] = [28, 36];
    let image = case
        .picture("image")
        .narrow(2, 0, height)
        .narrow(3, 0, width);
    let style = case.picture("style").narrow(2, 0, 30).narrow(3, 0, 26);
    let layers = case.layers("/hypercolumns/layers");
    let parts = rotations(style).map(|style| case.part(style, &layers));
    for name in ["whole", "grid", "grids"] {
        let terms = layers.iter().map(|&layer| {
            let grid = case
                .reference
                .scalars
                .pointer(&format!("/final/{name}/grids/{layer}"));
            let number = |value: &Value| value.as_u64().unwrap() as usize;
            let (spacing, first) = match grid {
                Some(grid) => (number(&grid[0]), [number(&grid[1]), number(&grid[2])]),
                None => (1, [0, 0]),
            };
            let columns = parts.iter().map(|part| {
                let [height, width] = part.layer_size(layer);
                let rows = (first[0]..height).step_by(spacing);
                let points: Vec<_> = rows
                    .flat_map(|row| {
                        let columns = (first[1]..width).step_by(spacing);
                        columns.map(move |column| [row as f32, column as f32])
                    })
                    .collect();
                part.sample(layer, &points).squeeze_dim::<2>(0)
            });
            let columns = Tensor::from_inner(Tensor::cat(columns.collect(), 1));
            let term = LayerNeighborsTerm::new(layer, Distance::Cosine, columns, 0)
                .with_grid(spacing, first);
            Loss::term(layer.to_string(), 1.0, term)
        });
        let loss = Loss::sum("total", 1.0, terms.collect());
        let total = case.reference.number(&format!("/final/{name}/total"));
        case.check(loss, &image, total, &format!("gradient.final.{name}"));
    }
}

#[test]
fn optimal_transport() {
    let case = Case::load();
    let pixels = case.positions("/strotss/image_positions");
    let sample = PixelSample::new(pixels, usize::MAX, 0);
    let image = case.picture("image");
    for (alpha, name) in [(16.0, "16"), (0.5, "0.5")] {
        let total = case.reference.number(&format!("/strotss/totals/{name}"));
        let loss = case.strotss(&sample, alpha);
        case.check(
            loss,
            &image,
            total,
            &format!("gradient.strotss.total_{name}"),
        );
    }
    for term in ["remd", "moments", "palette", "self_similarity"] {
        let value = case.reference.number(&format!("/strotss/terms/{term}"));
        let parts = case.strotss(&sample, 16.0).into_parts();
        let part = parts.into_iter().find(|part| part.name() == term).unwrap();
        let weight = part.weight();
        let loss = Loss::sum("total", 1.0 / weight, vec![part]);
        case.check(loss, &image, value, &format!("gradient.strotss.{term}"));
    }
}

#[test]
fn laplacian_pyramids() {
    let case = Case::load();
    let device = Default::default();
    let picture = case.picture("pyramid.picture");
    let weights = case.picture("pyramid.weights");
    for (levels, bands) in [(3, 3), (8, 4)] {
        let variables = Variables::<Flex>::new([19, 27], levels, 1.0, &device);
        let mut names: Vec<String> = (0..bands).map(|band| format!("band.{band}")).collect();
        names.push(format!("rest.{bands}"));
        let flat = |kind: &str| -> Vec<f64> {
            let bands = names.iter().map(|name| match (kind, &name[..]) {
                ("adjoint", "band.0") => "pyramid.weights".to_string(),
                _ => format!("{kind}.{name}"),
            });
            // A tensor holds each band for all three channels, the variables all bands for each.
            let bands: Vec<(Vec<usize>, Vec<f64>)> =
                bands.map(|name| case.reference.values(&name)).collect();
            (0..3)
                .flat_map(|channel| {
                    bands.iter().flat_map(move |(shape, values)| {
                        let length = shape[2] * shape[3];
                        values[channel * length..(channel + 1) * length].to_vec()
                    })
                })
                .collect()
        };
        let all = |tensor: Tensor<Flex, 4>| -> Vec<f64> { tensor.into_data().iter().collect() };
        let found = all(variables.of(picture.clone()));
        assert_all_close("pyramid", &found, &flat("pyramid"), TOLERANCE);
        let found = all(variables.gradient(weights.clone()));
        assert_all_close("adjoint", &found, &flat("adjoint"), TOLERANCE);
    }
}

/// Losses of the steps and the last image.
fn descend(
    loss: Loss<B>,
    config: AdamConfig,
    start: Tensor<Flex, 4>,
    steps: usize,
) -> (Vec<f64>, Tensor<Flex, 4>) {
    let [_, _, height, width] = start.dims();
    let variables = Variables::<Flex>::new([height, width], 8, 1.0, &Default::default());
    let evaluator = Evaluator::new(small(), loss);
    let mut optimizer = Adam::new(config);
    let mut coefficients = variables.of(start);
    let mut losses = Vec::new();
    for _ in 0..steps {
        let next = optimizer.step(coefficients, |coefficients| {
            let found = evaluator.evaluate(&variables.image(coefficients))?;
            losses.push(found.losses.weighted());
            Ok::<_, impasto::eval::EvalError>(Evaluation {
                loss: found.losses.weighted(),
                gradient: variables.gradient(found.gradient),
            })
        });
        coefficients = next.unwrap();
    }
    (losses, variables.image(coefficients))
}

#[test]
fn optimisers_on_a_pyramid() {
    let case = Case::load();
    let adam = AdamConfig {
        learning_rate: 2e-3,
        beta2: 0.999,
        ..AdamConfig::default()
    };
    let rmsprop = AdamConfig {
        learning_rate: 2e-3,
        beta1: 0.0,
        beta2: 0.99,
        bias_correction: false,
        ..AdamConfig::default()
    };
    let pixels = case.positions("/strotss/image_positions");
    let sample = PixelSample::new(pixels, usize::MAX, 0);
    let neighbors = Loss::sum(
        "total",
        1.0,
        vec![Loss::term("neighbors", 1.0, case.neighbors())],
    );
    for (name, loss, config) in [
        ("adam", neighbors, adam),
        ("rmsprop", case.strotss(&sample, 16.0), rmsprop),
    ] {
        let expected = case.reference.numbers(&format!("/{name}/losses"));
        let start = case.picture("image");
        let (losses, image) = descend(loss, config, start, expected.len());
        assert_all_close(name, &losses, &expected, TOLERANCE);
        let (_, expected) = case.reference.values(&format!("{name}.image"));
        let found: Vec<f32> = sampled(image)
            .into_iter()
            .map(|value| value as f32)
            .collect();
        let count = found.len();
        let found = Tensor::<Flex, 1>::from_floats(&found[..], &Default::default());
        assert_image(name, found.reshape([1, 1, 1, count]), &expected, 1e-3);
    }
}

#[test]
fn values_computed_by_hand() {
    let reference = Reference::load("matching");
    let matrix = |name: &str| {
        let rows = reference.scalars["check_values"][name].as_array().unwrap();
        let row = |row: &Value| -> Vec<f32> {
            let row = row.as_array().unwrap().iter();
            row.map(|value| value.as_f64().unwrap() as f32).collect()
        };
        let flat: Vec<f32> = rows.iter().flat_map(row).collect();
        let flat = Tensor::<Flex, 1>::from_floats(&flat[..], &Default::default());
        let columns = flat.reshape([rows.len(), 2]).transpose();
        columns.clone() - columns.mean_dim(1)
    };
    let length = |columns: &Tensor<Flex, 2>| columns.clone().powi_scalar(2).sum_dim(0).sqrt();
    let (x, z) = (matrix("x"), matrix("style"));
    let (x, z) = (x.clone() / length(&x), z.clone() / length(&z));
    let (nearest, product) = <Flex as StyleBackend>::nearest(x, z);
    assert_eq!(
        nearest.into_data().iter::<i64>().collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let mean: f32 = (product.neg() + 1.0).mean().into_scalar();
    let expected = reference.number("/check_values/matches_mean_distance");
    assert_number("mean distance", mean.into(), expected, TOLERANCE);
}
