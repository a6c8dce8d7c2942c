//! A river park on a summer afternoon, in dots. [`park`] is the motif; every
//! dot takes its light from there, but is mixed from few pure pigments, with
//! complements strewn in, so that the greys and greens arise in the eye.

use crate::canvas::Canvas;
use crate::noise::{Rng, cell, fbm, noise, worley};
use crate::path::bounds;
use crate::vector::{Rgb, V2, hex, ramp, smooth, v2, v3};
use std::f32::consts::PI;

/// The waterline of the park's far shore.
const SHORE: f32 = 238.0;

pub fn draw() -> Canvas {
    let pigments = [
        0xfff6dc, 0xffe680, 0xffc42e, 0xff9a3c, 0xf26a4b, 0xd8436a, 0xf3a6b5, 0x9a5fb0, 0x5a4aa8,
        0x2f4fb5, 0x3f8fd8, 0x9fd0ee, 0x2aa5a0, 0x1f7f55, 0x5cb04a, 0xb5d24a, 0x1d2f66, 0x12503f,
    ]
    .map(hex);
    // Closeness is judged in a roughly even space of square roots.
    let even = |c: Rgb| positive(c).map(f32::sqrt);
    let match_pigment = |c: Rgb| {
        let far = |p: &&Rgb| (even(**p) - even(c)).length();
        let best = pigments.iter().min_by(|a, b| far(a).total_cmp(&far(b)));
        *best.unwrap_or(&c)
    };
    let mut rng = Rng(77);
    let mut canvas = Canvas::paint(640, 480, 2, |p| park(p).mix(hex(0xe8d9b0), 0.35));
    // Large dots lay the ground, small ones break it up.
    const LAYERS: [[f32; 3]; 4] = [
        [4.3, 5.0, 0.11],
        [3.0, 4.2, 0.14],
        [2.1, 3.6, 0.17],
        [1.35, 5.2, 0.3],
    ];
    for [radius, spacing, wild] in LAYERS {
        let [nx, ny] = [640.0, 480.0].map(|side| (side / spacing) as usize + 2);
        let mut cells: Vec<usize> = (0..nx * ny).collect();
        for i in (1..cells.len()).rev() {
            cells.swap(i, rng.below(i + 1));
        }
        for cell in cells {
            let jitter = v2(rng.bell(), rng.bell()) * 0.55;
            let at = (v2((cell % nx) as f32, (cell / nx) as f32) + jitter) * spacing;
            let motif = park(at);
            let e = positive(even(motif) + rng.bell3() * wild);
            let mut target = e.tint(e);
            if rng.chance(0.07) {
                // The complement, at the motif's own lightness.
                let l = motif.luma();
                target = positive(v3(l, l, l) * 2.0 - motif);
            }
            let colour = match_pigment(target).mix(target, 0.4);
            let r = radius * rng.range(0.75, 1.2);
            dot(&mut canvas, at, r, rng.range(0.0, PI), colour);
        }
    }
    canvas.light(0.5);
    canvas
}

/// The colour with no channel below nothing.
fn positive(c: Rgb) -> Rgb {
    c.map(|v| v.max(0.0))
}

/// A slightly oval, slightly domed dot.
fn dot(canvas: &mut Canvas, at: V2, radius: f32, angle: f32, colour: Rgb) {
    let axis = V2::polar(angle, 1.0);
    let (lo, hi) = bounds(&[at], radius * 1.1);
    canvas.within(lo, hi, |c, i, p| {
        let d = v2((p - at).dot(axis) * 0.92, (p - at).dot(axis.perp()) * 1.1);
        let q = d.length() / radius;
        if q < 1.0 {
            c.px[i] = colour * (1.0 + 0.06 * noise(p * 1.3));
            c.relief[i] = 0.6 + 0.8 * (1.0 - q * q).sqrt();
        }
    });
}

