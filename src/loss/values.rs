//! The values of a loss, read back from the device.

use std::fmt;

use serde::Serialize;

/// The tree of a loss with its values, in memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossValues {
    /// Name of the term or sum.
    pub name: String,
    /// What it is multiplied with in the sum above.
    pub weight: f64,
    /// The value before that: of the term, or the weighted sum of the parts.
    pub value: f64,
    /// The parts of a sum.
    pub parts: Vec<LossValues>,
}

impl LossValues {
    /// `weight · value`: what the term adds to the sum above it.
    pub fn weighted(&self) -> f64 {
        self.weight * self.value
    }

    /// The part with this path, such as `style` or `style/relu3_1`.
    pub fn get(&self, path: &str) -> Option<&LossValues> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let part = self.parts.iter().find(|part| part.name == first)?;
        if rest.is_empty() {
            Some(part)
        } else {
            part.get(rest)
        }
    }
}

/// `total 1.2e3 (content 0.3, style 12, tv 8e-4)`: the total and the unweighted parts.
impl fmt::Display for LossValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.4e}", self.name, self.weighted())?;
        for (index, part) in self.parts.iter().enumerate() {
            let open = if index == 0 { " (" } else { ", " };
            write!(f, "{open}{} {:.4e}", part.name, part.value)?;
        }
        if self.parts.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}
