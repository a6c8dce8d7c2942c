//! Profiles that tell colours by tables (ICC.1:2022, 10.10 to 10.13): lut8, lut16, lutAToB and lutBToA.

use moxcms::{
    ColorProfile, Cube, DataColorSpace, LutDataType, LutMultidimensionalType, LutStore, LutType,
    LutWarehouse, Matrix3d, ToneReprCurve, Xyzd,
};

use super::color_space::{linear_to_srgb, srgb_to_linear};
use super::tone_curve::ToneCurve;

/// The white that profiles connect at, D50.
const WHITE: [f32; 3] = [0.9642, 1.0, 0.8249];

/// One direction of a profile, from its device to sRGB or back. Between the entries of a table values are
/// interpolated as LittleCMS does it: in tetrahedra, which keep greys grey, but linearly along all axes where
/// the axes are those of L\*a\*b\*; along the first of four axes linearly, too.
pub(super) struct ProfileTable {
    stages: Vec<Stage>,
    connection: Connection,
    into_device: bool,
    /// From XYZ to the light of sRGB, or back.
    matrix: [[f32; 3]; 3],
}

enum Stage {
    Curves(Vec<ToneCurve>),
    Matrix {
        rows: [[f32; 3]; 3],
        offset: [f32; 3],
    },
    Table {
        values: Vec<f32>,
        points: [u8; 4],
        inputs: usize,
    },
}

/// How the colours that profiles connect at are stored, in `[0, 1]`.
#[derive(Clone, Copy)]
enum Connection {
    Xyz,
    Lab,
    /// As lut16 has it, in which 0xff00 is 100 (10.10, table 42).
    Lab16,
}

impl ProfileTable {
    /// From `inputs` channels of the device to sRGB.
    pub(super) fn to_srgb(profile: &ColorProfile, inputs: usize) -> Option<Self> {
        let table = profile.lut_a_to_b_colorimetric.as_ref()?;
        let stages = match table {
            LutWarehouse::Lut(table) => lut_stages(table, None),
            LutWarehouse::Multidimensional(table) => {
                let mut stages = multidimensional_stages(table);
                stages.reverse();
                stages
            }
        };
        Self::new(profile, table, stages, inputs, false)
    }

    /// From sRGB to RGB of the device.
    pub(super) fn from_srgb(profile: &ColorProfile) -> Option<Self> {
        let table = profile.lut_b_to_a_colorimetric.as_ref()?;
        let stages = match table {
            LutWarehouse::Lut(table) => lut_stages(table, Some(profile.pcs)),
            LutWarehouse::Multidimensional(table) => multidimensional_stages(table),
        };
        Self::new(profile, table, stages, 3, true)
    }

    fn new(
        profile: &ColorProfile,
        table: &LutWarehouse,
        stages: Vec<Option<Stage>>,
        inputs: usize,
        into_device: bool,
    ) -> Option<Self> {
        let (channels, lut16) = match table {
            LutWarehouse::Lut(table) => (
                (table.num_input_channels, table.num_output_channels),
                table.lut_type == LutType::Lut16,
            ),
            LutWarehouse::Multidimensional(table) => {
                ((table.num_input_channels, table.num_output_channels), false)
            }
        };
        if channels != (inputs as u8, 3) {
            return None;
        }
        let matrix = match into_device {
            true => xyz_of_srgb(),
            false => xyz_of_srgb().inverse(),
        };
        let table = Self {
            stages: stages.into_iter().collect::<Option<_>>()?,
            connection: match profile.pcs {
                DataColorSpace::Xyz => Connection::Xyz,
                DataColorSpace::Lab if lut16 => Connection::Lab16,
                DataColorSpace::Lab => Connection::Lab,
                _ => return None,
            },
            into_device,
            matrix: matrix.v.map(|row| row.map(|value| value as f32)),
        };
        // What has as many inputs as outputs without a table may lack one; what has more may not.
        let reduces =
            |stage: &Stage| matches!(stage, Stage::Table { inputs: n, .. } if *n == inputs);
        (inputs == 3 || table.stages.iter().any(reduces)).then_some(table)
    }

