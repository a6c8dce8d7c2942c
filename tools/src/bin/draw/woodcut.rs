//! Breaking waves, printed from two blocks on cream paper. A wave is the band
//! between the curve of its back and the curve of its hollow face; curves
//! blended between the two run together at the tip and make the carved lines.

use crate::canvas::Canvas;
use crate::noise::{Rng, fbm, noise};
use crate::path::{points, spline};
use crate::vector::{V2, hex, smooth, v2};
use std::f32::consts::{PI, TAU};

/// Indigo, the paler blue, and the bare paper.
const INK: [u32; 3] = [0x16264f, 0x7fa6bd, 0xefe3c6];

pub fn draw() -> Canvas {
    let [ink, pale, paper] = INK.map(hex);
    let mut rng = Rng(23);
    let sun = v2(122.0, 138.0);
    let mut canvas = Canvas::paint(640, 480, 3, |p| {
        // The sky is cut in long grooves, thinning out towards the sea, around
        // a bare sun with a ring of rays.
        let d = p - sun;
        let r = d.length();
        let wobble = 2.6 * noise(v2(p.x / 80.0, p.y / 22.0));
        let groove = ((p.y + wobble) / 5.6 * TAU).sin();
        let tone = smooth(300.0, -60.0, p.y) * 1.9 - 0.95 + 0.5 * noise(v2(p.x / 70.0, p.y / 16.0));
        let ray = (d.angle() * 44.0 + noise(p * 0.03)).sin();
        match r {
            _ if r < 50.0 => paper,
            _ if r < 53.0 => ink,
            _ if r < 84.0 && ray > (r - 53.0) / 31.0 - 0.45 => pale,
            _ if r < 88.0 => paper,
            _ if groove < tone => pale,
            _ => paper,
        }
    });

    // Birds far off.
    let wings = [-1.4, -0.2, -0.7, -0.55, 0.0, 0.1, 0.8, -0.6, 1.5, -0.1];
    let birds = [(262.0, 66.0), (298.0, 48.0), (226.0, 42.0), (560.0, 74.0)];
    for (i, (x, y)) in birds.into_iter().enumerate() {
        let wings = points(&wings, v2(x, y), 11.0 - 1.7 * i as f32);
        canvas.line(&spline(&wings, 40), ink, |t| 0.6 + 2.6 * (PI * t).sin());
    }

    swell(&mut canvas, &mut rng, 330.0, 7.0, 92.0);
    // A small boat runs before the great wave.
    let main = [2.0, -8.0, 4.0, -66.0, 18.0, -36.0, 24.0, -10.0, 2.0, -8.0];
    let jib = [
        -1.0, -10.0, 2.0, -60.0, -9.0, -32.0, -22.0, -12.0, -1.0, -10.0,
    ];
    let hull = [-28.0, -7.0, 28.0, -7.0, 20.0, 3.0, -18.0, 4.0, -28.0, -7.0];
    for (shape, colour) in [(main, paper), (jib, pale), (hull, ink)] {
        let shape = points(&shape, v2(352.0, 338.0), 1.0);
        canvas.fill(&shape, colour);
        canvas.line(&shape, ink, |_| 1.7);
    }
    breaker(&mut canvas, &mut rng, v2(118.0, 432.0), 150.0);
    swell(&mut canvas, &mut rng, 372.0, 11.0, 150.0);
    breaker(&mut canvas, &mut rng, v2(418.0, 470.0), 380.0);
    swell(&mut canvas, &mut rng, 424.0, 15.0, 210.0);

    print(canvas)
}

