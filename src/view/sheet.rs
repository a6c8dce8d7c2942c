//! Labelled pictures in rows and columns.

use std::convert::Infallible;

use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_9X15, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Alignment, Baseline, Text};

use crate::picture::Picture;

/// A white page; what is drawn on it is black.
struct Page {
    width: usize,
    height: usize,
    rgb: Vec<f32>,
}

impl OriginDimensions for Page {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Page {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(point, color) in pixels {
            let (x, y) = (point.x as usize, point.y as usize);
            // Negative coordinates have become huge ones.
            if x < self.width && y < self.height {
                let value = if color.is_on() { 0.0 } else { 1.0 };
                let start = 3 * (y * self.width + x);
                self.rgb[start..start + 3].fill(value);
            }
        }
        Ok(())
    }
}

impl Page {
    fn paste(&mut self, picture: &Picture, x: usize, y: usize) {
        let row = 3 * picture.width();
        for (line, values) in picture.rgb().chunks_exact(row).enumerate() {
            let start = 3 * ((y + line) * self.width + x);
            self.rgb[start..start + row].copy_from_slice(values);
        }
    }
}

/// Pictures in rows, each under its label, on white.
///
/// Every picture gets a cell of `width` × `height` pixels, where it stands centred and as large as
/// it fits; small ones are enlarged by a whole number, so that their pixels stay visible. Labels are
/// cut to the width of the cell; letters outside Latin-1 appear as question marks.
///
/// # Panics
/// If there are no pictures, or if `width` or `height` is zero.
pub fn sheet(rows: &[Vec<(String, Picture)>], width: usize, height: usize) -> Picture {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    assert!(columns > 0, "a sheet needs pictures");
    assert!(width > 0 && height > 0, "a sheet needs cells with pixels");
    let font: &MonoFont = match width {
        0..160 => &FONT_6X10,
        160..400 => &FONT_9X15,
        _ => &FONT_10X20,
    };
    let text_height = font.character_size.height as usize + 4;
    let gap = (width / 24).clamp(4, 16);
    let (cell_width, cell_height) = (width + gap, height + text_height + gap);
    let mut page = Page {
        width: columns * cell_width + gap,
        height: rows.len() * cell_height + gap,
        rgb: Vec::new(),
    };
    page.rgb = vec![1.0; 3 * page.width * page.height];
    for (line, row) in rows.iter().enumerate() {
        for (column, (label, picture)) in row.iter().enumerate() {
            let (x, y) = (gap + column * cell_width, gap + line * cell_height);
            let letters = width / font.character_size.width as usize;
            let label: String = label.chars().take(letters).collect();
            let middle = Point::new((x + width / 2) as i32, y as i32);
            let style = MonoTextStyle::new(font, BinaryColor::On);
            let mut text = Text::with_baseline(&label, middle, style, Baseline::Top);
            text.text_style.alignment = Alignment::Center;
            let Ok(_) = text.draw(&mut page);
            let fitted = fit(picture, width, height);
            let x = x + (width - fitted.width()) / 2;
            let y = y + text_height + (height - fitted.height()) / 2;
            page.paste(&fitted, x, y);
        }
    }
    Picture::from_rgb(page.width, page.height, page.rgb).expect("as many values as pixels")
}

/// The picture as large as it fits.
fn fit(picture: &Picture, width: usize, height: usize) -> Picture {
    let (from_width, from_height) = (picture.width(), picture.height());
    let factor = (width / from_width).min(height / from_height);
    if factor == 0 {
        let scale = (width as f64 / from_width as f64).min(height as f64 / from_height as f64);
        let scaled = |side: usize| (side as f64 * scale).floor() as usize;
        return picture.resize(scaled(from_width), scaled(from_height));
    }
    let (to_width, to_height) = (factor * from_width, factor * from_height);
    let mut rgb = Vec::with_capacity(3 * to_width * to_height);
    for y in 0..to_height {
        for x in 0..to_width {
            let start = 3 * (y / factor * from_width + x / factor);
            rgb.extend_from_slice(&picture.rgb()[start..start + 3]);
        }
    }
    Picture::from_rgb(to_width, to_height, rgb).expect("as many values as pixels")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, color: [f32; 3]) -> Picture {
        Picture::from_rgb(width, height, color.repeat(width * height)).unwrap()
    }

    fn at(picture: &Picture, x: usize, y: usize) -> &[f32] {
        &picture.rgb()[3 * (y * picture.width() + x)..][..3]
    }

    #[test]
    fn pictures_stand_in_their_cells_under_their_labels() {
        let red = plain(7, 7, [1.0, 0.0, 0.0]);
        let blue = plain(300, 100, [0.0, 0.0, 1.0]);
        let rows = [
            vec![("red".to_string(), red), ("blue".to_string(), blue)],
            vec![(
                "a long label that is cut".to_string(),
                plain(1, 1, [0.0; 3]),
            )],
        ];
        let page = sheet(&rows, 24, 24);
        // Two columns and rows of 24, gaps of 4, a line of text of 14.
        assert_eq!((page.width(), page.height()), (4 + 2 * 28, 4 + 2 * 42));
        // Enlarged three times to 21×21 and centred; shrunk to 24×8 and centred.
        assert_eq!(at(&page, 4 + 1, 4 + 14 + 1), [1.0, 0.0, 0.0]);
        assert_eq!(at(&page, 4, 4 + 14), [1.0; 3]);
        assert_eq!(at(&page, 32, 4 + 14 + 8 + 4), [0.0, 0.0, 1.0]);
        assert_eq!(at(&page, 32, 4 + 14 + 6), [1.0; 3]);
        // There is ink where the labels are, and none in the gap between them.
        let ink = |x: usize, y: usize, width: usize, height: usize| {
            let cells = (y..y + height).flat_map(|y| (x..x + width).map(move |x| (x, y)));
            cells.filter(|&(x, y)| at(&page, x, y) == [0.0; 3]).count()
        };
        for (x, y) in [(4, 4), (32, 4), (4, 46)] {
            assert!(ink(x, y, 24, 14) > 10);
        }
        assert_eq!(ink(28, 0, 4, page.height()), 0);
    }
}
