//! The solid things of the scene, and how a ray meets them: houses, the church
//! and boats are convex solids, crowns of trees are clumps of balls. A thing's
//! parts and textures are in its own frame, turned about the vertical.

use crate::noise::{Rng, hash2};
use crate::vector::{Rgb, V2, V3, hex, v3};

/// What a surface is made of; textures use the thing's own coordinates.
#[derive(Clone, Copy)]
pub enum Matter {
    /// Plaster with windows: colour, shutters, half width and depth, eaves.
    Wall(Rgb, Rgb, V3),
    Tiles(Rgb),
    Leaves(Rgb),
    Plain(Rgb),
    Planks(Rgb),
}

enum Shape {
    Ball(V3, f32),
    /// The common part of half spaces `normal · p <= distance`.
    Solid(Vec<(V3, f32)>),
}

/// Parts in a common frame: `at` is the origin, turned about the vertical.
pub struct Thing {
    at: V3,
    turn: V2,
    /// A ball around all parts, by which most rays miss quickly.
    pub centre: V3,
    pub radius: f32,
    parts: Vec<(Shape, Matter)>,
}

/// Where a ray meets a thing: distance, normal, place in the thing's frame.
pub struct Hit<'a> {
    pub t: f32,
    pub normal: V3,
    pub local: V3,
    pub thing: &'a Thing,
    pub matter: Matter,
}

const UP: V3 = v3(0.0, 1.0, 0.0);

impl Shape {
    /// The distance to the surface from outside, and the normal there.
    fn hit(&self, o: V3, d: V3) -> Option<(f32, V3)> {
        match self {
            Shape::Ball(c, r) => {
                let q = o - *c;
                let b = q.dot(d);
                let disc = b * b - q.dot(q) + r * r;
                let t = -b - disc.max(0.0).sqrt();
                (disc > 0.0 && t > 1e-3).then(|| (t, (q + d * t) / *r))
            }
            Shape::Solid(planes) => {
                let (mut near, mut far, mut normal) = (1e-3, f32::MAX, None);
                for &(n, k) in planes {
                    let (speed, gap) = (n.dot(d), k - n.dot(o));
                    if speed < 0.0 && gap / speed > near {
                        (near, normal) = (gap / speed, Some(n));
                    } else if speed > 0.0 {
                        far = far.min(gap / speed);
                    } else if speed == 0.0 && gap < 0.0 {
                        return None;
                    }
                }
                normal.filter(|_| near < far).map(|n| (near, n))
            }
        }
    }
}

/// An upright box from `lo` to `hi`, cut by further planes: a normal, not yet
/// of unit length, and a point on each.
fn block(lo: V3, hi: V3, cuts: &[(V3, V3)]) -> Shape {
    let mut planes = Vec::new();
    for n in [v3(1.0, 0.0, 0.0), UP, v3(0.0, 0.0, 1.0)] {
        planes.extend([(n, n.dot(hi)), (n * -1.0, -n.dot(lo))]);
    }
    let cuts = cuts.iter().map(|&(n, p)| (n.unit(), n.unit().dot(p)));
    planes.extend(cuts);
    Shape::Solid(planes)
}

/// Colours of a house: its walls, roof and shutters.
#[derive(Clone, Copy)]
pub struct Coat(pub Rgb, pub Rgb, pub Rgb);

impl Thing {
    fn new(at: V3, yaw: f32, height: f32, radius: f32) -> Self {
        let centre = at + UP * (height / 2.0);
        let turn = V2::polar(yaw, 1.0);
        Thing {
            at,
            turn,
            centre,
            radius,
            parts: Vec::new(),
        }
    }

    pub fn inward(&self, v: V3) -> V3 {
        let V2 { x: c, y: s } = self.turn;
        v3(c * v.x + s * v.z, v.y, c * v.z - s * v.x)
    }

    fn outward(&self, v: V3) -> V3 {
        let V2 { x: c, y: s } = self.turn;
        v3(c * v.x - s * v.z, v.y, c * v.z + s * v.x)
    }

