//! Tone curves of colour profiles.

use std::sync::Arc;

/// A curve from stored values to amounts of light, both in `[0, 1]`, as a table with an entry for each
/// value of 16 bits, so that stored values of 8 and 16 bits are met exactly.
#[derive(Clone)]
pub(super) struct ToneCurve(Arc<[f32]>);

/// Index of the last entry.
const LAST: f32 = 65_535.0;

impl ToneCurve {
    /// The curve of a function; `None` if one of its values is no number.
    pub(super) fn new(light: impl Fn(f32) -> f32) -> Option<Self> {
        let table: Arc<[f32]> = (0..=LAST as u32).map(|i| light(i as f32 / LAST)).collect();
        let finite = table.iter().all(|value| value.is_finite());
        finite.then(|| Self(table.iter().map(|value| value.clamp(0.0, 1.0)).collect()))
    }

    /// The light of a stored value.
    pub(super) fn linear(&self, stored: f32) -> f32 {
        let place = stored.clamp(0.0, 1.0) * LAST;
        let index = (place as usize).min(LAST as usize - 1);
        let (from, to) = (self.0[index], self.0[index + 1]);
        from + (to - from) * (place - index as f32)
    }

    /// Whether the curve never falls and is not flat as a whole, so that [`Self::encoded`] is its
    /// inverse.
    pub(super) fn is_invertible(&self) -> bool {
        self.0.is_sorted() && self.0[0] < self.0[LAST as usize]
    }

    /// The least stored value of this light, of a curve that is invertible.
    pub(super) fn encoded(&self, light: f32) -> f32 {
        match self.0.partition_point(|&value| value < light) {
            0 => 0.0,
            above if above > LAST as usize => 1.0,
            above => {
                let (from, to) = (self.0[above - 1], self.0[above]);
                ((above - 1) as f32 + (light - from) / (to - from)) / LAST
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_go_there_and_back() {
        let curves: [fn(f32) -> f32; 4] = [
            |v| v,
            |v| v.powf(2.2),
            |v| v.powf(1.0 / 2.4),
            // Steps, as in a table of few entries.
            |v| (v * 300.0).floor() / 300.0,
        ];
        for curve in curves.map(|light| ToneCurve::new(light).unwrap()) {
            assert!(curve.is_invertible());
            for i in 0..=1000 {
                let light = curve.linear(i as f32 / 1000.0);
                // Of two numbers of f32 near 1.
                assert!((curve.linear(curve.encoded(light)) - light).abs() < 3e-7 * 300.0);
            }
            assert_eq!((curve.encoded(-1.0), curve.encoded(2.0)), (0.0, 1.0));
        }
        let gamma = ToneCurve::new(|v| v.powf(2.2)).unwrap();
        for i in 0..=255 {
            let stored = i as f32 / 255.0;
            assert!((gamma.linear(stored) - stored.powf(2.2)).abs() < 1e-6);
            assert!((gamma.encoded(gamma.linear(stored)) - stored).abs() < 1e-4);
        }
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        assert!(ToneCurve::new(|_| f32::NAN).is_none());
        assert!(ToneCurve::new(|v| 1.0 / v).is_none());
        let inverted = ToneCurve::new(|v| 1.0 - v).unwrap();
        assert!(!inverted.is_invertible());
        assert!(!ToneCurve::new(|_| 0.5).unwrap().is_invertible());
    }
}
