//! The canvas that every picture is drawn on: shading by place, lines, filled
//! outlines, blur, and the JPEG at the end. Brushes are in [`crate::brush`].

use crate::path::{bounds, nearest};
use crate::vector::{Rgb, V2, to_srgb, v2};
use image::codecs::jpeg::JpegEncoder;
use std::error::Error;
use std::path::Path;

/// A picture in the making: `scale` samples per finished pixel each way, with
/// a height of paint beside every colour for [`Canvas::light`] to bring out.
pub struct Canvas {
    pub w: usize,
    pub h: usize,
    scale: usize,
    pub px: Vec<Rgb>,
    pub relief: Vec<f32>,
}

impl Canvas {
    /// A canvas for a finished picture of `w` by `h`, coloured by `shade`,
    /// which is called for every sample with its position.
    pub fn paint(w: usize, h: usize, scale: usize, shade: impl Fn(V2) -> Rgb + Sync) -> Self {
        let (w, h) = (w * scale, h * scale);
        let mut px = vec![Rgb::default(); w * h];
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
        // Rows go to the threads in small batches, dealt out in turn.
        let mut hands: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (y, row) in px.chunks_mut(w).enumerate() {
            hands[y / 8 % workers].push((y, row));
        }
        std::thread::scope(|s| {
            for hand in hands {
                s.spawn(|| {
                    for (y, row) in hand {
                        for (x, c) in row.iter_mut().enumerate() {
                            *c = shade(v2(x as f32 + 0.5, y as f32 + 0.5) / scale as f32);
                        }
                    }
                });
            }
        });
        let relief = vec![0.0; w * h];
        Canvas {
            w,
            h,
            scale,
            px,
            relief,
        }
    }

    /// Calls `f(index, position)` for the samples in a box around `lo..hi`.
    pub fn within(&mut self, lo: V2, hi: V2, mut f: impl FnMut(&mut Self, usize, V2)) {
        let s = self.scale as f32;
        let (x0, y0) = ((lo.x * s).max(0.0) as usize, (lo.y * s).max(0.0) as usize);
        let x1 = ((hi.x * s + 1.0).max(0.0) as usize).min(self.w);
        let y1 = ((hi.y * s + 1.0).max(0.0) as usize).min(self.h);
        for y in y0..y1 {
            for x in x0..x1 {
                let p = v2(x as f32 + 0.5, y as f32 + 0.5) / s;
                f(self, y * self.w + x, p);
            }
        }
    }

    /// An even line through `path`; `width(t)` is its width at 0..1 along it.
    pub fn line(&mut self, path: &[V2], colour: Rgb, width: impl Fn(f32) -> f32) {
        let n = path.len().max(2) - 1;
        for (i, ab) in path.windows(2).enumerate() {
            let [ra, rb] = [i, i + 1].map(|i| width(i as f32 / n as f32) / 2.0);
            let r = ra.max(rb);
            let (lo, hi) = bounds(ab, r);
            self.within(lo, hi, |c, i, p| {
                let (t, d) = nearest(ab[0], ab[1], p);
                if d.length() < ra + (rb - ra) * t {
                    c.px[i] = colour;
                }
            });
        }
    }

    /// Fills a closed outline (even-odd).
    pub fn fill(&mut self, outline: &[V2], colour: Rgb) {
        let s = self.scale as f32;
        for y in 0..self.h {
            let py = (y as f32 + 0.5) / s;
            let mut cuts: Vec<f32> = (0..outline.len())
                .map(|i| (outline[i], outline[(i + 1) % outline.len()]))
                .filter(|(a, b)| (a.y <= py) != (b.y <= py))
                .map(|(a, b)| (a.x + (py - a.y) / (b.y - a.y) * (b.x - a.x)) * s)
                .collect();
            cuts.sort_by(f32::total_cmp);
            for span in cuts.chunks_exact(2) {
                let column = |x: f32| ((x + 0.5).max(0.0) as usize).min(self.w);
                let (x0, x1) = (column(span[0]), column(span[1]));
                self.px[y * self.w + x0..y * self.w + x1].fill(colour);
            }
        }
    }

    /// The colours blurred by three box passes each way.
    pub fn blurred(&self, radius: f32) -> Vec<Rgb> {
        let r = (radius * self.scale as f32) as usize;
        let mut px = self.px.clone();
        let mut lane = Vec::new();
        // Rows first, then columns: (lanes, lane step, length, sample step).
        let passes = [(self.h, self.w, self.w, 1), (self.w, 1, self.h, self.w)];
        for (lanes, lane_step, len, step) in passes {
            for start in (0..lanes).map(|l| l * lane_step) {
                for _ in 0..3 {
                    lane.clear();
                    lane.extend((0..len).map(|i| px[start + i * step]));
                    let at = |i: usize| lane[i.saturating_sub(r).min(len - 1)];
                    let mut sum = (0..=2 * r).fold(Rgb::default(), |sum, i| sum + at(i));
                    for i in 0..len {
                        px[start + i * step] = sum / (2 * r + 1) as f32;
                        sum = sum + at(i + 2 * r + 1) - at(i);
                    }
                }
            }
        }
        px
    }

    /// Averages the samples of each finished pixel and writes a JPEG.
    pub fn save(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let s = self.scale;
        let (w, h) = ((self.w / s) as u32, (self.h / s) as u32);
        let small = image::RgbImage::from_fn(w, h, |x, y| {
            let mut sum = Rgb::default();
            for j in 0..s {
                let row = (y as usize * s + j) * self.w + x as usize * s;
                for c in &self.px[row..row + s] {
                    // Clipped first, lest one glint outshine its neighbours.
                    sum = sum + c.map(|v| v.clamp(0.0, 1.0));
                }
            }
            let c = sum / (s * s) as f32;
            image::Rgb([to_srgb(c.x), to_srgb(c.y), to_srgb(c.z)])
        });
        let file = std::io::BufWriter::new(std::fs::File::create(path)?);
        small.write_with_encoder(JpegEncoder::new_with_quality(file, 90))?;
        Ok(())
    }
}