    /// A gabled house with the gable towards -z: width, height to the eaves,
    /// depth, and how steeply the roof climbs.
    pub fn house(at: V3, yaw: f32, size: V3, pitch: f32, coat: Coat) -> Self {
        let (hx, eaves, hz) = (size.x / 2.0, size.y, size.z / 2.0);
        let ridge = eaves + pitch * hx;
        let mut house = Thing::new(at, yaw, ridge, v3(hx, ridge / 2.0, hz).length() + 1.2);
        let slope = |s: f32| (v3(s * pitch, 1.0, 0.0), v3(s * hx, eaves, 0.0));
        let (lo, hi) = (v3(-hx, -4.0, -hz), v3(hx, ridge, hz));
        let walls = block(lo, hi, &[slope(1.0), slope(-1.0)]);
        let wall = Matter::Wall(coat.0, coat.2, v3(hx, eaves, hz));
        house.parts.push((walls, wall));
        for s in [1.0, -1.0] {
            // One slab of the roof, from the ridge to beyond the eaves.
            let (n, p) = slope(s);
            let rim = (hx + 0.45) * s;
            let lo = v3(rim.min(0.0), 0.0, -hz - 0.4);
            let hi = v3(rim.max(0.0), ridge + 1.0, hz + 0.4);
            let slab = block(lo, hi, &[(n, p + n.unit() * 0.22), (n * -1.0, p)]);
            house.parts.push((slab, Matter::Tiles(coat.1)));
        }
        let foot = v3(hx * 0.45, eaves, hz * 0.3);
        let stack = block(foot, foot + v3(0.8, ridge - eaves + 0.5, 0.8), &[]);
        house.parts.push((stack, Matter::Plain(coat.0 * 0.7)));
        house
    }

