//! The content scene: a lakeside village in late afternoon light, ray traced.
//! Here are the places of all things, the tracing, and the colours of land,
//! things, water and sky. Water mirrors all of it, and air tints what is far.

use crate::canvas::Canvas;
use crate::land::{bank, ceiling, inland, land, quay};
use crate::noise::{Rng, cell, fbm, hash2, noise, worley};
use crate::things::{Coat, Hit, Matter, Thing};
use crate::vector::{Rgb, V2, V3, hex, ramp, smooth, v2, v3};
use std::f32::consts::PI;

pub fn draw() -> Canvas {
    let world = World::new();
    let focal = 690.0;
    Canvas::paint(640, 480, 2, |p| {
        let d = v3((p.x - 320.0) / focal, (262.0 - p.y) / focal, 1.0).unit();
        let c = world.trace(v3(0.0, 5.6, 0.0), d, false);
        // A gentle film curve and darker corners.
        let corner = (p - v2(320.0, 240.0)).length() / 400.0;
        let c = c * (1.08 - 0.22 * corner * corner);
        c.map(|v| {
            let v = v * (1.0 + v / 5.0) / (0.86 + v);
            v + 0.35 * v * (v - 0.25) * (1.0 - v).max(0.0)
        })
    })
}

/// All there is to see, besides land, water and sky.
struct World {
    things: Vec<Thing>,
}

/// Towards the sun: to the left, behind the onlooker.
const SUN: V3 = v3(-0.660, 0.500, -0.560);

impl World {
    fn new() -> Self {
        let mut rng = Rng(1);
        let mut things = Vec::new();
        let walls = [0xf3e6cc, 0xe9cfa0, 0xf0d9c8, 0xdfe0d8, 0xe3b48c, 0xf6efe0].map(hex);
        let roofs = [0xa8492f, 0xb85a38, 0x8f3f2e, 0x9a5a40, 0x6d5148].map(hex);
        let shutters = [0x3f6b52, 0x47688c, 0x7a3a30, 0x5d6a58].map(hex);
        let greens = [0x4f6b2a, 0x5c7a30, 0x3f5f2c, 0x75803a].map(hex);
        let ground = |x: f32, z: f32| v3(x, land(x, z), z);
        // Rows of houses climb from the quay around the church.
        for (back, count) in [(7.0, 9), (19.0, 8), (32.0, 8), (46.0, 7)] {
            for i in 0..count {
                let x = -30.0 + (i as f32 + 0.5 + rng.range(-0.16, 0.16)) * 70.0 / count as f32;
                let z = quay(x) + back + rng.range(-1.5, 1.5);
                if (x - 14.0).abs() < 6.5 && back == 32.0 || rng.chance(0.1) {
                    continue;
                }
                let turn = if rng.chance(0.4) { PI / 2.0 } else { 0.0 };
                let size = v3(6.3, 6.0, 7.7) + rng.bell3();
                let roof = rng.pick(&roofs) * rng.range(0.85, 1.15);
                let coat = Coat(rng.pick(&walls), roof, rng.pick(&shutters));
                let (yaw, pitch) = (turn + rng.range(-0.3, 0.3), rng.range(0.75, 1.0));
                things.push(Thing::house(ground(x, z), yaw, size, pitch, coat));
            }
        }
        things.extend(Thing::church(ground(14.0, 113.0), 0.25));
        // Trees between the houses and thicker to both sides.
        for _ in 0..64 {
            let x = rng.range(-62.0, 66.0);
            let aside = smooth(26.0, 40.0, (x - 4.0f32).abs());
            let z = quay(x) + rng.range(14.0 - 10.0 * aside, 64.0);
            let (h, green) = (rng.range(5.0, 8.5) + 2.5 * aside, rng.pick(&greens));
            let (form, green) = match rng.chance(0.22) {
                true => ((h * 1.6, 1.3, 0.6), green * 0.6),
                false => ((h, h * 0.42, 0.2), green),
            };
            things.push(Thing::tree(&mut rng, ground(x, z), form, 60, green));
        }
        // The near bank: one large tree, and bushes.
        let (at, form) = (ground(-9.2, 23.0), (10.5, 3.7, 0.3));
        things.push(Thing::tree(&mut rng, at, form, 900, hex(0x66802e)));
        for _ in 0..16 {
            let z = rng.range(17.0, 60.0);
            let at = ground(bank(z) - rng.range(1.5, 8.5), z);
            let (h, green) = (rng.range(0.9, 2.4), rng.pick(&greens));
            things.push(Thing::tree(&mut rng, at, (h, h * 0.7, 0.1), 160, green));
        }
        // Boats: x, z, heading, length, paint, sail if any.
        for (x, z, yaw, length, paint, sail) in [
            (8.2, 36.0, 0.35, 6.2, 0x8a2f24, Some(0xf4ead2)),
            (-14.0, 74.0, 2.7, 5.5, 0x2f5d7c, Some(0xc9744a)),
            (-3.4, 20.5, -0.5, 3.4, 0x3f6f78, None),
            (3.0, 79.5, 0.2, 4.2, 0x9a3a2c, None),
            (9.5, 80.0, -0.3, 4.2, 0x35607a, None),
            (21.0, 81.3, 2.9, 4.2, 0xe8e2d2, None),
            (27.0, 82.4, 0.1, 4.2, 0x9a3a2c, None),
        ] {
            let at = v3(x, 0.0, z);
            things.push(Thing::boat(at, yaw, length, hex(paint), sail.map(hex)));
        }
        World { things }
    }

