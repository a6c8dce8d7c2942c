//! Thick paint: a brush that leaves the tone and the relief of its bristles,
//! and the light that makes the relief show.

use crate::canvas::Canvas;
use crate::noise::noise;
use crate::path::{bounds, nearest};
use crate::vector::{Rgb, V2, smooth, v2, v3};

/// One loaded brush stroke, see [`Canvas::brush`].
pub struct Stroke<'a> {
    pub path: &'a [V2],
    pub width: f32,
    pub colour: Rgb,
    /// A second colour that the brush picked up and leaves along some bristles.
    pub streak: Rgb,
    pub seed: f32,
}

impl Canvas {
    /// Drags a brush along a path. Noise across the stroke stands for the
    /// bristles: each lays its own tone and height, furrows run along the
    /// stroke, paint piles up at the rims and gives out towards the end.
    pub fn brush(&mut self, stroke: &Stroke) {
        let Stroke { path, width, .. } = *stroke;
        let half = width / 2.0;
        let total: f32 = path.windows(2).map(|ab| (ab[1] - ab[0]).length()).sum();
        let mut done = 0.0;
        for ab in path.windows(2) {
            let step = (ab[1] - ab[0]).length();
            let side = (ab[1] - ab[0]).perp().unit();
            let (lo, hi) = bounds(ab, half);
            self.within(lo, hi, |c, i, p| {
                let (t, d) = nearest(ab[0], ab[1], p);
                if t == 0.0 && done > 0.0 {
                    return; // The segment before has painted this.
                }
                // Along the stroke 0..1 and across it -1..1.
                let s = (done + t * step) / total;
                let u = d.dot(side).signum() * d.length() / half;
                let grain = noise(v2(u * half * 0.8 + stroke.seed, s * total / 22.0));
                let fine = noise(v2(u * half * 2.0 - stroke.seed, s * total / 16.0));
                let reach = 1.0 - 0.45 * s * s + 0.16 * grain;
                let dry = smooth(0.55, 1.05, s) * 1.1 - 0.45;
                if u.abs() > reach || 0.7 * grain + 0.5 * fine < dry - 0.6 {
                    return;
                }
                let tone = 1.0 + 0.16 * grain + 0.12 * fine;
                let streaked = smooth(0.15, 0.5, grain + 0.25 * fine);
                c.px[i] = stroke.colour.mix(stroke.streak, 0.75 * streaked) * tone;
                let rim = smooth(0.45, 0.9, u.abs() / reach);
                let lay = 0.55 + 0.3 * grain + 0.3 * fine + 0.25 * rim - 0.25 * s;
                c.relief[i] = lay * half.min(5.0).sqrt();
            });
            done += step;
        }
    }

    /// Lights the paint's relief from the upper left, with a wet gloss.
    pub fn light(&mut self, depth: f32) {
        let light = v3(-0.5, -0.62, 0.6).unit();
        let shine = (light + v3(0.0, 0.0, 1.0)).unit();
        let flat = 0.2 * shine.z.powf(45.0);
        let at = |x: usize, y: usize| self.relief[y.min(self.h - 1) * self.w + x.min(self.w - 1)];
        for y in 0..self.h {
            for x in 0..self.w {
                let dx = at(x + 1, y) - at(x.saturating_sub(1), y);
                let dy = at(x, y + 1) - at(x, y.saturating_sub(1));
                let n = v3(-dx * depth, -dy * depth, 1.0).unit();
                let lit = 0.45 + 0.55 * n.dot(light).max(0.0) / light.z;
                let gloss = 0.2 * n.dot(shine).max(0.0).powf(45.0);
                let c = &mut self.px[y * self.w + x];
                *c = *c * lit.min(1.7) + v3(1.0, 0.97, 0.9) * (gloss - flat).max(0.0);
            }
        }
    }
}
