//! Steps a run itself, and changes the recipe while it paints.
//!
//! `cargo run --release --package impasto-tools --example steer -- [CONTENT STYLE OUTPUT]`

use burn::backend::{Autodiff, Flex};
use impasto::{Picture, Recipe, Status, StyleTransfer, Vgg19};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or(default.to_string());
    let (content, style) = (argument("assets/scene.jpg"), argument("assets/swirls.jpg"));
    let encoder = Vgg19::<Autodiff<Flex>>::builtin(&Default::default());
    let mut run = StyleTransfer::new(&encoder)
        .content(Picture::open(content)?)
        .style(Picture::open(style)?, 1.0)
        .recipe(Recipe::default().with_size(384))
        .prepare()?;
    let last = run.plan().scales.len() - 1;
    while let Status::Running(step) = run.step()? {
        println!("{}/{}: {}", step.iteration, step.iterations, step.losses);
        // Halfway through the last scale, more of the photograph.
        if step.scale == last && step.iteration == step.iterations / 2 {
            let recipe = run.recipe().clone();
            run.set_recipe(recipe.with_strength(0.1))?;
        }
    }
    let outcome = run.finish()?;
    Ok(outcome.picture.save(argument("out.png"))?)
}