    fn nearest(&self, o: V3, d: V3) -> Option<Hit<'_>> {
        self.things
            .iter()
            .filter_map(|thing| thing.hit(o, d))
            .min_by(|a, b| a.t.total_cmp(&b.t))
    }

    /// Where a ray meets the land, by steps that grow with height and distance.
    fn meet_land(&self, o: V3, d: V3, limit: f32) -> Option<f32> {
        let (mut t, mut before) = (1.0f32, 0.0);
        while t < limit {
            let p = o + d * t;
            let clear = p.y - ceiling(p.z);
            let gap = match clear {
                0.5.. => clear,
                _ => p.y - land(p.x, p.z),
            };
            if gap < 0.0 {
                // Halve the last step until it is fine enough.
                let (mut lo, mut hi) = (before, t);
                for _ in 0..8 {
                    let mid = (lo + hi) / 2.0;
                    let p = o + d * mid;
                    if p.y < land(p.x, p.z) {
                        hi = mid;
                    } else {
                        lo = mid;
                    }
                }
                return Some(hi);
            }
            if d.y > 0.0 && p.y > 700.0 {
                return None;
            }
            before = t;
            t += (0.45 * gap).max(0.009 * t).max(0.12);
        }
        None
    }

    /// The light that comes to `o` from direction `d`.
    fn trace(&self, o: V3, d: V3, mirrored: bool) -> Rgb {
        let down = d.y < 0.0 && !mirrored;
        let water = if down { -o.y / d.y } else { f32::MAX };
        let hit = self.nearest(o, d).filter(|h| h.t < water);
        let limit = hit.as_ref().map_or(4200.0, |h| h.t).min(water);
        let land = self.meet_land(o, d, limit);
        let (t, c) = match (land, hit) {
            (Some(t), _) => (t, self.shade_land(o + d * t, t)),
            (None, Some(h)) => (h.t, self.shade_thing(&h, o + d * h.t, d)),
            (None, None) if water < 4200.0 => (water, self.shade_water(o + d * water, d, water)),
            _ => return sky(d),
        };
        // Air: bluish haze with distance, warmer towards the sun's side.
        let haze = hex(0xa9bfd6).mix(hex(0xe6d3bd), smooth(0.3, -0.5, d.x) * 0.55);
        c.mix(haze, 1.0 - (-t / 3000.0).exp())
    }

    /// Direct sun, unless in shadow, and light from the sky and the ground.
    fn light(&self, p: V3, n: V3, wrap: f32) -> Rgb {
        let facing = ((n.dot(SUN) + wrap) / (1.0 + wrap)).max(0.0);
        let from = p + n * 0.03;
        let lit = facing > 0.0 && self.nearest(from, SUN).is_none();
        let sun = v3(3.7, 2.9, 1.95) * if lit { facing } else { 0.0 };
        let sky = v3(0.34, 0.47, 0.72) * (0.62 + 0.38 * n.y);
        let bounce = v3(0.2, 0.17, 0.12) * (0.6 - 0.4 * n.y);
        sun + sky + bounce
    }

    /// Grass, paving, woods, rock or snow, as the place has it.
    fn shade_land(&self, p: V3, t: f32) -> Rgb {
        let e = (0.002 * t).max(0.05);
        let dx = land(p.x + e, p.z) - land(p.x - e, p.z);
        let dz = land(p.x, p.z + e) - land(p.x, p.z - e);
        let n = v3(-dx, 2.0 * e, -dz).unit();
        let (q, (quay, bank)) = (v2(p.x, p.z), inland(p.x, p.z));
        let patch = fbm(q * 0.08, 4);
        let fine = fbm(q * 1.7, 3);
        let grass = [0x5a6b2a, 0x7d8a3c, 0x9a9a50].map(hex);
        let blades = noise(v2(p.x * 14.0, p.z * 5.0)) + 0.7 * noise(q * 5.0);
        let mut c = ramp(&grass, 0.5 + 0.5 * patch + 0.3 * fine) * (1.0 + 0.3 * blades);
        let flower = worley(q * 2.6);
        if bank > 1.2 && quay < 0.0 && flower < 0.16 && patch > -0.1 {
            c = hex(if patch > 0.15 { 0xf4e9c8 } else { 0xd9b23c });
        }
        if quay > 0.0 && quay < 0.6 && bank < 0.0 {
            // The quay wall's courses of stone.
            let joint = cell(v2(p.x / 0.9, p.y / 0.4)).x;
            c = hex(0xa39a88) * (0.7 + 0.5 * joint + 0.2 * fine);
        } else if quay > 0.0 && quay < 4.5 {
            c = hex(0xbdb09a) * (1.0 + 0.15 * fine);
        } else if bank > 0.0 && bank < 0.9 + 0.4 * fine && quay < 0.0 {
            c = hex(0x8c7c5c) * (1.0 + 0.3 * fine);
        }
        let wood = smooth(45.0, 75.0, quay) * smooth(1500.0, 800.0, p.z);
        let clearing = fbm(q / 120.0 + v2(9.0, 2.0), 3);
        let meadow = smooth(0.1, 0.3, clearing) * smooth(700.0, 300.0, p.z);
        let bump = 1.0 - worley(q * 0.13);
        let trees = [0x2c4a24, 0x47652c, 0x6a7a34].map(hex);
        let trees = ramp(&trees, 0.4 + 0.5 * patch) * (0.45 + 0.8 * bump);
        c = c.mix(trees, wood * (1.0 - 0.85 * meadow));
        // Rock above the woods, snow where it is high and not too steep.
        let rock = smooth(120.0, 230.0, p.y + 50.0 * patch);
        c = c.mix(hex(0x85786c) * (0.85 + 0.3 * fbm(q * 0.02, 4)), rock);
        let snow = smooth(255.0, 330.0, p.y + 60.0 * patch) * smooth(0.6, 0.7, n.y);
        c = c.mix(hex(0xf2f4f8), snow);
        c.tint(self.light(p, n, 0.0)) * 0.62
    }

    /// The surface textures of houses, trees and boats.
    fn shade_thing(&self, hit: &Hit, p: V3, d: V3) -> Rgb {
        let (q, n) = (hit.local, hit.thing.inward(hit.normal));
        let grain = fbm(v2(q.x + q.z, q.y) * 1.1, 3);
        let mut wrap = 0.0;
        let c = match hit.matter {
            Matter::Plain(c) => c,
            Matter::Leaves(c) => {
                wrap = 0.35;
                // Inner leaves get less of the sky.
                let depth = (p - hit.thing.centre).length() / hit.thing.radius;
                c * (0.35 + 0.95 * depth * depth) * (1.0 + 0.4 * grain)
            }
            Matter::Tiles(c) => {
                let row = (q.y * 3.2).floor();
                let tile = cell(v2(q.x.abs() * 2.0 + q.z * 3.0 + row * 0.5, row)).x;
                c * (0.72 + 0.4 * tile + 0.2 * grain) * (0.8 + 0.3 * (q.y * 3.2 - row))
            }
            Matter::Planks(_) if n.y > 0.9 => {
                hex(0x6b4c30) * (0.7 + 0.4 * (q.x * 3.0).fract().abs())
            }
            Matter::Planks(_) if q.y > 0.32 => hex(0xe9dfc8),
            Matter::Planks(c) => c * (0.85 + 0.3 * (q.y * 7.0).fract()),
            Matter::Wall(c, shutters, half) => {
                let side = n.x.abs() > 0.5;
                let (u, width) = if side { (q.z, half.z) } else { (q.x, half.x) };
                let columns = (2.0 * width / 2.1).floor();
                let bay = 2.0 * width / columns;
                let x = ((u + width) / bay).fract() * bay - bay / 2.0;
                let y = (q.y - 0.4).rem_euclid(2.4) - 1.25;
                let plaster = c * (1.0 + 0.1 * grain - 0.18 * smooth(1.2, 0.0, q.y + 0.4 * grain));
                let inside = q.y > 0.4 && q.y < half.y + 0.9 && y.abs() < 0.68;
                match x.abs() {
                    x if inside && x < 0.40 && y.abs() < 0.6 && x > 0.05 => {
                        // Panes: dark rooms, or the sky at a slant.
                        let pane = hash2((u / bay).floor() as i32 + 31, q.y as i32 * 5).x;
                        let view = sky(d.reflect(hit.normal));
                        return hex(0x1c232c).mix(view, 0.12 + 0.3 * pane);
                    }
                    x if inside && x < 0.46 => hex(0xf2eee4),
                    x if inside && x < 0.82 => shutters * (0.85 + 0.3 * (y * 6.0).fract().abs()),
                    _ => plaster,
                }
            }
        };
        c.tint(self.light(p, hit.normal, wrap)) * 0.62
    }

    /// Ripples tilt the mirror; looking down, one sees into the green.
    fn shade_water(&self, p: V3, d: V3, t: f32) -> Rgb {
        let q = v2(p.x, p.z);
        let gust = 0.5 + 0.5 * fbm(v2(p.x / 30.0, p.z / 11.0), 3);
        let steep = (0.02 + 0.05 * gust) / (1.0 + t / 130.0);
        let chop = |q: V2| 0.5 * noise(q * 2.3) + 0.2 * noise(q * 5.1);
        let wave = |q: V2| noise(v2(q.x * 0.55, q.y * 1.1)) + chop(q);
        let other = q + v2(31.0, 57.0);
        let n = v3(wave(q) * steep * 0.7, 1.0, wave(other) * steep).unit();
        let mut r = d.reflect(n);
        r.y = r.y.abs().max(0.004);
        let mirror = self.trace(p, r.unit(), true);
        let fresnel = 0.04 + 0.96 * (1.0 + d.dot(n)).clamp(0.0, 1.0).powi(5);
        let depth = hex(0x1d4a50).mix(hex(0x2f5f78), gust);
        depth.mix(mirror, (0.16 + fresnel).min(0.92))
    }
}

/// A clear sky, paler and warmer low down, with drifting cloud.
fn sky(d: V3) -> Rgb {
    let warm = smooth(0.4, -0.6, d.x);
    let low = hex(0xdfe3e4).mix(hex(0xffe6c4), warm);
    let up = d.y.max(0.0);
    let c = low.mix(hex(0x8db8e2), smooth(0.0, 0.2, up));
    let c = c.mix(hex(0x3f7ac4), smooth(0.1, 0.5, up));
    // Clouds lie on a plane above; a second look towards the sun tells how
    // much cloud its light has come through.
    let q = v2(d.x, d.z) / (up + 0.12);
    let at = |q: V2| fbm(v2(q.x * 0.9 + 4.3, q.y * 1.3 + 1.0), 6);
    let body = at(q);
    let cover = smooth(0.0, 0.34, body + 0.13);
    let sunward = at(q + v2(SUN.x, SUN.z) * 0.16);
    let shade = smooth(-0.15, 0.6, sunward * 0.6 + body * 0.5);
    let cloud = hex(0xfff4e2).mix(hex(0x93a0b6), 0.85 * shade) * 1.15;
    c.mix(cloud, cover * smooth(0.015, 0.09, up) * 0.95) * 1.12
}