/// The motif of all the dots: the colour of the park at `p`.
fn park(p: V2) -> Rgb {
    let bank = 344.0 + p.x / 16.0 + 9.0 * noise(v2(p.x / 90.0, 2.0));
    let mut c = match p.y {
        ..SHORE => far_shore(p),
        _ => {
            // Water mirrors the far shore, stretched and shaken.
            let depth = p.y - SHORE;
            let shake = noise(v2(p.x / 40.0, p.y / 4.5)) * (1.0 + depth * 0.07);
            let image = v2(p.x, SHORE - 6.0 - depth * 1.15) + v2(3.0, 4.0) * shake;
            let glow = (-((p.x - 438.0).abs() / 26.0)).exp() * smooth(-0.2, 0.5, shake);
            let c = far_shore(image).mix(hex(0x3f7fd0), 0.34 + 0.2 * shake);
            c.mix(hex(0xfff0a0), 0.85 * glow)
        }
    };
    // A sailing boat and its image.
    for (flip, fade) in [(1.0, 0.0), (-1.0, 0.35)] {
        let shake = noise(v2(p.x / 14.0, p.y / 4.0)) * (1.5 - 1.5 * flip);
        let q = v2(p.x - 372.0 + shake, (p.y - 287.0) * flip);
        let t = (q.y + 74.0) / 66.0;
        let part = match q.x {
            x if t > 1.03 && q.y < 4.0 && x.abs() < 34.0 - 0.9 * (q.y + 6.0) => 0xb03a3f,
            1.0.. if t < 1.0 && q.x < 1.0 + 34.0 * t => 0xfff6e6,
            ..-1.5 if t < 1.0 && q.x > -1.5 - 24.0 * t => 0xf0b8a8,
            _ => continue,
        };
        c = hex(part).mix(c, fade);
    }
    // The near bank: sunlit grass, violet shade under the tree, flowers.
    if p.y > bank {
        let t = (p.y - bank) / 120.0;
        let under = 0.55 * smooth(330.0, 60.0, p.x) - 0.28;
        let shade = smooth(-0.15, 0.25, fbm(v2(p.x / 130.0 + t, p.y / 34.0), 3) + under);
        let lit = hex(0xd9dd5a).mix(hex(0x8fc04a), t);
        c = lit.mix(hex(0x375f7e), shade * 0.9);
        let q = v2(p.x / 15.0, p.y / 11.0);
        if worley(q) < 0.22 && noise(p / 40.0) > 0.0 {
            let red = cell(q).x < 0.5;
            c = hex(if red { 0xf0566a } else { 0xfff2e0 });
        }
        // A path winds to the water.
        let middle = 470.0 - 90.0 * (1.0 - t) * (1.0 - t) + 26.0 * (t * 4.0).sin();
        if (p.x - middle).abs() < 12.0 + 58.0 * t {
            let stripe = smooth(0.1, 0.4, noise(v2(p.x / 90.0, p.y / 9.0)));
            c = hex(0xf6dca8).mix(hex(0xb79ac8), stripe);
        }
    }
    // Two strollers on the path, she under a parasol, he in a tall hat.
    for (x, dress, lady) in [(452.0, 0x7a3f9a, true), (474.0, 0x23306f, false)] {
        let q = p - v2(x, 424.0);
        let skirt = if lady {
            5.0 + 7.0 * smooth(-28.0, 0.0, q.y)
        } else {
            5.5
        };
        let (head, parasol) = (q - v2(0.0, -47.0), v2(q.x - 1.0, (q.y + 52.0) * 1.35));
        if lady && parasol.y < 0.0 && parasol.length() < 19.0 {
            c = hex(0xf2643f).mix(hex(0xffd98a), smooth(-4.0, 16.0, parasol.x));
        } else if !lady && (-12.0..-2.0).contains(&head.y) && q.x.abs() < 4.5 {
            c = hex(dress);
        } else if head.length() < 5.0 {
            c = hex(0xf3b896);
        } else if (-42.0..0.0).contains(&q.y) && q.x.abs() < skirt {
            c = hex(dress).mix(hex(0xf0b060), 0.7 * smooth(0.2, 1.0, q.x / skirt));
        } else if (0.0..7.0).contains(&q.y) && (q.x + 22.0).abs() < 24.0 {
            c = c.mix(hex(0x5a4a98), 0.75);
        }
    }
    // A great tree on the left.
    let half = 9.0 + 16.0 * smooth(360.0, 420.0, p.y);
    let x = (p.x - 84.0 - ((p.y - 240.0) / 46.0).powi(2)) / half;
    if (180.0..418.0).contains(&p.y) && x.abs() < 1.0 {
        let bark = [0x2a2a66, 0x5a3f7a, 0xb0684a, 0xf0b060].map(hex);
        c = ramp(&bark, 0.5 + 0.5 * x + 0.3 * noise(p * 0.2));
    }
    let leaves = [0x232a6a, 0x1f5a66, 0x3f8a45, 0xa5c04a, 0xf6dc6a].map(hex);
    let crown = [
        (v2(60.0, 110.0), 92.0),
        (v2(150.0, 92.0), 66.0),
        (v2(96.0, 40.0), 84.0),
        (v2(10.0, 50.0), 90.0),
        (v2(176.0, 150.0), 40.0),
    ];
    for (at, radius) in crown {
        let d = (p - at) / radius;
        if d.length() + 0.3 * fbm(p / 22.0, 3) < 0.95 {
            let clump = fbm(p / 26.0 + at, 3);
            c = ramp(&leaves, 0.42 + 0.45 * d.x - 0.4 * d.y + 0.55 * clump);
        }
    }
    c
}

