//! Lines in the picture plane: where they are, how far a point is from them,
//! and smooth ones through a few knots.

use crate::vector::{V2, v2};

/// The box around some points, grown by `r`.
pub fn bounds(points: &[V2], r: f32) -> (V2, V2) {
    let fold = |f: fn(f32, f32) -> f32, r: f32| {
        let p = points.iter().copied();
        let p = p.reduce(|a, b| v2(f(a.x, b.x), f(a.y, b.y)));
        p.unwrap_or_default() + v2(r, r)
    };
    (fold(f32::min, -r), fold(f32::max, r))
}

/// Where `p` lies by the segment `a`–`b`: how far along it (0..1) is the
/// closest point, and the offset from there.
pub fn nearest(a: V2, b: V2, p: V2) -> (f32, V2) {
    let ab = b - a;
    let t = ((p - a).dot(ab) / ab.dot(ab).max(1e-9)).clamp(0.0, 1.0);
    (t, p - a - ab * t)
}

/// Points from a flat list of coordinates, enlarged and moved.
pub fn points(xy: &[f32], at: V2, size: f32) -> Vec<V2> {
    let pairs = xy.chunks_exact(2);
    pairs.map(|p| at + v2(p[0], p[1]) * size).collect()
}

/// `n` points of the Catmull-Rom spline through `knots`.
pub fn spline(knots: &[V2], n: usize) -> Vec<V2> {
    let last = knots.len() - 1;
    let point = |i: usize| {
        let t = i as f32 / (n - 1) as f32 * last as f32;
        let k = (t as usize).min(last - 1);
        let u = t - k as f32;
        let knot = |i: usize| knots[i.min(last)];
        let (a, b, c, d) = (knot(k.saturating_sub(1)), knot(k), knot(k + 1), knot(k + 2));
        let cubic = (b - c) * 3.0 + d - a;
        let square = a * 2.0 - b * 5.0 + c * 4.0 - d;
        b + ((c - a) + (square + cubic * u) * u) * (u * 0.5)
    };
    (0..n).map(point).collect()
}
