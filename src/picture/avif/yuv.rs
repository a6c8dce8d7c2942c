//! Luminance and colour differences, as RGB.

use super::av1::{Layout, Planes};
use super::heif::CodePoints;

/// How the planes of a picture give colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Matrix {
    /// They are green, blue and red.
    Identity,
    /// Luminance has these parts of red and blue, the rest is green.
    Differences { red: f32, blue: f32 },
}

impl Matrix {
    /// By its number in ITU-T H.273, if it is one that is known here.
    pub(super) fn of_code_point(number: u16) -> Option<Self> {
        let (red, blue) = match number {
            0 => return Some(Self::Identity),
            1 => (0.2126, 0.0722),
            // Unspecified counts as BT.601.
            2 | 5 | 6 => (0.299, 0.114),
            4 => (0.30, 0.11),
            7 => (0.212, 0.087),
            9 => (0.2627, 0.0593),
            _ => return None,
        };
        Some(Self::Differences { red, blue })
    }
}

/// From stored numbers to parts of white, or of the range of a difference.
#[derive(Clone, Copy)]
struct Range {
    zero: f32,
    scale: f32,
}

impl Range {
    fn of(bits: u8, full: bool, difference: bool) -> Self {
        let most = f32::from(u16::MAX >> (16 - bits.clamp(1, 16)));
        let step = f32::from(1u16 << bits.clamp(8, 15).saturating_sub(8));
        let zero = match (full, difference) {
            (_, true) => 128.0 * step,
            (true, false) => 0.0,
            (false, false) => 16.0 * step,
        };
        let range = match (full, difference) {
            (true, _) => most,
            (false, true) => 224.0 * step,
            (false, false) => 219.0 * step,
        };
        Self {
            zero,
            scale: 1.0 / range,
        }
    }

    fn apply(self, stored: f32) -> f32 {
        (stored - self.zero) * self.scale
    }
}

/// A picture as colours, row by row.
pub(super) struct Rows<'a> {
    planes: &'a Planes,
    matrix: Matrix,
    luminance: Range,
    difference: Range,
}

impl<'a> Rows<'a> {
    pub(super) fn new(planes: &'a Planes, matrix: Matrix, points: CodePoints) -> Self {
        Self {
            planes,
            matrix,
            luminance: Range::of(planes.bits, points.full_range, false),
            difference: Range::of(planes.bits, points.full_range, true),
        }
    }

    /// Writes a row, of grey or of interleaved RGB.
    pub(super) fn read(&self, y: usize, row: &mut Vec<f32>) {
        if self.planes.layout == Layout::Grey {
            self.read_first(y, row);
            return;
        }
        row.clear();
        let [second, third] = [1, 2].map(|plane| self.spread(plane, y));
        for ((luminance, second), third) in self.first(y).zip(second).zip(third) {
            let rgb = match self.matrix {
                Matrix::Identity => {
                    let [blue, red] = [second, third].map(|stored| self.luminance.apply(stored));
                    [red, luminance, blue]
                }
                Matrix::Differences { red: kr, blue: kb } => {
                    let [cb, cr] = [second, third].map(|stored| self.difference.apply(stored));
                    let red = luminance + 2.0 * (1.0 - kr) * cr;
                    let blue = luminance + 2.0 * (1.0 - kb) * cb;
                    let green = (luminance - kr * red - kb * blue) / (1.0 - kr - kb);
                    [red, green, blue]
                }
            };
            row.extend(rgb.map(|value| value.clamp(0.0, 1.0)));
        }
    }

    /// Writes a row of the first plane: luminance, or opacity.
    pub(super) fn read_first(&self, y: usize, row: &mut Vec<f32>) {
        row.clear();
        row.extend(self.first(y).map(|value| value.clamp(0.0, 1.0)));
    }

    fn first(&self, y: usize) -> impl Iterator<Item = f32> {
        let plane = &self.planes.planes[0];
        let row = plane.samples[y * plane.width..][..plane.width].iter();
        row.map(|&stored| self.luminance.apply(stored.into()))
    }

