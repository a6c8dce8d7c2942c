//! Where styles are painted: masks, and maps in which each colour is a region.

use std::collections::HashMap;

use crate::picture::Picture;

/// Where a style is painted, and where it is taken from. Masks are white inside, black outside, grey
/// between, and stretched to their picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The part of the content picture that is painted.
    pub content: Picture,
    /// The part of the style picture whose style is used; all of it if none.
    pub style: Option<Picture>,
}

/// What can be wrong with maps of coloured regions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionsError {
    /// Not a map, but a picture.
    #[error(
        "a map of regions has more than {MOST_COLORS} colours; paint each region in one colour, \
         without shading"
    )]
    TooManyColors,
    /// A map without any area.
    #[error("a map of regions has no area in one colour; paint regions of at least 3×3 pixels")]
    NoColors,
    /// A style that no region of the content asks for.
    #[error(
        "the map of style {style} has none of the content's colours, which are {known}; it would \
         not be used"
    )]
    Unused {
        /// Which style, from 1.
        style: usize,
        /// The colours of the content's map.
        known: String,
    },
    /// A region of the content for which no style has a counterpart.
    #[error(
        "the content's map has a region in the colour {color}, which no style's map has; their \
         colours are {known}"
    )]
    Unmatched {
        /// The colour, as `#rrggbb`.
        color: String,
        /// The colours of all styles' maps.
        known: String,
    },
}

/// Colours are one region if no channel differs by more than this, of 255: what JPEG files blur.
const TOLERANCE: u8 = 48;
/// Colours that fill less of the map are specks, not regions.
const LEAST_SHARE: f64 = 1e-3;
/// A map with more colours than this is a picture.
const MOST_COLORS: usize = 32;

impl Region {
    /// The regions of each style, out of a map for the content picture and one for each style in which
    /// parts of the same colour belong together: red parts of the content are painted like the red
    /// parts of the style. A colour that several styles have is painted in all of them. Colours count
    /// as the same within 48 of 255 steps of each channel, so that blurred edges and JPEG files do no
    /// harm.
    ///
    /// # Errors
    /// [`RegionsError`] if a map has too many colours or none, the content's a colour that no style's
    /// has, or a style's none of the content's. Parts in which no pixel lies amid its like (thinner than
    /// three pixels), or of less than a thousandth of the map, are edges and specks: their pixels go to
    /// the nearest colour.
    pub fn by_color(content: &Picture, styles: &[Picture]) -> Result<Vec<Vec<Self>>, RegionsError> {
        let content = ColorMap::new(content)?;
        let maps: Vec<ColorMap> = styles.iter().map(ColorMap::new).collect::<Result<_, _>>()?;
        let matched = |color| maps.iter().any(|map| map.find(color).is_some());
        if let Some(&color) = content.colors.iter().find(|&&color| !matched(color)) {
            let known = maps.iter().flat_map(|map| map.colors.iter().copied());
            return Err(RegionsError::Unmatched {
                color: hex(color),
                known: list(known),
            });
        }
        let used = |map: &ColorMap| {
            content
                .colors
                .iter()
                .any(|&color| map.find(color).is_some())
        };
        if let Some(index) = maps.iter().position(|map| !used(map)) {
            return Err(RegionsError::Unused {
                style: index + 1,
                known: list(content.colors.iter().copied()),
            });
        }
        Ok(maps
            .iter()
            .map(|map| {
                let colors = content.colors.iter().enumerate();
                let region = |(index, &color)| {
                    Some(Self {
                        content: content.mask(index),
                        style: Some(map.mask(map.find(color)?)),
                    })
                };
                colors.filter_map(region).collect()
            })
            .collect())
    }
}

type Color = [u8; 3];

/// A picture whose pixels are numbers of colours.
struct ColorMap {
    /// The most frequent first.
    colors: Vec<Color>,
    pixels: Vec<u8>,
    width: usize,
    height: usize,
}

impl ColorMap {
    fn new(picture: &Picture) -> Result<Self, RegionsError> {
        let rounded = |rgb: &[f32]| [rgb[0], rgb[1], rgb[2]].map(|v| (v * 255.0).round() as u8);
        let pixels: Vec<Color> = picture.rgb().chunks_exact(3).map(rounded).collect();
        let (width, height) = (picture.width(), picture.height());
        // Blends of two colours at an edge are no regions: only pixels amid their like are counted.
        let inside = |index: usize| {
            let (x, y) = (index % width, index / width);
            let around = |v: usize, end: usize| v.saturating_sub(1)..(v + 2).min(end);
            let like = |at: usize| distance(pixels[at], pixels[index]) <= TOLERANCE;
            around(y, height).all(|y| around(x, width).all(|x| like(width * y + x)))
        };
        let mut counts: HashMap<Color, usize> = HashMap::new();
        for index in (0..pixels.len()).filter(|&index| inside(index)) {
            *counts.entry(pixels[index]).or_default() += 1;
        }
        let mut counts: Vec<(Color, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|&(color, count)| (std::cmp::Reverse(count), color));
        let least = (LEAST_SHARE * pixels.len() as f64).ceil() as usize;
        let mut colors: Vec<Color> = Vec::new();
        for (color, count) in counts {
            let known = colors
                .iter()
                .any(|&known| distance(known, color) <= TOLERANCE);
            if count >= least && !known {
                colors.push(color);
            }
        }
        match colors.len() {
            0 => return Err(RegionsError::NoColors),
            1..=MOST_COLORS => {}
            _ => return Err(RegionsError::TooManyColors),
        }
        let nearest = |pixel: &Color| {
            let distances = colors.iter().map(|&color| distance(color, *pixel));
            let nearest = distances.enumerate().min_by_key(|&(_, distance)| distance);
            nearest.map_or(0, |(index, _)| index as u8)
        };
        Ok(Self {
            pixels: pixels.iter().map(nearest).collect(),
            colors,
            width,
            height,
        })
    }