/// A row of pointed swells with carved lines under each, from `top` down.
fn swell(canvas: &mut Canvas, rng: &mut Rng, top: f32, height: f32, length: f32) {
    let [ink, pale, paper] = INK.map(hex);
    let phase = rng.range(0.0, 9.0);
    let edge = |x: f32| {
        let x = x + 14.0 * noise(v2(x / 120.0, phase));
        let peak = 1.0 - ((x / length + phase) * PI).sin().abs();
        top - height * (2.2 * peak.powf(1.6) - 0.8) + 4.0 * noise(v2(x / 70.0, phase + 3.0))
    };
    let contour = |dy: f32, flat: f32| -> Vec<V2> {
        let x = (0..=165).map(|i| i as f32 * 4.0 - 10.0);
        x.map(|x| v2(x, top + dy + (edge(x) - top) * flat))
            .collect()
    };
    let crest = contour(0.0, 1.0);
    let mut outline = crest.clone();
    outline.extend([v2(700.0, 500.0), v2(-20.0, 500.0)]);
    canvas.fill(&outline, ink);
    let mut dy = 5.0;
    let mut i = 0;
    while top + dy < 500.0 {
        let flat = (-dy / 90.0).exp();
        let shift = rng.range(0.0, 99.0);
        let colour = if i % 3 == 2 { pale } else { paper };
        let gap = 1.6 + dy * 0.03;
        let path = contour(dy, flat);
        canvas.line(&path, colour, |t| {
            let cut = noise(v2(t * 9.0 + shift, shift)) + 0.28;
            gap * (1.3 * cut + 0.6 * noise(v2(t * 30.0, shift))).clamp(0.0, 1.0)
        });
        dy += 3.4 + dy * 0.06;
        i += 1;
    }
    canvas.line(&crest, paper, |t| 2.2 + noise(v2(t * 60.0, phase)));
}

/// One wave breaking to the left: `foot` is the middle of its base.
fn breaker(canvas: &mut Canvas, rng: &mut Rng, foot: V2, size: f32) {
    let [ink, pale, paper] = INK.map(hex);
    let place = |knots: &[f32]| spline(&points(knots, foot, size), 160);
    let back = place(&[
        0.95, 0.1, 0.72, -0.22, 0.52, -0.55, 0.28, -0.84, -0.02, -0.97, -0.30, -0.90, -0.47, -0.70,
        -0.47, -0.52,
    ]);
    let face = place(&[
        -0.95, 0.1, -0.55, -0.02, -0.16, -0.18, 0.10, -0.42, 0.13, -0.64, -0.02, -0.76, -0.22,
        -0.74, -0.36, -0.64, -0.47, -0.52,
    ]);
    let between = |s: f32| -> Vec<V2> {
        let pairs = back.iter().zip(&face);
        pairs.map(|(a, b)| a.mix(*b, s)).collect()
    };
    let mut outline = back.clone();
    outline.extend(face.iter().rev());
    canvas.fill(&outline, ink);

    // Bands of pale blue sweep up the hollow; fine cuts run between them.
    let bands = (size / 24.0) as usize;
    for i in 0..bands {
        let s = (i as f32 + 0.7) / bands as f32;
        let fat = 0.36 * size / bands as f32 * 1.5;
        let sweep = |t: f32| (PI * t).sin().powf(0.6) * (1.0 - 0.5 * t);
        canvas.line(&between(s), pale, |t| fat * sweep(t));
        for k in [-0.26, 0.0, 0.26, 0.5] {
            let shift = rng.range(0.0, 99.0);
            let colour = if k == 0.0 { ink } else { paper };
            canvas.line(&between(s + k / bands as f32), colour, |t| {
                let cut = noise(v2(t * 7.0, shift)) + 0.3;
                1.5 * (size / 300.0).sqrt() * cut.clamp(0.0, 1.0) * (1.0 - 0.7 * t)
            });
        }
    }
    canvas.line(&face, ink, |t| size * 0.011 * (1.2 - t));
    canvas.line(&back, ink, |t| size * 0.011 * (1.2 - t));

    // The crest carries a scalloped cap of foam that throws out claws, a few
    // tiers deep. All outlines come first, so that the foam joins up inside.
    let from = 56;
    let along = |i: usize| (i - from) as f32 / (159 - from) as f32;
    let cap: Vec<V2> = (from..160)
        .map(|i| {
            let t = along(i);
            let lobe = (t * 8.0 * PI).sin().abs().sqrt();
            let s = (0.1 + 0.16 * (PI * t).sin() + 0.13 * lobe) * (t * 5.0).min(1.0);
            back[i].mix(face[i], s)
        })
        .collect();
    let mut claws = Vec::new();
    for i in (from + 12..158).step_by(3) {
        let t = along(i);
        let ahead = (back[i + 1] - back[i]).unit();
        let heading = ahead.mix(ahead.perp(), rng.range(0.05, 0.6)).unit();
        let length = size * rng.range(0.06, 0.15) * (0.6 + 0.6 * t);
        let (outer, inner) = (back[i], cap[i - from]);
        claw(&mut claws, rng, outer.mix(inner, 0.3), heading * length, 2);
        // Shorter ones drip down the hollow from the scallops.
        if i % 2 == 0 {
            let down = (face[i] - back[i]).unit().mix(ahead, 0.6).unit();
            let down = down * (length * 0.7);
            claw(&mut claws, rng, inner.mix(outer, 0.2), down, 1);
        }
    }
    let mut foam = back[from..].to_vec();
    foam.extend(cap.iter().rev());
    let edge = 0.5 + size * 0.0035;
    canvas.line(&cap, ink, |_| 2.0 * edge);
    for (path, fat) in &claws {
        canvas.line(path, ink, |t| taper(*fat, t) + 2.0 * edge);
    }
    canvas.fill(&foam, paper);
    for (path, fat) in &claws {
        canvas.line(path, paper, |t| taper(*fat, t));
    }
    // Loose crescents model the foam; drops fly ahead of it.
    for (path, fat) in claws.iter().step_by(4) {
        let shift = v2(fat * 0.1, fat * 0.3);
        let inner: Vec<V2> = path[..9].iter().map(|p| *p + shift).collect();
        let colour = rng.pick(&[ink, pale, pale]);
        canvas.line(&inner, colour, |t| fat * 0.16 * (PI * t).sin());
    }
    for _ in 0..(size * 0.3) as usize {
        let i = rng.range(75.0, 158.0) as usize;
        let ahead = (back[i + 1] - back[i]).unit();
        let aim = ahead.mix(ahead.perp(), rng.range(0.2, 1.0)).unit();
        let p = back[i] + aim * (size * (0.05 + 0.2 * rng.range(0.0, 1.0).powi(2)));
        let r = rng.range(0.4, 1.7) * (size / 300.0).sqrt();
        canvas.line(&[p, p], ink, |_| 2.0 * (r + edge));
        canvas.line(&[p, p], paper, |_| 2.0 * r);
    }
}

