//! Randomness, all of it repeatable: a generator with a seed for choices made
//! one after another, and hashes and noise that depend on the place alone.

use crate::vector::{V2, V3, v2, v3};

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `lo..hi`.
    pub fn range(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * ((self.next() >> 40) as f32 / (1u64 << 24) as f32)
    }

    pub fn chance(&mut self, p: f32) -> bool {
        self.range(0.0, 1.0) < p
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Roughly normal, variance 1/3, within -1.5..1.5.
    pub fn bell(&mut self) -> f32 {
        (0..3).map(|_| self.range(-0.5, 0.5)).sum::<f32>() * 1.15
    }

    /// [`Rng::bell`] three times: a shift of a colour or of a size.
    pub fn bell3(&mut self) -> V3 {
        v3(self.bell(), self.bell(), self.bell())
    }
}

/// Hashes a lattice point to 32 well mixed bits.
fn hash(x: i32, y: i32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x85eb_ca6b) ^ (y as u32).wrapping_mul(0xc2b2_ae35);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    h ^ (h >> 15)
}

/// The hash as two numbers in 0..1.
pub fn hash2(x: i32, y: i32) -> V2 {
    let h = hash(x, y);
    v2((h & 0xffff) as f32, (h >> 16) as f32) / 65536.0
}

/// Two numbers in 0..1 for the whole unit square that `p` is in.
pub fn cell(p: V2) -> V2 {
    hash2(p.x.floor() as i32, p.y.floor() as i32)
}

/// Gradient noise, about -1..1, features one unit across.
pub fn noise(p: V2) -> f32 {
    let (fx, fy) = (p.x.floor(), p.y.floor());
    let (x, y) = (p.x - fx, p.y - fy);
    let corner = |i: i32, j: i32| {
        let g = hash2(fx as i32 + i, fy as i32 + j) * 2.0 - v2(1.0, 1.0);
        g.x * (x - i as f32) + g.y * (y - j as f32)
    };
    let fade = |t: f32| t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
    let (u, v) = (fade(x), fade(y));
    let top = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * u;
    let low = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * u;
    1.6 * (top + (low - top) * v)
}

/// Fractal sum of `octaves` of noise, about -1..1.
pub fn fbm(mut p: V2, octaves: u32) -> f32 {
    let (mut sum, mut amp) = (0.0, 0.55);
    for _ in 0..octaves {
        sum += amp * noise(p);
        // Turning each octave hides the lattice.
        p = v2(1.6 * p.x + 1.2 * p.y, 1.6 * p.y - 1.2 * p.x) + v2(17.3, 9.1);
        amp *= 0.5;
    }
    sum
}

/// Cellular noise: the distance to the nearest of one random site per square.
pub fn worley(p: V2) -> f32 {
    let (cx, cy) = (p.x.floor() as i32, p.y.floor() as i32);
    let mut near = 9.0f32;
    for (x, y) in (0..9).map(|i| (cx + i % 3 - 1, cy + i / 3 - 1)) {
        near = near.min((v2(x as f32, y as f32) + hash2(x, y) - p).length());
    }
    near
}
