//! An image in the course of a run.

use std::io::BufWriter;
use std::path::Path;

use burn::tensor::backend::Backend;
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, Frame, Rgb32FImage};
use tempfile::NamedTempFile;

use super::sheet;
use crate::atomic;
use crate::picture::{Picture, PictureError, SaveOptions, check_folder, check_output};
use crate::transfer::Step;

/// Time that each frame of an animation is shown, in milliseconds.
const FRAME: u32 = 250;
/// The last one is shown longer.
const LAST_FRAME: u32 = 1500;
/// Longest side of a frame, in pixels.
const SIDE: usize = 320;

/// Collects the image at evaluations that lie closer together at the beginning, where more happens:
/// 1, 2, 3, 4, 6, 9 …, each 1.5 times the one before.
#[derive(Clone, Debug, Default)]
pub struct Evolution {
    frames: Vec<(usize, Picture)>,
    next: usize,
}

impl Evolution {
    /// Nothing collected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the image if it is its turn; to be called at each step of a run.
    ///
    /// # Errors
    /// See [`Step::picture`].
    pub fn record<B: Backend>(&mut self, step: &Step<'_, B>) -> Result<(), PictureError> {
        if step.evaluation >= self.next {
            self.push(step.evaluation, &step.picture()?);
            self.next = (step.evaluation + 1).max(step.evaluation * 3 / 2);
        }
        Ok(())
    }

    /// Adds the result of a run as the last frame.
    pub fn finish(&mut self, evaluations: usize, result: &Picture) {
        self.push(evaluations, result);
    }

    fn push(&mut self, evaluation: usize, picture: &Picture) {
        let (width, height) = (picture.width(), picture.height());
        let scale = (SIDE as f64 / width.max(height) as f64).min(1.0);
        let scaled = |side: usize| ((side as f64 * scale).round() as usize).max(1);
        self.frames
            .push((evaluation, picture.resize(scaled(width), scaled(height))));
    }

    /// The evaluations that were kept, each with its image.
    pub fn frames(&self) -> &[(usize, Picture)] {
        &self.frames
    }

    /// All frames on a labelled strip, in rows of six; none if nothing was recorded.
    pub fn strip(&self) -> Option<Picture> {
        let (width, height) = self.size()?;
        let cell = |(evaluation, picture): &(usize, Picture)| {
            (evaluation.to_string(), picture.resize(width, height))
        };
        let cells: Vec<_> = self.frames.iter().map(cell).collect();
        let rows: Vec<_> = cells.chunks(6).map(<[_]>::to_vec).collect();
        Some(sheet(&rows, width, height))
    }

    /// Size of the largest frame: those of coarse scales are smaller.
    fn size(&self) -> Option<(usize, usize)> {
        let sizes = self
            .frames
            .iter()
            .map(|(_, picture)| (picture.width(), picture.height()));
        sizes.max()
    }

    /// Checks, before any work is done, that [`save`](Self::save) could write to this name.
    ///
    /// # Errors
    /// The [`PictureError`] that saving would give.
    pub fn check(path: impl AsRef<Path>) -> Result<(), PictureError> {
        match path.as_ref() {
            path if is_animation(path) => check_folder(path),
            path => check_output(path, SaveOptions::default()),
        }
    }

    /// Writes an endless animation if the name ends in `.gif`, else the [`strip`](Self::strip).
    ///
    /// # Errors
    /// [`PictureError`] if nothing was recorded or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PictureError> {
        let path = path.as_ref();
        let strip = || {
            self.strip().ok_or(PictureError::Shape {
                shape: vec![0, 0, 3],
                values: 0,
            })
        };
        if !is_animation(path) {
            return strip()?.save_with(path, SaveOptions::default());
        }
        let (width, height) = self.size().unwrap_or((1, 1));
        if self.frames.is_empty() {
            return strip().map(drop);
        }
        let write = |file: &mut BufWriter<NamedTempFile>| -> Result<(), image::ImageError> {
            let mut encoder = GifEncoder::new_with_speed(file, 10);
            encoder.set_repeat(Repeat::Infinite)?;
            for (index, (_, picture)) in self.frames.iter().enumerate() {
                let rgb = picture.resize(width, height).rgb().to_vec();
                let image = Rgb32FImage::from_raw(width as u32, height as u32, rgb);
                let image = image::DynamicImage::from(image.unwrap_or_default()).into_rgba8();
                let last = index + 1 == self.frames.len();
                let time = if last { LAST_FRAME } else { FRAME };
                let delay = Delay::from_numer_denom_ms(time, 1);
                encoder.encode_frame(Frame::from_parts(image, 0, 0, delay))?;
            }
            Ok(())
        };
        atomic::write(path, write).map_err(|source| PictureError::Write {
            path: path.into(),
            source,
        })
    }
}

fn is_animation(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gif"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::AnimationDecoder;

    fn grey(width: usize, value: f32) -> Picture {
        Picture::from_rgb(width, 4, vec![value; 12 * width]).unwrap()
    }

    #[test]
    fn frames_become_a_strip_or_an_animation() {
        let folder = tempfile::tempdir().unwrap();
        let (strip, animation) = (folder.path().join("a.png"), folder.path().join("a.GIF"));
        let mut evolution = Evolution::new();
        for path in [&strip, &animation] {
            assert!(evolution.save(path).is_err());
            assert!(!path.exists());
        }
        evolution.finish(1, &grey(6, 0.0));
        evolution.finish(20, &grey(12, 1.0));
        for path in [&strip, &animation] {
            Evolution::check(path).unwrap();
            evolution.save(path).unwrap();
        }
        assert_eq!(Picture::open(&strip).unwrap(), evolution.strip().unwrap());
        let file = std::io::BufReader::new(std::fs::File::open(&animation).unwrap());
        let decoder = image::codecs::gif::GifDecoder::new(file).unwrap();
        let frames = decoder.into_frames().collect_frames().unwrap();
        // The frame of the coarse scale is enlarged to the size of the last.
        let first: Vec<u8> = frames
            .iter()
            .map(|frame| frame.buffer().get_pixel(5, 2).0[0])
            .collect();
        assert_eq!(first, [0, 255]);
        assert!(
            frames
                .iter()
                .all(|frame| frame.buffer().dimensions() == (12, 4))
        );
        // One that is so narrow that nothing would be left of it keeps a pixel.
        let mut narrow = Evolution::new();
        narrow.finish(1, &grey(4000, 0.5));
        assert_eq!(narrow.frames()[0].1.height(), 1);
        assert!(Evolution::check(folder.path().join("a.txt")).is_err());
        assert!(Evolution::check(folder.path().join("absent/a.gif")).is_err());
    }
}
