//! The first losses of the recipes.

use std::fs;
use std::ops::ControlFlow;

use burn::backend::{Autodiff, Flex};
use impasto::transfer::{Measure, Transport};
use impasto::{Normalization, Picture, Recipe, StyleTransfer, Vgg19, Vgg19Weights};
use serde_json::Value;

use crate::data;

use super::{Reference, TOLERANCE, assert_number};

/// The first evaluation of every recipe is what its source defines, as `tests/reference/recipes.py`
/// spells it out.
#[test]
fn recipes_have_the_losses_of_their_sources() {
    let json = fs::read_to_string(data("recipes.reference.json")).unwrap();
    let reference: Value = serde_json::from_str(&json).unwrap();
    let small = Reference::load("small");
    let picture = |name| Picture::from_tensor(small.tensor::<Flex>(name)).unwrap();
    let (content, style) = (picture("content"), picture("style"));
    let known = reference["recipes"].as_object().unwrap();
    for recipe in Recipe::all() {
        let name = recipe.name.clone();
        // This crate's own.
        if ["impasto", "gram", "wasserstein"].contains(&&name[..]) {
            continue;
        }
        let expected = known.get(&name).unwrap_or_else(|| panic!("{name}"));
        let mut weights = Vgg19Weights::load(data("small.safetensors")).unwrap();
        weights.normalization = match expected["normalisation"].as_str() {
            Some("caffe") => Normalization::CAFFE,
            _ => Normalization::TORCHVISION,
        };
        let encoder = Vgg19::<Autodiff<Flex>>::from_weights(weights, &Default::default());
        // At their own sizes, pictures are not resized.
        let measured = |width: f64, height: f64| match recipe.measure {
            Measure::LongestSide => width.max(height),
            Measure::ShortestSide => width.min(height),
            Measure::Width => width,
            Measure::Height => height,
            Measure::SquareRootOfArea => (width * height).sqrt(),
        };
        let own = |picture: &Picture| {
            measured(picture.width() as f64, picture.height() as f64).round() as usize
        };
        let recipe = Recipe {
            size: own(&content),
            style_size: Some(own(&style)),
            coarsest: usize::MAX,
            // All pixels instead of drawn ones.
            transport: Transport {
                samples: 1 << 16,
                style_samples: 1 << 16,
                ..recipe.transport
            },
            ..recipe
        };
        let mut first = None;
        StyleTransfer::new(&encoder)
            .content(content.clone())
            .style(style.clone(), 1.0)
            .start(picture("start"))
            .recipe(recipe)
            .on_step(|step| {
                assert_eq!((step.width, step.height), (46, 37), "{name}");
                first = Some(step.losses.clone());
                ControlFlow::Break(())
            })
            .run()
            .unwrap();
        let losses = first.unwrap();
        let total = expected["total"].as_f64().unwrap();
        assert_number(
            &format!("{name}, total"),
            losses.weighted(),
            total,
            TOLERANCE,
        );
        for (term, value) in expected["weighted"].as_object().unwrap() {
            let found = losses.get(term).unwrap_or_else(|| panic!("{name}, {term}"));
            let label = format!("{name}, {term}");
            assert_number(&label, found.weighted(), value.as_f64().unwrap(), TOLERANCE);
        }
    }
}
