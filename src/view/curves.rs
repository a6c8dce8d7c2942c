//! The losses in the course of a run, as a diagram.

use std::path::Path;

use burn::tensor::backend::Backend;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, SVGBackend,
    SeriesLabelPosition, WHITE,
};
use plotters::style::RGBColor;

use crate::atomic;
use crate::loss::LossValues;
use crate::picture::{PictureError, check_folder};
use crate::transfer::Step;

/// Size of the diagram in pixels.
const SIZE: (u32, u32) = (960, 600);

/// Colours of the curves, told apart by most of the colour-blind (Okabe and Ito 2008); the total is
/// black.
const COLORS: [RGBColor; 7] = [
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
];

/// The weighted value of every term at every evaluation.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Name and points of each curve, the total first.
    curves: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curves {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records the losses of a step.
    pub fn record<B: Backend>(&mut self, step: &Step<'_, B>) {
        self.add(step.evaluation, step.losses);
    }

    fn add(&mut self, evaluation: usize, losses: &LossValues) {
        self.point("total", evaluation, losses.weighted());
        for part in &losses.parts {
            self.collect(&part.name, losses.weight, part, evaluation);
        }
    }

    /// The leaves below a part, each with all weights above it.
    fn collect(&mut self, name: &str, above: f64, part: &LossValues, evaluation: usize) {
        if let [_, _, ..] = &part.parts[..] {
            for leaf in &part.parts {
                let name = format!("{name} {}", leaf.name);
                self.collect(&name, above * part.weight, leaf, evaluation);
            }
        } else {
            self.point(name, evaluation, above * part.weighted());
        }
    }

    fn point(&mut self, name: &str, evaluation: usize, value: f64) {
        let index = self.curves.iter().position(|(known, _)| known == name);
        let index = index.unwrap_or_else(|| {
            self.curves.push((name.to_string(), Vec::new()));
            self.curves.len() - 1
        });
        self.curves[index].1.push((evaluation as f64, value));
    }

    /// The curves over the evaluations, on logarithmic scales, as an SVG document; none if nothing
    /// that can be drawn was recorded. The steps between scales of a run show as jumps.
    pub fn svg(&self) -> Option<String> {
        // A logarithmic scale has no place for zero; the total always has one for its least part.
        let drawable = |&(_, value): &(f64, f64)| value.is_finite() && value > 0.0;
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let largest = points()
            .copied()
            .filter(drawable)
            .map(|(_, v)| v)
            .reduce(f64::max)?;
        let smallest = points()
            .copied()
            .filter(drawable)
            .map(|(_, v)| v)
            .reduce(f64::min)?;
        let last = points()
            .map(|(evaluation, _)| *evaluation)
            .reduce(f64::max)?;
        let range = (smallest.max(largest * 1e-9) * 0.8, largest * 1.25);
        let mut document = String::new();
        let draw = |document: &mut String| -> Result<(), Box<dyn std::error::Error>> {
            let area = SVGBackend::with_string(document, SIZE).into_drawing_area();
            area.fill(&WHITE).map_err(text)?;
            let mut chart = ChartBuilder::on(&area)
                .margin(16)
                .x_label_area_size(40)
                .y_label_area_size(72)
                .build_cartesian_2d(
                    (1.0..last.max(2.0)).log_scale(),
                    (range.0..range.1).log_scale(),
                )
                .map_err(text)?;
            chart
                .configure_mesh()
                .x_desc("evaluation")
                .y_desc("weighted loss")
                .x_label_formatter(&|value| format!("{value:.0}"))
                .y_label_formatter(&|value| format!("{value:.0e}"))
                .light_line_style(WHITE)
                .draw()
                .map_err(text)?;
            for (index, (name, points)) in self.curves.iter().enumerate() {
                let color = match index {
                    0 => BLACK,
                    index => COLORS[(index - 1) % COLORS.len()],
                };
                let width = if index == 0 { 3 } else { 2 };
                let style = color.stroke_width(width);
                let points = points.iter().copied().filter(drawable);
                chart
                    .draw_series(LineSeries::new(points, style))
                    .map_err(text)?
                    .label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()
                .map_err(text)?;
            area.present().map_err(text)?;
            Ok(())
        };
        draw(&mut document).ok().map(|()| document)
    }

    /// Checks, before any work is done, that [`save`](Self::save) could write to this name.
    ///
    /// # Errors
    /// [`PictureError`]: the name does not end in `.svg`, or the folder cannot be written to.
    pub fn check(path: impl AsRef<Path>) -> Result<(), PictureError> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
            true => check_folder(path),
            false => Err(PictureError::Write {
                path: path.into(),
                source: "curves are written as .svg".into(),
            }),
        }
    }

    /// Writes the [`svg`](Self::svg).
    ///
    /// # Errors
    /// [`PictureError::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PictureError> {
        let path = path.as_ref();
        let failed = |source| PictureError::Write {
            path: path.into(),
            source,
        };
        let document = self.svg();
        let document = document.ok_or_else(|| failed("no loss above 0 was recorded".into()))?;
        atomic::write(path, |file| {
            std::io::Write::write_all(file, document.as_bytes())
        })
        .map_err(failed)
    }
}

/// An error that borrows nothing.
fn text(error: impl std::fmt::Display) -> Box<dyn std::error::Error> {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(style: f64) -> LossValues {
        let leaf = |name: &str, weight, value| LossValues {
            name: name.to_string(),
            weight,
            value,
            parts: Vec::new(),
        };
        let layers = vec![leaf("relu1_1", 2.0, style), leaf("relu2_1", 1.0, 0.0)];
        let style = LossValues {
            name: "style".to_string(),
            weight: 10.0,
            value: 2.0 * style,
            parts: layers,
        };
        LossValues {
            name: "total".to_string(),
            weight: 1.0,
            value: 3.0 + style.weighted(),
            parts: vec![leaf("content", 3.0, 1.0), style],
        }
    }

    #[test]
    fn every_term_has_its_weighted_curve() {
        let mut curves = Curves::new();
        assert!(curves.svg().is_none());
        for evaluation in 1..=5 {
            curves.add(evaluation, &losses(1.0 / evaluation as f64));
        }
        let names: Vec<&str> = curves.curves.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(
            names,
            ["total", "content", "style relu1_1", "style relu2_1"]
        );
        assert_eq!(curves.curves[2].1[3], (4.0, 5.0));
        assert_eq!(curves.curves[0].1[3], (4.0, 8.0));
        let document = curves.svg().unwrap();
        assert!(document.starts_with("<svg") && document.trim_end().ends_with("</svg>"));
        for name in names.iter().chain(&["evaluation", "weighted loss"]) {
            assert!(document.contains(name), "{name}");
        }
        // One line for each curve that has a positive value, of which relu2_1's has none.
        assert!(document.matches("<polyline").count() >= 3);
        assert!(Curves::check("curves.png").is_err());
    }
}
