//! The normalisation in a file's metadata.
//!
//! `normalization.mean` and `normalization.std` are three numbers in the order R, G, B, in units of
//! `input.range` (`0-255` or `0-1`); `input.channels` is `RGB` or `BGR`.

#[cfg(feature = "pretrained")]
use std::collections::BTreeMap;

use crate::normalization::Normalization;

/// Reads the normalisation, if the metadata state one that is complete and usable.
pub(super) fn read<'a>(metadata: impl Fn(&str) -> Option<&'a str>) -> Option<Normalization> {
    let triple = |key| -> Option<[f32; 3]> {
        let numbers: Vec<f32> = metadata(key)?
            .split(|c: char| !(c.is_ascii_alphanumeric() || ".-+".contains(c)))
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().ok().filter(|number: &f32| number.is_finite()))
            .collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let mean = triple("normalization.mean")?;
    let std = triple("normalization.std")?;
    if std.iter().any(|&std| std <= 0.0) {
        return None;
    }
    let range = match metadata("input.range") {
        Some(range) if range.contains("255") => 255.0,
        Some(_) => 1.0,
        None if mean.iter().all(|&mean| mean <= 1.0) => 1.0,
        None => 255.0,
    };
    Some(Normalization {
        range,
        mean,
        std,
        bgr: metadata("input.channels").is_some_and(|order| order.eq_ignore_ascii_case("bgr")),
    })
}

/// Metadata that state a normalisation.
#[cfg(feature = "pretrained")]
pub(super) fn write(normalization: &Normalization) -> BTreeMap<String, String> {
    let Normalization {
        range,
        mean,
        std,
        bgr,
    } = normalization;
    let triple = |[r, g, b]: [f32; 3]| format!("{r}, {g}, {b}");
    let entries = [
        ("normalization.mean", triple(*mean)),
        ("normalization.std", triple(*std)),
        ("input.range", format!("0-{range}")),
        ("input.channels", if *bgr { "BGR" } else { "RGB" }.into()),
    ];
    entries
        .map(|(key, value)| (key.to_string(), value))
        .into_iter()
        .collect()
}

/// A normalisation in words, for messages.
#[cfg(feature = "pretrained")]
pub(crate) fn describe(normalization: &Normalization) -> String {
    let Normalization {
        range,
        mean,
        std,
        bgr,
    } = normalization;
    let triple = |values: &[f32; 3]| values.map(|value| value.to_string()).join(", ");
    let order = if *bgr { "BGR" } else { "RGB" };
    format!(
        "{order}, 0 to {range}, mean {}, deviation {}",
        triple(mean),
        triple(std)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metadata_states_the_normalisation() {
        let caffe = |key: &str| match key {
            "normalization.mean" => Some("[123.68, 116.779, 103.939]"),
            "normalization.std" => Some("1,1,1"),
            "input.range" => Some("0-255"),
            _ => None,
        };
        assert_eq!(read(caffe), Some(Normalization::CAFFE));
        assert_eq!(read(|_| None), None);
        assert_eq!(read(|_| Some("1,nan,2")), None);
        assert_eq!(read(|_| Some("0,0,0")), None);
    }

    proptest! {
        /// Whatever the metadata say, a normalisation that is read can be computed with.
        #[test]
        fn any_metadata_give_a_usable_normalisation_or_none(
            mean in text(), std in text(), range in prop::option::of(text()), order in text(),
        ) {
            let entry = |key: &str| match key {
                "normalization.mean" => Some(mean.as_str()),
                "normalization.std" => Some(std.as_str()),
                "input.range" => range.as_deref(),
                _ => Some(order.as_str()),
            };
            if let Some(read) = read(entry) {
                prop_assert!(read.mean.iter().all(|mean| mean.is_finite()));
                prop_assert!(read.std.iter().all(|&std| std > 0.0 && std.is_finite()));
                prop_assert!(read.range == 1.0 || read.range == 255.0);
            }
        }

        #[cfg(feature = "pretrained")]
        #[test]
        fn what_is_written_is_read_back(
            mean in prop::array::uniform3(any::<f32>()), std in prop::array::uniform3(any::<f32>()),
            large in any::<bool>(), bgr in any::<bool>(),
        ) {
            let range = if large { 255.0 } else { 1.0 };
            let normalization = Normalization { range, mean, std, bgr };
            let entries = write(&normalization);
            let usable = mean.iter().all(|mean| mean.is_finite())
                && std.iter().all(|&std| std > 0.0 && std.is_finite());
            let expected = usable.then_some(normalization);
            prop_assert_eq!(read(|key| Some(entries.get(key)?)), expected);
        }
    }

    /// Three numbers, or something like them.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[\\[(]?[0-9]{1,3}[.]?[0-9]{0,3}[, ]{1,2}[0-9.]{1,5}, ?[0-9.e-]{1,6}\\]?",
            "(nan|inf|-?[0-9]{1,40}|1e99|0x1|[, \\[]){0,5}",
            any::<String>(),
        ]
    }
}