    fn find(&self, color: Color) -> Option<usize> {
        let distances = self.colors.iter().map(|&known| distance(known, color));
        let nearest = distances.enumerate().min_by_key(|&(_, distance)| distance);
        let near = |&(_, distance): &(usize, u8)| distance <= TOLERANCE;
        nearest.filter(near).map(|(index, _)| index)
    }

    /// White where the map has this colour, black elsewhere.
    fn mask(&self, index: usize) -> Picture {
        let inside = |&pixel: &u8| [f32::from(u8::from(usize::from(pixel) == index)); 3];
        let rgb = self.pixels.iter().flat_map(inside).collect();
        Picture::from_rgb(self.width, self.height, rgb).expect("as many pixels as the map has")
    }
}

/// The largest difference of a channel.
fn distance(a: Color, b: Color) -> u8 {
    let channels = a.into_iter().zip(b);
    channels.map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0)
}

fn list(colors: impl Iterator<Item = Color>) -> String {
    colors.map(hex).collect::<Vec<_>>().join(", ")
}

fn hex([r, g, b]: Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: [f32; 3] = [1.0, 0.0, 0.0];
    const BLUE: [f32; 3] = [0.0, 0.0, 1.0];

    /// Columns of these colours, each ten pixels wide, with a blend of neighbours between.
    fn columns(colors: &[[f32; 3]]) -> Picture {
        let row = colors.iter().enumerate().flat_map(|(index, color)| {
            let next = colors.get(index + 1).unwrap_or(color);
            let blend = [0, 1, 2].map(|c| 0.5 * (color[c] + next[c]));
            (0..10).map(move |x| if x == 9 { blend } else { *color })
        });
        let row: Vec<f32> = row.flatten().collect();
        let rgb = row.iter().copied().cycle().take(row.len() * 4).collect();
        Picture::from_rgb(10 * colors.len(), 4, rgb).unwrap()
    }

    fn share(mask: &Picture) -> f32 {
        mask.rgb().iter().sum::<f32>() / mask.rgb().len() as f32
    }

    #[test]
    fn parts_of_the_same_colour_belong_together() {
        let content = columns(&[RED, BLUE, BLUE, BLUE]);
        // Not quite the same red, as after a JPEG encoder.
        let one = columns(&[[0.95, 0.1, 0.05], BLUE]);
        let other = columns(&[BLUE]);
        let regions = Region::by_color(&content, &[one, other]).unwrap();
        assert_eq!(regions.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        // The most frequent colour comes first; a blend belongs to either side.
        let blue = &regions[0][0];
        assert!((share(&blue.content) - 0.75).abs() <= 0.03);
        assert!((share(blue.style.as_ref().unwrap()) - 0.5).abs() <= 0.06);
        assert!((share(&regions[0][1].content) - 0.25).abs() <= 0.03);
        assert_eq!(regions[1][0].content, blue.content);
        let sum: Vec<f32> = regions[0][0]
            .content
            .rgb()
            .iter()
            .zip(regions[0][1].content.rgb())
            .map(|(a, b)| a + b)
            .collect();
        assert!(sum.iter().all(|&sum| sum <= 1.0));
    }

    #[test]
    fn a_region_without_counterpart_is_named() {
        let error = Region::by_color(&columns(&[RED, BLUE]), &[columns(&[BLUE])]).unwrap_err();
        let expected = RegionsError::Unmatched {
            color: "#ff0000".to_string(),
            known: "#0000ff".to_string(),
        };
        assert_eq!(error, expected);
        let maps = [columns(&[RED, BLUE]), columns(&[[0.0, 1.0, 0.0]])];
        let error = Region::by_color(&columns(&[RED, BLUE]), &maps).unwrap_err();
        assert!(matches!(error, RegionsError::Unused { style: 2, .. }));
        // Stripes of single pixels have no inside.
        let stripes: Vec<f32> = (0..64).flat_map(|i| [(i % 2) as f32; 3]).collect();
        let stripes = Picture::from_rgb(8, 8, stripes).unwrap();
        let error = Region::by_color(&stripes, &maps).unwrap_err();
        assert_eq!(error, RegionsError::NoColors);
    }

    #[test]
    fn a_photograph_is_no_map() {
        // 64 patches, each in its own shade.
        let shade = |x: usize, y: usize| {
            let patch = 8 * (y / 4) + x / 4;
            [patch % 4, patch / 4 % 4, patch / 16].map(|v| v as f32 / 3.0)
        };
        let shades = (0..32 * 32).flat_map(|i| shade(i % 32, i / 32));
        let picture = Picture::from_rgb(32, 32, shades.collect()).unwrap();
        let error = Region::by_color(&picture, &[columns(&[RED])]).unwrap_err();
        assert_eq!(error, RegionsError::TooManyColors);
    }
}