    /// sRGB of a colour of the device; of RGB the fourth value is no matter.
    pub(super) fn srgb_of(&self, device: [f32; 4]) -> [f32; 3] {
        let light = product(&self.matrix, self.connection.xyz(self.run(device)));
        light.map(|value| linear_to_srgb(value.clamp(0.0, 1.0)))
    }

    /// The colour of the device of one in sRGB.
    pub(super) fn device_of(&self, color: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = self
            .connection
            .stored(product(&self.matrix, color.map(srgb_to_linear)));
        self.run([x, y, z, 0.0])
    }

    fn run(&self, mut color: [f32; 4]) -> [f32; 3] {
        for stage in &self.stages {
            let [a, b, c, d] = color.map(|value| value.clamp(0.0, 1.0));
            match stage {
                Stage::Curves(curves) => {
                    for (value, curve) in color.iter_mut().zip(curves) {
                        *value = curve.linear(*value);
                    }
                }
                Stage::Matrix { rows, offset } => {
                    let [x, y, z] = product(rows, [color[0], color[1], color[2]]);
                    color = [x + offset[0], y + offset[1], z + offset[2], 0.0];
                }
                Stage::Table {
                    values,
                    points,
                    inputs: 3,
                } => {
                    color = self.interpolated(values, [points[0], points[1], points[2]], [a, b, c])
                }
                Stage::Table { values, points, .. } => {
                    let [first, rest @ ..] = *points;
                    let size = values.len() / usize::from(first);
                    let place = a * f32::from(first - 1);
                    let at = |index: f32| {
                        let values = &values[size * index as usize..][..size];
                        self.interpolated(values, rest, [b, c, d])
                    };
                    let (below, above, part) = (at(place.floor()), at(place.ceil()), place.fract());
                    color = std::array::from_fn(|i| below[i] + part * (above[i] - below[i]));
                }
            }
        }
        let [a, b, c, _] = color;
        [a, b, c]
    }

    /// What a table of three channels has at a place.
    fn interpolated(&self, values: &[f32], points: [u8; 3], [a, b, c]: [f32; 3]) -> [f32; 4] {
        let along_axes = self.into_device && !matches!(self.connection, Connection::Xyz);
        let found = Cube::new_cube(values, points, 3).map(|cube| match along_axes {
            true => cube.trilinear_vec3(a, b, c),
            false => cube.tetra_vec3(a, b, c),
        });
        // Its size was checked when it was made.
        let [x, y, z] = found.map_or([0.0; 3], |found| found.v);
        [x, y, z, 0.0]
    }
}

impl Connection {
    fn xyz(self, stored: [f32; 3]) -> [f32; 3] {
        let [l, a, b] = match self {
            Self::Xyz => return stored.map(|value| value * 65_535.0 / 32_768.0),
            Self::Lab => stored,
            Self::Lab16 => stored.map(|value| value * 65_535.0 / 65_280.0),
        };
        let y = (100.0 * l + 16.0) / 116.0;
        let (x, z) = (
            y + (255.0 * a - 128.0) / 500.0,
            y - (255.0 * b - 128.0) / 200.0,
        );
        let mut white = WHITE.into_iter();
        [x, y, z].map(|root| {
            let part = match root > 6.0 / 29.0 {
                true => root.powi(3),
                false => (root - 4.0 / 29.0) * 108.0 / 841.0,
            };
            part * white.next().unwrap_or(1.0)
        })
    }

    fn stored(self, xyz: [f32; 3]) -> [f32; 3] {
        if let Self::Xyz = self {
            return xyz.map(|value| value * 32_768.0 / 65_535.0);
        }
        let mut white = WHITE.into_iter();
        let [x, y, z] = xyz.map(|value| {
            let part = value / white.next().unwrap_or(1.0);
            match part > (6.0f32 / 29.0).powi(3) {
                true => part.cbrt(),
                false => part * 841.0 / 108.0 + 4.0 / 29.0,
            }
        });
        let (l, a, b) = (116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z));
        let stored = [l / 100.0, (a + 128.0) / 255.0, (b + 128.0) / 255.0];
        match self {
            Self::Lab16 => stored.map(|value| value * 65_280.0 / 65_535.0),
            _ => stored,
        }
    }
}