/// A claw's width at `t` along it.
fn taper(fat: f32, t: f32) -> f32 {
    fat * (1.0 - t).powf(0.8) * (0.7 + 0.6 * t)
}

/// Adds a claw of foam that hooks downwards, and smaller ones off its back.
fn claw(claws: &mut Vec<(Vec<V2>, f32)>, rng: &mut Rng, root: V2, reach: V2, forks: u32) {
    let length = reach.length();
    let (mut path, mut p, mut v) = (Vec::new(), root, reach.unit());
    let curl = rng.range(0.08, 0.24);
    for i in 0..14 {
        path.push(p);
        p = p + v * (length / 14.0);
        v = (v - v.perp() * (curl * i as f32 / 7.0)).unit();
    }
    if forks > 0 {
        for i in [3, 7] {
            let side = (path[i + 1] - path[i]).unit();
            let off = side.mix(side.perp(), rng.range(0.2, 0.6)).unit();
            let off = off * (length * rng.range(0.4, 0.65));
            claw(claws, rng, path[i], off, forks - 1);
        }
    }
    claws.push((path, length * 0.24));
}

/// Prints the blocks: paper fibres, the plank's grain in the ink, worn edges.
fn print(mut canvas: Canvas) -> Canvas {
    let [indigo, _, paper] = INK.map(hex);
    let (lo, hi) = (V2::default(), v2(640.0, 480.0));
    canvas.within(lo, hi, |c, i, p| {
        let warp = 9.0 * noise(v2(p.x / 210.0, p.y / 60.0));
        let grain = noise(v2(p.x / 120.0, (p.y + warp) / 2.1))
            + 0.6 * noise(v2(p.x / 50.0, (p.y + warp) / 0.9));
        let fibre = fbm(v2(p.x * 0.5, p.y * 0.9), 3);
        let mottle = fbm(p / 45.0, 3);
        let inked = (c.px[i] - paper).length() / (indigo - paper).length();
        let gone = smooth(0.35, 1.1, grain + 0.5 * fibre) * 0.42 + 0.08 * mottle.max(0.0);
        let sheet = paper * (1.0 + 0.05 * fibre + 0.06 * mottle);
        let ink = c.px[i] * (1.0 + inked * (0.22 * mottle + 0.12 * grain));
        c.px[i] = ink.mix(sheet, if inked < 0.05 { 1.0 } else { gone });
    });
    canvas
}