    /// A row of a plane at the full width. Samples of half the size stand in the middle of theirs, and are
    /// interpolated linearly.
    fn spread(&self, plane: usize, y: usize) -> Vec<f32> {
        let (across, down) = self.planes.layout.halves();
        let plane = &self.planes.planes[plane];
        let last = plane.samples.len() / plane.width - 1;
        let row = |y: usize| plane.samples[y * plane.width..][..plane.width].iter();
        let mut small: Vec<f32> = row(y / down).map(|&stored| stored.into()).collect();
        if down == 2 {
            let other = row(beside(y, last));
            for (value, &other) in small.iter_mut().zip(other) {
                *value = 0.75 * *value + 0.25 * f32::from(other);
            }
        }
        if across == 1 {
            return small;
        }
        let last = plane.width - 1;
        let at = |x: usize| 0.75 * small[x / 2] + 0.25 * small[beside(x, last)];
        (0..self.planes.width).map(at).collect()
    }
}

/// The sample of half the size that is next nearest.
fn beside(place: usize, last: usize) -> usize {
    match place % 2 {
        0 => (place / 2).saturating_sub(1),
        _ => (place / 2 + 1).min(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::avif::av1::Plane;

    fn rows(
        planes: &[&[u16]],
        bits: u8,
        layout: Layout,
        matrix: u16,
        full_range: bool,
    ) -> Vec<f32> {
        let (across, _) = layout.halves();
        let width = planes[0].len();
        let planes = planes.iter().enumerate().map(|(index, samples)| Plane {
            width: if index == 0 {
                width
            } else {
                width.div_ceil(across)
            },
            samples: samples.to_vec(),
        });
        let planes = Planes {
            width,
            height: 1,
            bits,
            layout,
            planes: planes.collect(),
        };
        let points = CodePoints {
            primaries: 1,
            transfer: 13,
            matrix,
            full_range,
        };
        let matrix = Matrix::of_code_point(matrix).unwrap();
        let mut row = Vec::new();
        Rows::new(&planes, matrix, points).read(0, &mut row);
        row
    }

    const FULL_SIZE: Layout = Layout::Color {
        half_width: false,
        half_height: false,
    };

    #[track_caller]
    fn assert_close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-3, "{found} for {expected}");
        }
    }

    /// The numbers of 100 % red (ITU-R BT.709, BT.601 and BT.2020), black and white.
    #[test]
    fn primaries_have_their_standard_numbers() {
        for (matrix, bits, red) in [
            (1, 8, [63u16, 102, 240]),
            (6, 8, [81, 90, 240]),
            (9, 10, [294, 387, 960]),
        ] {
            let step = 1 << (bits - 8);
            let planes: [[u16; 3]; 3] = [
                [red[0], 16 * step, 235 * step],
                [red[1], 128 * step, 128 * step],
                [red[2], 128 * step, 128 * step],
            ];
            let planes = planes.each_ref().map(|plane| &plane[..]);
            let found = rows(&planes, bits, FULL_SIZE, matrix, false);
            let expected = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
            for (found, expected) in found.iter().zip(expected) {
                // The numbers are rounded.
                assert!(
                    (found - expected).abs() < 6e-3,
                    "{matrix}: {found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn grey_and_plain_rgb_are_taken_as_they_are() {
        let found = rows(&[&[0, 16, 2047, 4095]], 12, Layout::Grey, 1, true);
        assert_close(&found, &[0.0, 16.0 / 4095.0, 2047.0 / 4095.0, 1.0]);
        let found = rows(
            &[&[235, 16], &[16, 235], &[126, 16]],
            8,
            FULL_SIZE,
            0,
            false,
        );
        assert_close(&found, &[110.0 / 219.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn small_planes_are_interpolated_from_the_middle_of_their_pixels() {
        let layout = Layout::Color {
            half_width: true,
            half_height: true,
        };
        // The third plane has no colour difference but in its first sample.
        let found = rows(
            &[&[100; 5], &[128; 3], &[168, 128, 128]],
            8,
            layout,
            1,
            true,
        );
        let red: Vec<f32> = found.chunks(3).map(|pixel| pixel[0]).collect();
        let expected = [1.0, 0.75, 0.25, 0.0, 0.0];
        let expected = expected.map(|part| (100.0 + part * 40.0 * 2.0 * (1.0 - 0.2126)) / 255.0);
        assert_close(&red, &expected);
    }

    #[test]
    fn unknown_matrices_are_told() {
        for number in [3, 8, 10, 11, 12, 13, 14, 255] {
            assert_eq!(Matrix::of_code_point(number), None);
        }
    }
}
