//! A rose window: heavy bars draw petals and rounds in twelve sectors, finer
//! leads cut each of those into relaxed Voronoi panes, mirrored from sector to
//! sector. Light comes through the panes and spills over the leads.

use crate::canvas::Canvas;
use crate::noise::{Rng, fbm, hash2, noise, worley};
use crate::vector::{V2, hex, ramp, smooth, v2, v3};
use std::f32::consts::TAU;

pub fn draw() -> Canvas {
    const SECTORS: f32 = 12.0;
    const SIZE: f32 = 320.0;
    let wedge = TAU / SECTORS;
    // Folds the plane into half a sector, angle 0..wedge / 2.
    let fold = |p: V2| {
        let a = p.angle().rem_euclid(wedge);
        V2::polar(a.min(wedge - a), p.length())
    };
    // The stonework, innermost first: signed distance, negative inside.
    let tracery = |p: V2, f: V2| {
        let r = f.length();
        // A pointed oval along the axis: half its length, half its width.
        let oval = |mid: f32, half: f32, width: f32| {
            let radius = (half * half + width * width) / (2.0 * width);
            v2(f.x - mid, f.y + radius - width).length() - radius
        };
        let round = (f - V2::polar(wedge / 2.0, 214.0)).length();
        let drop = (f - V2::polar(0.0, 253.0)).length() - 12.0;
        let corner = (v2(p.x.abs(), p.y.abs()) - v2(268.0, 268.0)).length();
        let (heart, ring) = (r - 15.0, r - 68.0);
        let (eye, petal) = (oval(146.0, 44.0, 13.0), oval(149.0, 77.0, 30.0));
        let (bead, spandrel, rim) = (round - 15.0, r - 268.0, r - 296.0);
        let (knob, roundel) = (corner - 19.0, corner - 45.0);
        let round = round - 37.0;
        [
            heart, ring, eye, petal, bead, round, drop, spandrel, rim, knob, roundel,
        ]
    };

    // Panes: random sites, copied into every half sector, then relaxed by
    // moving each to the middle of its cell, measured in one half sector.
    let mut rng = Rng(5);
    // Panes grow outwards.
    let reach = |t: f32| 452.0 * t.powf(0.57);
    let mut sites: Vec<V2> = (0..74)
        .map(|_| V2::polar(rng.range(0.0, wedge / 2.0), reach(rng.range(0.01, 1.0))))
        .collect();
    let spread = |sites: &[V2]| -> Vec<(V2, usize)> {
        let turned = |(i, s): (usize, &V2)| {
            let (a, r) = (s.angle(), s.length());
            [a, -a, wedge - a].map(|a| (V2::polar(a, r), i))
        };
        sites.iter().enumerate().flat_map(turned).collect()
    };
    let closest = |all: &[(V2, usize)], f: V2| {
        let mut a = (f32::MAX, V2::default(), 0);
        let mut b = a;
        for &(s, i) in all {
            let d = (s - f).dot(s - f);
            if d < a.0 {
                (a, b) = ((d, s, i), a);
            } else if d < b.0 {
                b = (d, s, i);
            }
        }
        (a, b)
    };
    for _ in 0..12 {
        let all = spread(&sites);
        let mut sums = vec![(V2::default(), 0.001); sites.len()];
        for _ in 0..20_000 {
            let f = V2::polar(rng.range(0.0, wedge / 2.0), reach(rng.range(0.0, 1.0)));
            let (_, _, i) = closest(&all, f).0;
            sums[i] = (sums[i].0 + f, sums[i].1 + 1.0);
        }
        for (s, (sum, n)) in sites.iter_mut().zip(sums) {
            if n > 1.0 {
                *s = sum / n;
            }
        }
    }
    let all = spread(&sites);

    let jewels = [
        [0xffe27a, 0xffc94a, 0xfff0b8], // heart: gold
        [0xd3142b, 0xf0452a, 0x9c0f38], // ring: ruby
        [0xffd86a, 0xff8f3a, 0xfff2c0], // petals' eyes: flame
        [0x123fc4, 0x2f86f0, 0x1c2f9c], // petals: sapphire
        [0x8fd8ff, 0xc9f0ff, 0x6fc0f0], // beads: ice
        [0xb00f3a, 0xe03a3f, 0x74125a], // rounds: garnet
        [0xffcf4a, 0xffe89a, 0xf7a52a], // drops: amber
        [0x0f8a56, 0x4fc878, 0x0a5f5f], // between: emerald
        [0xf2a81f, 0xc81f24, 0xffd262], // rim: amber and ruby
        [0xffd86a, 0xffb03a, 0xfff2c0], // knobs: gold
        [0xb3123a, 0xe8502f, 0x7a1458], // corners: garnet
        [0x1a2fa8, 0x4a2aa8, 0x1f74c0], // beyond: ultramarine, violet
    ]
    .map(|row| row.map(hex));

    let mut canvas = Canvas::paint(640, 640, 3, |at| {
        let p = at - v2(SIZE, SIZE);
        let f = fold(p);
        let bars = tracery(p, f);
        let area = bars.iter().position(|&d| d < 0.0).unwrap_or(bars.len());
        let stone = bars.map(f32::abs).into_iter().take(area + 1);
        let stone = stone.fold(99.0, f32::min);
        let (a, b) = closest(&all, f);
        // The distance to the bisector of the two nearest sites.
        let cut = (b.0 - a.0) / (2.0 * (b.1 - a.1).length().max(1e-3));
        // The heart is one round of glass.
        let (cut, pane) = if area == 0 { (99.0, 0) } else { (cut, a.2) };

        let h = hash2(pane as i32, area as i32 * 7 + 3);
        let hue = h.x * 1.3 - 0.15 + 0.25 * fbm(p / 60.0, 2);
        let mut c = ramp(&jewels[area], hue);
        // Streaks in a direction of the pane's own, and seeds (air bubbles).
        let dir = V2::polar(h.y * TAU, 1.0);
        let q = v2(p.dot(dir) / 26.0, p.dot(dir.perp()) / 5.0) + h * 90.0;
        let streak = fbm(q, 4);
        let cloud = fbm(p / 34.0 + h * 50.0, 3);
        let bubble = worley(at * 0.16);
        c = c * (1.0 + 0.75 * streak + 0.5 * cloud + 0.5 * smooth(0.12, 0.04, bubble));
        let milk = v3(1.3, 1.24, 1.04) * c.luma();
        c = c.mix(milk, (0.3 * streak + 0.1).clamp(0.0, 0.35));
        // Brighter where the sun stands behind, dimmer by the leads.
        let edge = cut.min(stone);
        let sun = 1.0 + 1.1 * (-(p - v2(-60.0, -90.0)).length() / 190.0).exp();
        let depth = if area == 11 { 0.8 } else { 1.25 };
        c = c * (depth * sun * (0.3 + 0.9 * smooth(0.0, 9.0, edge)));

        // Leads swell a little along their length; stone bars are heavier.
        let swell = 1.0 + 0.3 * noise(at / 16.0);
        let heavy = if area >= 7 { 4.4 } else { 3.2 };
        let bar = stone / (heavy * swell);
        let lead = cut / (1.45 * swell);
        let d = bar.min(lead);
        if d < 1.0 {
            let grit = 0.5 + 0.5 * fbm(at * 0.7, 3);
            let round = (1.0 - d * d).sqrt();
            c = hex(0x0c0d12) * (0.4 + grit * round) + hex(0x4a5068) * (0.16 * round.powi(8));
        }
        c
    });
    // Halation: what is bright bleeds over the leads and its neighbours.
    for (radius, share) in [(1.5, 0.10), (8.0, 0.16)] {
        let haze = canvas.blurred(radius);
        for (c, b) in canvas.px.iter_mut().zip(haze) {
            *c = *c + b * (share * smooth(0.02, 0.5, b.luma()));
        }
    }
    canvas
}
