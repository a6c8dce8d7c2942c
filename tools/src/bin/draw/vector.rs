//! Vectors in the plane and in space, and colours: a colour is a vector of
//! linear light, so that mixing and shading are plain arithmetic.

use std::ops::{Add, Div, Mul, Sub};

macro_rules! vector {
    ($(#[$doc:meta])* $name:ident $make:ident { $($axis:ident),+ }) => {
        pub const fn $make($($axis: f32),+) -> $name { $name { $($axis),+ } }

        $(#[$doc])*
        #[derive(Clone, Copy, Default)]
        pub struct $name { $(pub $axis: f32),+ }

        impl $name {
            pub fn dot(self, o: Self) -> f32 { 0.0 $(+ self.$axis * o.$axis)+ }
            pub fn length(self) -> f32 { self.dot(self).sqrt() }
            pub fn unit(self) -> Self { self / self.length().max(1e-9) }
            pub fn mix(self, o: Self, t: f32) -> Self { self + (o - self) * t }
        }
        impl Add for $name {
            type Output = Self;
            fn add(self, o: Self) -> Self { $make($(self.$axis + o.$axis),+) }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, o: Self) -> Self { $make($(self.$axis - o.$axis),+) }
        }
        impl Mul<f32> for $name {
            type Output = Self;
            fn mul(self, k: f32) -> Self { $make($(self.$axis * k),+) }
        }
        impl Div<f32> for $name {
            type Output = Self;
            fn div(self, k: f32) -> Self { self * (1.0 / k) }
        }
    };
}

vector!(
    /// A point or direction in the picture plane, y downwards.
    V2 v2 { x, y }
);
vector!(
    /// A point or direction in space, or a colour in linear light.
    V3 v3 { x, y, z }
);

pub type Rgb = V3;

impl V2 {
    pub fn polar(angle: f32, radius: f32) -> Self {
        v2(angle.cos() * radius, angle.sin() * radius)
    }

    /// The direction as [`V2::polar`] takes it, within -π..π.
    pub fn angle(self) -> f32 {
        self.y.atan2(self.x)
    }

    /// The vector turned by a right angle.
    pub fn perp(self) -> Self {
        v2(-self.y, self.x)
    }
}

impl V3 {
    pub fn map(self, f: impl Fn(f32) -> f32) -> Self {
        v3(f(self.x), f(self.y), f(self.z))
    }

    /// Product by component: light falling on a coloured surface.
    pub fn tint(self, o: Self) -> Self {
        v3(self.x * o.x, self.y * o.y, self.z * o.z)
    }

    /// This direction after a mirror with normal `n`.
    pub fn reflect(self, n: Self) -> Self {
        self - n * (2.0 * self.dot(n))
    }

    pub fn luma(self) -> f32 {
        self.dot(v3(0.2126, 0.7152, 0.0722))
    }
}

/// A colour from its usual sRGB notation, `0xRRGGBB`.
pub fn hex(rgb: u32) -> Rgb {
    let byte = |shift: u32| ((rgb >> shift) & 0xff) as f32 / 255.0;
    v3(byte(16), byte(8), byte(0)).map(|c| match c {
        ..=0.04045 => c / 12.92,
        _ => ((c + 0.055) / 1.055).powf(2.4),
    })
}

/// One channel of linear light as an sRGB byte.
pub fn to_srgb(c: f32) -> u8 {
    let s = match c {
        ..=0.003_130_8 => c * 12.92,
        _ => 1.055 * c.powf(1.0 / 2.4) - 0.055,
    };
    (s * 255.0).round() as u8
}

/// Looks `t` in 0..1 up in a row of evenly spaced colours.
pub fn ramp(colours: &[Rgb], t: f32) -> Rgb {
    let t = t.clamp(0.0, 1.0) * (colours.len() - 1) as f32;
    let i = (t as usize).min(colours.len() - 2);
    colours[i].mix(colours[i + 1], t - i as f32)
}

/// Hermite step from 0 at `a` to 1 at `b` (`a` may be the larger).
pub fn smooth(a: f32, b: f32, x: f32) -> f32 {
    let t = ((x - a) / (b - a)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
