//! Values of options that are more than a number or a name.

use std::error::Error;
use std::str::FromStr;

use impasto::Layer;
use impasto::picture::Depth;

/// A layer with an optional weight: `relu3_1` or `relu3_1:0.5`.
#[derive(Clone, Copy, Debug)]
pub struct WeightedLayer {
    pub layer: Layer,
    pub weight: Option<f64>,
}

impl FromStr for WeightedLayer {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (layer, weight) = match text.split_once(':') {
            Some((layer, weight)) => (layer, Some(weight)),
            None => (text, None),
        };
        let weight = weight
            .map(|weight| {
                weight.parse().map_err(|_| {
                    format!("`{weight}` is not a weight; expected a number such as 0.5")
                })
            })
            .transpose()?;
        Ok(Self {
            layer: layer.parse()?,
            weight,
        })
    }
}

/// `512x256`.
pub fn parse_canvas(text: &str) -> Result<(usize, usize), String> {
    let side = |side: &str| {
        side.parse()
            .ok()
            .filter(|side| (1..=1 << 16).contains(side))
    };
    let sides = text.split_once(['x', '×']);
    let sides = sides.and_then(|(width, height)| side(width).zip(side(height)));
    sides.ok_or("expected a size such as 512x256".to_string())
}

/// `8` or `16`.
pub fn parse_depth(text: &str) -> Result<Depth, String> {
    match text {
        "8" => Ok(Depth::Eight),
        "16" => Ok(Depth::Sixteen),
        _ => Err("expected 8 or 16".to_string()),
    }
}

/// `4GB`, `512MB`, `2GiB` or a number of bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "m" | "mb" => 1e6,
        "mib" => f64::from(1 << 20),
        "g" | "gb" => 1e9,
        "gib" => f64::from(1 << 30),
        _ => return Err("expected a size such as 4GB or 512MB".to_string()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * factor) as u64),
        _ => Err("expected a size such as 4GB or 512MB".to_string()),
    }
}

/// 8 to 64 hexadecimal digits.
pub fn parse_checksum(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits && (8..=64).contains(&text.len()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("expected 8 to 64 hexadecimal digits".into()),
    }
}