/// What lies beyond the river: the evening sky over a hazy wood, poplars, and
/// a white house with a red roof.
fn far_shore(p: V2) -> Rgb {
    let sky = [0xffe9b0, 0xfbd9a8, 0xc9dbe0, 0x7fb4e6, 0x4f8fd8].map(hex);
    let cloud = smooth(0.0, 0.5, fbm(v2(p.x / 120.0, p.y / 34.0), 4)) * 0.75;
    let sun = (p - v2(438.0, 118.0)).length();
    let mut c = ramp(&sky, 1.05 - p.y / SHORE).mix(hex(0xfff0dc), cloud);
    c = c.mix(hex(0xffdf70), 0.9 * (-sun / 70.0).exp());
    c = c.mix(hex(0xfffbe0), smooth(30.0, 24.0, sun));
    let ragged = 13.0 * noise(v2(p.x / 46.0, 1.0)) + 7.0 * noise(v2(p.x / 13.0, 4.0));
    let depth = p.y - SHORE + 34.0 + ragged;
    if depth > 0.0 {
        let wood = [0xa8c878, 0x6fa287, 0x4a6fa0, 0x4a4f96].map(hex);
        c = ramp(&wood, depth / 50.0 + 0.5 * fbm(p / 17.0, 2));
    }
    let poplar = [0x2f3f86, 0x2f6f70, 0x5f9f4a, 0xd8d858].map(hex);
    let tops = [
        v2(248.0, 122.0),
        v2(272.0, 92.0),
        v2(301.0, 104.0),
        v2(326.0, 134.0),
        v2(576.0, 98.0),
        v2(604.0, 120.0),
    ];
    for top in tops {
        let t = (p.y - top.y) / (SHORE - top.y);
        let leaf = 15.0 * t.max(0.0).powf(0.45) * (1.15 - t).max(0.0).powf(0.4);
        let x = (p.x - top.x) / (leaf + 3.0 * noise(p * 0.13)).max(0.1);
        if t > 0.0 && x.abs() < 1.0 {
            c = ramp(&poplar, 0.5 + 0.5 * x + 0.4 * noise(p * 0.12));
        }
    }
    let q = p - v2(500.0, SHORE - 4.0);
    // The gable and the slope of the roof both widen downwards from here.
    let down = (q.y + 50.0) / 23.0;
    let front = (q.x + 19.0).abs() < 15.0 * down.min(1.0);
    let window = (q.x.rem_euclid(12.0) - 6.0).abs() < 2.0 && (q.y + 12.0).abs() < 5.0;
    if q.y < 0.0 && down > 0.0 && (front || q.x > -19.0 && q.x < 20.0 + 18.0 * down.min(0.8)) {
        c = hex(match down {
            1.0.. if window => 0x4a4a98,
            _ if front => 0xfff2d8,
            1.0.. => 0xb0a8e0,
            _ => 0xe25a3a,
        });
    }
    if p.y > SHORE - 5.0 {
        c = c.mix(hex(0xd9dc7a), 0.8);
    }
    c
}
