//! The pictures of a measurement: files, or drawn ones that are the same everywhere.

use std::f32::consts::TAU;
use std::path::PathBuf;

use impasto::Picture;
use impasto::picture::Limits;

use super::objective::Pair;
use crate::cli::args::BenchArgs;
use crate::cli::failure::Failure;
use crate::cli::inputs::open;

/// Where the content and the style come from.
pub struct Pictures {
    /// Those of files; without, they are drawn.
    opened: Option<Pair>,
}

impl Pictures {
    /// Reads the pictures that the arguments name.
    pub fn open(args: &BenchArgs) -> Result<Self, Failure> {
        // All of them is needed: the longest side does not tell the side of a square.
        let open = |path: &PathBuf| open(path, usize::MAX, Limits::REDUCED);
        let content = args.content.as_ref().map(open).transpose()?;
        let style = args.style.as_ref().map(open).transpose()?;
        let pair = content.zip(style);
        Ok(Self {
            opened: pair.map(|(content, style)| Pair { content, style }),
        })
    }

    /// Content and style with this width and height.
    pub fn at(&self, [width, height]: [usize; 2]) -> Pair {
        match &self.opened {
            None => Pair {
                content: draw(width, height, 1, landscape),
                style: draw(width, height, 2, waves),
            },
            Some(Pair { content, style }) => Pair {
                content: content.resize(width, height),
                style: style.resize(width, height),
            },
        }
    }
}

/// A picture of colours by place, from 0 to 1 across and down, with grain.
fn draw(width: usize, height: usize, seed: u64, color: fn(f32, f32) -> [f32; 3]) -> Picture {
    let mut state = seed;
    let mut grain = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        0.15 * ((state >> 40) as f32 / (1 << 24) as f32 - 0.5)
    };
    let place = |index: usize, side: usize| (index as f32 + 0.5) / side as f32;
    let mut rgb = Vec::with_capacity(3 * width * height);
    for row in 0..height {
        for column in 0..width {
            let color = color(place(column, width), place(row, height));
            rgb.extend(color.map(|value| (value + grain()).clamp(0.0, 1.0)));
        }
    }
    Picture::from_rgb(width, height, rgb).expect("three values for each pixel")
}

/// A sun over hills, and clouds.
fn landscape(x: f32, y: f32) -> [f32; 3] {
    let hills = 0.6 + 0.08 * (TAU * 1.3 * x).sin() + 0.03 * (TAU * 5.0 * x + 1.0).sin();
    let across = (TAU * (3.0 * x + (TAU * 2.0 * y).sin())).sin();
    let down = (TAU * (4.0 * y + 0.7 * (TAU * x).sin())).sin();
    let cloud = 0.08 * across * down;
    if (x - 0.7).hypot(y - 0.25) < 0.12 {
        [0.85 + cloud, 0.75 + cloud, 0.45 + cloud]
    } else if y < hills {
        [0.4 + 0.3 * y + cloud, 0.5 + 0.25 * y + cloud, 0.7 + cloud]
    } else {
        let furrow = 0.1 * (TAU * 9.0 * (x + 0.4 * y)).sin();
        let green = 0.5 + furrow - 0.2 * (y - hills);
        [0.35 + furrow, green, 0.3 + 0.5 * furrow]
    }
}

/// Bent stripes. Of little contrast: after strong ones the steps of the optimisers magnify rounding
/// tenfold.
fn waves(x: f32, y: f32) -> [f32; 3] {
    let bent = 5.0 * y + 0.8 * (TAU * 2.0 * x).sin() + 0.3 * (TAU * 3.0 * (x + y)).cos();
    let stripe = |shift: f32| 0.5 + 0.15 * (TAU * (bent + shift)).sin();
    [stripe(0.0), 0.8 * stripe(0.12), 1.0 - 0.7 * stripe(0.3)]
}