/// sRGB, with its primaries adapted to the D50 of ICC profiles, (0.9642, 1, 0.8249); that of `moxcms` has
/// another in the fourth digit, which shows where a channel is nearly black.
pub(super) fn srgb() -> ColorProfile {
    let column = |x, y, z| Xyzd { x, y, z };
    let mut srgb = ColorProfile::new_srgb();
    srgb.red_colorant = column(0.436_041_25, 0.222_484_54, 0.013_920_19);
    srgb.green_colorant = column(0.385_112_91, 0.716_905_08, 0.097_067_24);
    srgb.blue_colorant = column(0.143_045_84, 0.060_610_38, 0.713_912_57);
    srgb
}

fn xyz_of_srgb() -> Matrix3d {
    srgb().rgb_to_xyz_matrix()
}

fn product(rows: &[[f32; 3]; 3], [x, y, z]: [f32; 3]) -> [f32; 3] {
    rows.map(|row| row[0] * x + row[1] * y + row[2] * z)
}

/// Of lut8 and lut16; their matrix counts only for XYZ that comes in.
fn lut_stages(lut: &LutDataType, connection: Option<DataColorSpace>) -> Vec<Option<Stage>> {
    let (inputs, points) = (lut.num_input_channels.into(), lut.num_clut_grid_points);
    let curves = |table, entries: u16| {
        let values = values(table);
        let curve = |entries: &[f32]| {
            let entries: Vec<u16> = entries
                .iter()
                .map(|v| (v * 65_535.0).round() as u16)
                .collect();
            curve(&ToneReprCurve::Lut(entries))
        };
        let curves = values.chunks_exact(entries.into()).map(curve);
        curves.collect::<Option<Vec<_>>>().map(Stage::Curves)
    };
    let mut stages = vec![
        curves(&lut.input_table, lut.num_input_table_entries),
        table(&lut.clut_table, [points; 4], inputs),
        curves(&lut.output_table, lut.num_output_table_entries),
    ];
    if connection == Some(DataColorSpace::Xyz) {
        let rows = lut.matrix.v.map(|row| row.map(|value| value as f32));
        stages.insert(
            0,
            Some(Stage::Matrix {
                rows,
                offset: [0.0; 3],
            }),
        );
    }
    stages
}

/// From the connection to the device: B curves, matrix, M curves, table, A curves. The other way it is
/// the same backwards.
fn multidimensional_stages(lut: &LutMultidimensionalType) -> Vec<Option<Stage>> {
    let curves = |curves: &[ToneReprCurve]| {
        let made = curves.iter().map(curve).collect::<Option<Vec<_>>>();
        (!curves.is_empty()).then(|| made.map(Stage::Curves))
    };
    let matrix = Stage::Matrix {
        rows: lut.matrix.v.map(|row| row.map(|value| value as f32)),
        offset: lut.bias.v.map(|value| value as f32),
    };
    let [p, q, r, s, ..] = lut.grid_points;
    let inputs = lut.num_input_channels.into();
    let stages = [
        curves(&lut.b_curves),
        (!lut.m_curves.is_empty()).then_some(Some(matrix)),
        curves(&lut.m_curves),
        lut.clut
            .as_ref()
            .map(|values| table(values, [p, q, r, s], inputs)),
        curves(&lut.a_curves),
    ];
    stages.into_iter().flatten().collect()
}

/// A table from 3 or 4 channels to 3.
fn table(store: &LutStore, points: [u8; 4], inputs: usize) -> Option<Stage> {
    let values = values(store);
    let used = points.get(..inputs)?;
    let entries: usize = used.iter().map(|&points| usize::from(points)).product();
    let fits =
        matches!(inputs, 3 | 4) && used.iter().all(|&n| n > 1) && values.len() == 3 * entries;
    fits.then_some(Stage::Table {
        values,
        points,
        inputs,
    })
}

fn values(store: &LutStore) -> Vec<f32> {
    match store {
        LutStore::Store8(values) => values.iter().map(|&v| f32::from(v) / 255.0).collect(),
        LutStore::Store16(values) => values.iter().map(|&v| f32::from(v) / 65_535.0).collect(),
    }
}

/// The curve of a profile.
pub(super) fn curve(curve: &ToneReprCurve) -> Option<ToneCurve> {
    let evaluator = curve.make_linear_evaluator().ok()?;
    ToneCurve::new(|value| evaluator.evaluate_value(value))
}
