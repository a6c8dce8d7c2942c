//! Draws the pictures in `assets/`: one content scene and four style sources.
//!
//! Everything is computed here from a fixed seed, so the pictures carry no
//! licence but this repository's and come out the same on every run:
//!
//! ```text
//! cargo run --release --package impasto-tools --bin draw [OUTPUT_DIR]
//! ```
//!
//! * `scene.jpg` – a lakeside village, ray traced from simple solids;
//! * `swirls.jpg` – a night sky in thick brush strokes along a turbulent flow;
//! * `glass.jpg` – a rose window of leaded, glowing glass;
//! * `woodcut.jpg` – breaking waves cut in indigo, pale blue and cream;
//! * `dots.jpg` – a river park in dots of nearly pure colour.
//!
//! Each picture is drawn two or three times too large in linear light and is
//! averaged down at the end, which is all the anti-aliasing there is.
//! Coordinates are always in pixels of the finished picture.

mod brush;
mod canvas;
mod dots;
mod glass;
mod land;
mod noise;
mod path;
mod scene;
mod swirls;
mod things;
mod vector;
mod woodcut;

use canvas::Canvas;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "assets".into()));
    std::fs::create_dir_all(&out)?;
    type Picture = (&'static str, fn() -> Canvas);
    let pictures: [Picture; 5] = [
        ("scene.jpg", scene::draw),
        ("swirls.jpg", swirls::draw),
        ("glass.jpg", glass::draw),
        ("woodcut.jpg", woodcut::draw),
        ("dots.jpg", dots::draw),
    ];
    std::thread::scope(|s| {
        let drawn = pictures.map(|(name, draw)| (name, s.spawn(draw)));
        for (name, canvas) in drawn {
            let path = out.join(name);
            let canvas = canvas.join().map_err(|_| format!("{name} failed"))?;
            canvas.save(&path)?;
            println!("{}", path.display());
        }
        Ok(())
    })
}