    /// A church: a nave and a tower with a pointed helm.
    pub fn church(at: V3, yaw: f32) -> [Self; 2] {
        let coat = Coat(hex(0xe4d8c0), hex(0x6b7480), hex(0x8c8474));
        let size = v3(8.0, 6.5, 15.0);
        let nave = Thing::house(at + v3(1.0, 0.0, 8.0), yaw, size, 1.2, coat);
        let mut tower = Thing::new(at, yaw, 25.0, 14.0);
        let top = v3(2.3, 14.0, 2.3);
        let shaft = block(v3(-top.x, -4.0, -top.z), top, &[]);
        tower.parts.push((shaft, Matter::Wall(coat.0, coat.2, top)));
        let rim = 2.6;
        let slope = |x: f32, z: f32| (v3(x * 4.0, 1.0, z * 4.0), v3(x * rim, 14.0, z * rim));
        let sides = [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)];
        let slopes = sides.map(|(x, z)| slope(x, z));
        let helm = block(v3(-rim, 14.0, -rim), v3(rim, 26.0, rim), &slopes);
        tower.parts.push((helm, Matter::Tiles(coat.1)));
        [nave, tower]
    }

    /// A tree: a trunk and a crown of `clumps` balls in an ellipsoid of the
    /// given height and half width, narrowing upwards by `taper`.
    pub fn tree(
        rng: &mut Rng,
        at: V3,
        (height, half, taper): (f32, f32, f32),
        clumps: usize,
        green: Rgb,
    ) -> Self {
        let mut tree = Thing::new(at, 0.0, height * 1.05, height * 0.55 + half);
        let w = height * 0.022;
        let trunk = block(v3(-w, -1.0, -w), v3(w, height * 0.6, w), &[]);
        tree.parts.push((trunk, Matter::Plain(hex(0x5a4634))));
        let foot = height * 0.22;
        let r = 1.2 * half / (clumps as f32).cbrt();
        while tree.parts.len() <= clumps {
            let mut axis = || rng.range(-1.0, 1.0);
            let q = v3(axis(), axis(), axis());
            // Leaves grow on the outside.
            if q.length() > 1.0 || q.length() < 0.55 {
                continue;
            }
            let up = 0.5 + 0.5 * q.y;
            let spread = half * (1.0 - taper * up);
            let c = v3(q.x * spread, foot + (height - foot) * up, q.z * spread);
            let leaf = green * rng.range(0.65, 1.3);
            let ball = Shape::Ball(c, r * rng.range(0.7, 1.25) * (1.0 - 0.6 * taper * up));
            tree.parts.push((ball, Matter::Leaves(leaf)));
        }
        tree
    }

    /// A wooden boat, bow to +x; with a mast and two sails if `sail` is given.
    pub fn boat(at: V3, yaw: f32, length: f32, paint: Rgb, sail: Option<Rgb>) -> Self {
        let mut boat = Thing::new(at, yaw, length * 1.2, length * 0.95);
        let (l, b, h) = (length / 2.0, length * 0.16, length * 0.12);
        let mut sides = vec![(v3(-1.0, -0.25, 0.0), v3(-l * 0.9, 0.0, 0.0))];
        for s in [1.0, -1.0] {
            for (bow, reach) in [(0.0, b), (0.35, b * 1.18), (0.8, b * 1.95)] {
                sides.push((v3(bow, -0.45, s), v3(0.0, h, s * reach)));
            }
        }
        let hull = block(v3(-l, -0.4, -l), v3(2.0 * l, h, l), &sides);
        boat.parts.push((hull, Matter::Planks(paint)));
        let Some(sail) = sail else { return boat };
        let mast = block(v3(-0.07, h, -0.07), v3(0.07, length * 1.15, 0.07), &[]);
        boat.parts.push((mast, Matter::Plain(hex(0x6b4a2c))));
        for (run, head, shade) in [(-0.46, 1.11, 1.0), (0.44, 0.92, 1.15)] {
            // A thin triangle between the mast and a slanting leech.
            let (run, low, high) = (length * run, h + length * 0.09, length * head);
            let (lo, hi) = (v3(run.min(0.0), low, -0.04), v3(run.max(0.0), high, 0.04));
            let leech = (
                v3((high - low) * run.signum(), run.abs(), 0.0),
                v3(0.0, high, 0.0),
            );
            let cloth = block(lo, hi, &[leech]);
            boat.parts.push((cloth, Matter::Plain(sail * shade)));
        }
        boat
    }

    /// Where the ray from `o` in direction `d` first meets the thing.
    pub fn hit(&self, o: V3, d: V3) -> Option<Hit<'_>> {
        let q = self.centre - o;
        let ahead = q.dot(d).max(0.0);
        if (q - d * ahead).length() > self.radius {
            return None;
        }
        let (lo, ld) = (self.inward(o - self.at), self.inward(d));
        let mut best: Option<Hit> = None;
        for (shape, matter) in &self.parts {
            let reach = best.as_ref().map_or(f32::MAX, |h| h.t);
            let Some((t, n)) = shape.hit(lo, ld).filter(|h| h.0 < reach) else {
                continue;
            };
            let local = lo + ld * t;
            let mut normal = self.outward(n);
            if let Matter::Leaves(_) = matter {
                // A ball is a shell of single leaves with gaps between, each
                // leaf turned its own way. The lattice is askew to hide it.
                let (x, y, z) = (local.x, local.y, local.z);
                let cell = |v: f32| (v * 7.5).floor() as i32;
                let row = cell(0.6 * z - 0.5 * x + 0.6 * y) * 61;
                let column = cell(0.8 * x + 0.6 * y);
                let h = hash2(column + row, cell(0.7 * y - 0.3 * x - 0.6 * z));
                if h.x < 0.42 {
                    continue;
                }
                let tilt = v3(h.y - 0.5, (h.x - 0.7) * 1.6, (h.y * 7.0).fract() - 0.5);
                normal = (normal + tilt * 1.3).unit();
            }
            let (thing, matter) = (self, *matter);
            best = Some(Hit {
                t,
                normal,
                local,
                thing,
                matter,
            });
        }
        best
    }
}
