//! Histogram matching.

use super::raster::Picture;

/// `style` with the histograms of `content`, channel by channel.
pub(super) fn transfer(style: &Picture, content: &Picture) -> Picture {
    let mut rgb = style.rgb.to_vec();
    let sorted = |picture: &Picture, channel: usize| {
        let values = picture.rgb.iter().skip(channel).step_by(3).copied();
        let mut values: Vec<f32> = values.collect();
        values.sort_by(f32::total_cmp);
        values
    };
    for channel in 0..3 {
        let (from, to) = (sorted(style, channel), sorted(content, channel));
        for value in rgb.iter_mut().skip(channel).step_by(3) {
            // The middle of all equal values, so that these stay equal.
            let below = from.partition_point(|other| other < value);
            let through = from.partition_point(|other| other <= value);
            let quantile = (below + through) as f64 / (2 * from.len()) as f64;
            let place = (quantile * to.len() as f64 - 0.5).clamp(0.0, (to.len() - 1) as f64);
            let (low, high) = (to[place.floor() as usize], to[place.ceil() as usize]);
            *value = low + (high - low) * place.fract() as f32;
        }
    }
    style.clone().with_rgb(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::test_picture::picture;

    #[test]
    fn histograms_match_and_equal_values_stay_equal() {
        let (style, content) = (picture(30, 20, 5), picture(17, 23, 6));
        let matched = transfer(&style, &content);
        for channel in 0..3 {
            let sorted = |picture: &Picture| {
                let mut values: Vec<f32> = picture
                    .rgb
                    .iter()
                    .skip(channel)
                    .step_by(3)
                    .copied()
                    .collect();
                values.sort_by(f32::total_cmp);
                values
            };
            let (found, wanted) = (sorted(&matched), sorted(&content));
            for tenth in 0..=10 {
                let at = |values: &[f32]| values[tenth * (values.len() - 1) / 10];
                assert!((at(&found) - at(&wanted)).abs() < 0.02);
            }
        }
        let flat = Picture::from_rgb(4, 4, vec![0.3; 48]).unwrap();
        let matched = transfer(&flat, &content);
        assert!(
            matched
                .rgb
                .as_chunks::<3>()
                .0
                .iter()
                .all(|color| *color == matched.rgb[..3])
        );
    }
}
