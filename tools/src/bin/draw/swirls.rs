//! A night sky over fields: luminous discs and vortices in a wind that the
//! brush follows. A stream function holds the whole movement of the picture:
//! strokes run along its level lines, and its value picks the band of colour.

use crate::brush::Stroke;
use crate::canvas::Canvas;
use crate::noise::{Rng, fbm, hash2, noise};
use crate::vector::{V2, hex, ramp, smooth, v2, v3};
use std::f32::consts::TAU;

pub fn draw() -> Canvas {
    /// Whirls in the sky: centre, radius, strength.
    const WHIRLS: [(V2, f32, f32); 4] = [
        (v2(418.0, 168.0), 92.0, 118.0),
        (v2(268.0, 262.0), 60.0, -74.0),
        (v2(585.0, 292.0), 52.0, -60.0),
        (v2(236.0, 70.0), 46.0, 44.0),
    ];
    /// Luminous discs: centre and radius of the core.
    const DISCS: [(V2, f32); 7] = [
        (v2(122.0, 158.0), 30.0),
        (v2(566.0, 84.0), 17.0),
        (v2(330.0, 38.0), 11.0),
        (v2(38.0, 44.0), 12.0),
        (v2(505.0, 268.0), 11.0),
        (v2(196.0, 322.0), 9.0),
        (v2(38.0, 282.0), 8.0),
    ];
    let night = [0x0b1440, 0x14246b, 0x1d3f9a, 0x2a63bd, 0x4d94cf, 0xb5d9dc].map(hex);
    let glow = [0xfff3b0, 0xfbd64a, 0xf2a41f, 0xe8c860, 0x8fc4a0, 0x3f9fb0].map(hex);
    let field = [0x1b3a4a, 0x2b5f4a, 0x6d7f2e, 0xc08f28, 0xe9bd4a].map(hex);

    let hill = |x: f32| 396.0 - 30.0 * (x / 150.0 + 0.6).sin() - 12.0 * (x / 61.0).sin();
    let ground = |p: V2| p.y > hill(p.x);
    let stream = |p: V2| {
        let mut v = 0.9 * p.y + 26.0 * fbm(p / 150.0, 3);
        for (c, r, k) in WHIRLS {
            let q = (p - c).length() / r;
            v += k * (-q * q).exp();
        }
        v
    };
    let flow = |p: V2| {
        if ground(p) {
            // Furrows follow the hill's edge and tilt from field to field.
            let slope = (hill(p.x + 4.0) - hill(p.x - 4.0)) / 8.0;
            let depth = (p.y - hill(p.x)) / 100.0;
            let tilt = 1.6 * noise(v2(p.x / 130.0, depth * 1.3 + 5.0));
            return v2(1.0, slope * (1.0 - depth) + tilt * depth.sqrt()).unit();
        }
        let e = 1.5;
        let dx = stream(p + v2(e, 0.0)) - stream(p - v2(e, 0.0));
        let dy = stream(p + v2(0.0, e)) - stream(p - v2(0.0, e));
        let mut v = v2(dy, -dx).unit();
        // Whirls draw the wind inwards; around the discs it runs in circles.
        for (c, r, k) in WHIRLS {
            let q = (p - c).length() / r;
            let spiral = (p - c).perp().unit() * -k.signum() - (p - c).unit() * 0.3;
            v = v.mix(spiral, (-1.6 * q * q * q).exp());
        }
        for (c, r) in DISCS {
            let q = (p - c).length() / r;
            v = v.mix((p - c).perp().unit(), smooth(3.6, 2.3, q));
        }
        v.unit()
    };
    let colour = |p: V2| {
        let drift = fbm(p / 75.0, 3);
        if ground(p) {
            let depth = (p.y - hill(p.x)) / 100.0;
            let plot = v2(p.x / 150.0 + 0.9 * depth, depth * 1.9 + 0.15 * drift);
            let crop = hash2(plot.x.floor() as i32 + 40, plot.y.floor() as i32).x;
            let furrow = (depth * 46.0 + p.x / 40.0 + 3.0 * drift).sin();
            let c = ramp(&field, crop + 0.2 * furrow + 0.25 * drift);
            let edge = v2(plot.x - plot.x.round(), plot.y - plot.y.round());
            let hedge = smooth(0.07, 0.02, edge.x.abs().min(edge.y.abs()));
            return c.mix(hex(0x12233f), 0.75 * hedge.max(smooth(0.07, 0.0, depth)));
        }
        let mut wave = (stream(p) / 34.0 * TAU + 1.5 * drift).sin();
        let mut pale = 0.0f32;
        for (c, r, k) in WHIRLS {
            let (d, q) = (p - c, (p - c).length() / r);
            let turn = d.angle() * -k.signum();
            let near = (-1.3 * q * q * q).exp();
            let arms = (2.0 * turn + 6.5 * (q + 0.12).ln()).sin();
            wave += (arms - wave) * near;
            pale += near;
        }
        let horizon = smooth(150.0, 390.0, p.y);
        let tone = 0.34 + 0.23 * wave + 0.22 * drift + 0.24 * pale.min(1.0) + 0.16 * horizon;
        let mut c = ramp(&night, tone);
        // Some of the middle tones lean to violet, some to sea green.
        let lean = noise(p / 110.0 + v2(7.0, 3.0));
        let hue = hex(if lean > 0.0 { 0x4a3c9c } else { 0x1f8a94 }) * (0.4 + 1.6 * tone);
        c = c.mix(hue, 0.8 * smooth(0.12, 0.6, lean.abs()));
        for (centre, r) in DISCS {
            let q = (p - centre).length() / r + 0.16 * noise(p * 0.12);
            let rings = 0.13 * (q * 8.5).sin() * smooth(0.6, 1.2, q);
            let halo = smooth(3.7, 1.5, q) * (1.0 - 0.35 * smooth(1.2, 2.4, q));
            c = c.mix(ramp(&glow, (q - 0.75) / 2.6 + rings), halo);
        }
        c
    };

    let mut rng = Rng(11);
    let (w, h) = (640.0, 480.0);
    let mut canvas = Canvas::paint(640, 480, 2, |p| colour(p) * 0.5);
    // Broad strokes first, then ever finer ones that leave the broad in sight.
    for (width, length, count) in [(18.0, 74.0, 1500), (10.5, 50.0, 3000), (6.5, 32.0, 4200)] {
        for _ in 0..count {
            let start = v2(rng.range(-20.0, w + 20.0), rng.range(-20.0, h + 20.0));
            let mut path = vec![start];
            let length = length * rng.range(0.6, 1.3);
            let step = 4.0;
            let mut p = start;
            while path.len() as f32 * step < length {
                let next = p + flow(p) * step;
                if ground(next) != ground(start) {
                    break;
                }
                p = next;
                path.push(p);
            }
            if path.len() < 4 {
                continue;
            }
            let base = colour(path[path.len() / 2]);
            let shift = rng.bell3() * 0.16 + v3(1.0, 1.0, 1.0);
            let accents = match base.luma() {
                ..0.05 => [0x2f5fc4, 0x3a2f7a, 0x1d6f86],
                ..0.3 => [0x8fd0e0, 0x17308a, 0x6a5fc0],
                _ => [0xfff7cf, 0xf0922a, 0xe9e3a0],
            };
            let accent = hex(rng.pick(&accents));
            canvas.brush(&Stroke {
                path: &path,
                width: width * rng.range(0.7, 1.25),
                colour: base.tint(shift) * rng.range(0.72, 1.25),
                streak: base.mix(accent, rng.range(0.1, 0.65)),
                seed: rng.range(0.0, 999.0),
            });
        }
    }
    canvas.light(1.05);
    canvas
}
