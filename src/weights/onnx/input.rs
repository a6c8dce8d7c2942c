//! What a graph does to its input before the first convolution: a normalisation, if it is one.
//!
//! Each value is followed as channels of the input, each times a number plus a number. Arithmetic
//! with constants, BatchNormalization, convolutions of one pixel and choices of channels keep this
//! form; whatever else there is ends it.

use std::collections::HashMap;

use super::constants::{Constants, attribute};
use super::proto::Node;
use crate::normalization::Normalization;

/// A channel of the graph's input, times a scale plus an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Channel {
    source: usize,
    scale: f64,
    offset: f64,
}

/// Where the channels lie among the axes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// As a convolution takes them, `[batch, channel, height, width]`.
    First,
    /// As files of pictures have them, `[batch, height, width, channel]`.
    Last,
}

/// A value that is made of the input's channels.
#[derive(Clone, Debug)]
struct Value {
    channels: Vec<Channel>,
    /// `None` while nothing tells.
    layout: Option<Layout>,
    /// Pixels of zeros around it.
    padding: usize,
}

/// The values between a graph's input and its first convolution.
#[derive(Default)]
pub(super) struct Input<'a> {
    /// Values by name; `None` for those that are made in another way, by the operator named.
    values: HashMap<&'a str, Result<Value, &'a str>>,
}

/// What the first convolution sees.
pub(super) struct Seen {
    pub normalization: Option<Normalization>,
    /// Pixels of zeros around it.
    pub padding: usize,
}

impl<'a> Input<'a> {
    /// Takes note of a node before the first convolution.
    pub fn follow(&mut self, node: &'a Node, constants: &Constants) {
        let results = self.results(node, constants);
        for (number, output) in node.outputs.iter().enumerate() {
            let result = results
                .as_ref()
                .and_then(|results| results.get(number).cloned());
            let result = result.ok_or(node.operator.as_str());
            // What comes after an operator that is not understood is that operator's fault.
            let result = result.map_err(|operator| self.cause(node).unwrap_or(operator));
            self.values.insert(output, result);
        }
    }

    /// The operator that made an input of this node what it is.
    fn cause(&self, node: &Node) -> Option<&'a str> {
        node.inputs
            .iter()
            .find_map(|name| match self.values.get(name.as_str()) {
                Some(Err(operator)) => Some(*operator),
                _ => None,
            })
    }

    /// What a convolution of the network that takes this value sees.
    ///
    /// # Errors
    /// If it is something else than the normalised input, with the operator that made it so.
    pub fn seen(&self, name: &str) -> Result<Seen, &'a str> {
        let Some(value) = self.values.get(name) else {
            return Ok(Seen {
                normalization: None,
                padding: 0,
            });
        };
        let value = value.as_ref().map_err(|operator| *operator)?;
        if value.layout == Some(Layout::Last) {
            return Err("of another order of axes");
        }
        Ok(Seen {
            normalization: normalization(&value.channels).map_err(|()| "of an unusual kind")?,
            padding: value.padding,
        })
    }

    /// A value by name; one that nothing made is the graph's input.
    fn value(&self, name: &str, constants: &Constants) -> Option<Value> {
        match self.values.get(name) {
            Some(value) => value.clone().ok(),
            None if name.is_empty() || constants.contains(name) => None,
            None => Some(Value {
                channels: (0..3)
                    .map(|source| Channel {
                        source,
                        scale: 1.0,
                        offset: 0.0,
                    })
                    .collect(),
                layout: None,
                padding: 0,
            }),
        }
    }

    /// What a node makes, if it keeps the form.
    fn results(&self, node: &Node, constants: &Constants) -> Option<Vec<Value>> {
        let input = |index: usize| node.inputs.get(index).map(String::as_str);
        let operator = node.operator.as_str();
        if let "Add" | "Sub" | "Mul" | "Div" = operator {
            return Some(vec![self.arithmetic(
                operator,
                input(0)?,
                input(1)?,
                constants,
            )?]);
        }
        if operator == "Concat" {
            let inputs = node.inputs.iter();
            let values: Vec<Value> = inputs
                .map(|name| self.value(name, constants))
                .collect::<Option<_>>()?;
            let mut joined = on_channels(values.first()?.clone(), attribute(node, "axis")?.int)?;
            joined.channels = values
                .iter()
                .flat_map(|value| value.channels.clone())
                .collect();
            return (joined.channels.len() <= 3).then(|| vec![joined]);
        }
        let mut value = self.value(input(0)?, constants)?;
        let list = |name: &str, place: usize| -> Option<Vec<i64>> {
            match attribute(node, name) {
                Some(attribute) => Some(attribute.ints.clone()),
                None => constants.integers(input(place)?),
            }
        };
        match operator {
            "Identity" | "Dropout" => {}
            "Cast" if matches!(attribute(node, "to")?.int, 1 | 10 | 11 | 16) => {}
            "Unsqueeze" if value.channels.len() == 1 => {}
            "BatchNormalization" => {
                let mut numbers = [1, 2, 3, 4].map(|place| constants.numbers(input(place)?));
                let [scale, bias, mean, variance] = numbers
                    .each_mut()
                    .map(|numbers| numbers.take().map(|(_, values)| values));
                let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
                let epsilon = attribute(node, "epsilon").map_or(1e-5, |a| f64::from(a.float));
                value = on_channels(value, 1)?;
                for (index, channel) in value.channels.iter_mut().enumerate() {
                    let factor = scale.get(index)? / (variance.get(index)? + epsilon).sqrt();
                    channel.scale *= factor;
                    channel.offset =
                        (channel.offset - mean.get(index)?) * factor + bias.get(index)?;
                }
            }
            "Conv" => value.channels = mixed(&value, node, constants)?,
            "Transpose" => {
                let (from, to) = match attribute(node, "perm")?.ints[..] {
                    [0, 3, 1, 2] => (Layout::Last, Layout::First),
                    [0, 2, 3, 1] => (Layout::First, Layout::Last),
                    _ => return None,
                };
                if value.layout.is_some_and(|layout| layout != from) {
                    return None;
                }
                value.layout = Some(to);
            }
            "Gather" => {
                value = on_channels(value, attribute(node, "axis").map_or(0, |axis| axis.int))?;
                let chosen = constants.integers(input(1)?)?;
                value.channels = picked(&value.channels, &chosen)?;
            }
            "Slice" => {
                let axes = list("axes", 3)?;
                let [axis] = axes[..] else { return None };
                value = on_channels(value, axis)?;
                let (start, end) = (list("starts", 1)?, list("ends", 2)?);
                let step = input(4).map_or(Some(vec![1]), |name| constants.integers(name))?;
                let count = value.channels.len() as i64;
                let ([start], [end], [step]) = (&start[..], &end[..], &step[..]) else {
                    return None;
                };
                let place = |at: i64| if at < 0 { at.saturating_add(count) } else { at };
                let chosen: Vec<i64> = match step {
                    1 => (place(*start).max(0)..place(*end).min(count)).collect(),
                    -1 => {
                        let last = place(*start).min(count - 1);
                        (place(*end).max(-1) + 1..=last).rev().collect()
                    }
                    _ => return None,
                };
                value.channels = picked(&value.channels, &chosen)?;
            }
            "Split" => {
                value = on_channels(value, attribute(node, "axis").map_or(0, |axis| axis.int))?;
                if node.outputs.len() != value.channels.len() {
                    return None;
                }
                let one = |channel: &Channel| Value {
                    channels: vec![*channel],
                    ..value.clone()
                };
                return Some(value.channels.iter().map(one).collect());
            }
            "Pad" => {
                if !is_zero_padding(node, constants) || value.padding != 0 {
                    return None;
                }
                value = on_channels(value, 1)?;
                value.padding = 1;
            }
            _ => return None,
        }
        Some(vec![value])
    }

    /// A value and a constant, added and so on.
    fn arithmetic(
        &self,
        operator: &str,
        left: &str,
        right: &str,
        constants: &Constants,
    ) -> Option<Value> {
        let (mut value, constant, swapped) = match constants.contains(right) {
            true => (self.value(left, constants)?, right, false),
            false => (self.value(right, constants)?, left, true),
        };
        // The zeros around it would no longer be zeros.
        if value.padding != 0 {
            return None;
        }
        let (shape, numbers) = constants.numbers(constant)?;
        if numbers.len() > 1 {
            // The one axis that is not 1 must be that of the channels.
            let from_the_end = shape.iter().rev().position(|&size| size == numbers.len())?;
            let layout = match from_the_end {
                0 => Layout::Last,
                2 => Layout::First,
                _ => return None,
            };
            if numbers.len() != value.channels.len()
                || value.layout.is_some_and(|known| known != layout)
            {
                return None;
            }
            value.layout = Some(layout);
        }
        for (index, channel) in value.channels.iter_mut().enumerate() {
            let number = *numbers
                .get(index)
                .or(numbers.first().filter(|_| numbers.len() == 1))?;
            let Channel { scale, offset, .. } = *channel;
            (channel.scale, channel.offset) = match (operator, swapped) {
                ("Add", _) => (scale, offset + number),
                ("Sub", false) => (scale, offset - number),
                ("Sub", true) => (-scale, number - offset),
                ("Mul", _) => (scale * number, offset * number),
                ("Div", false) if number != 0.0 => (scale / number, offset / number),
                _ => return None,
            };
        }
        Some(value)
    }
}

/// A value whose channels lie along this axis, where nothing contradicts it.
fn on_channels(mut value: Value, axis: i64) -> Option<Value> {
    let layout = match axis {
        1 | -3 => Layout::First,
        3 | -1 => Layout::Last,
        _ => return None,
    };
    if value.layout.is_some_and(|known| known != layout) {
        return None;
    }
    value.layout = Some(layout);
    Some(value)
}

fn picked(channels: &[Channel], chosen: &[i64]) -> Option<Vec<Channel>> {
    let pick = |&index: &i64| {
        let index = if index < 0 {
            index.checked_add(channels.len() as i64)?
        } else {
            index
        };
        channels.get(usize::try_from(index).ok()?).copied()
    };
    let picked: Vec<Channel> = chosen.iter().map(pick).collect::<Option<_>>()?;
    (1..=3).contains(&picked.len()).then_some(picked)
}

/// What a convolution of one pixel makes of the channels, if each output is one input, scaled.
fn mixed(value: &Value, node: &Node, constants: &Constants) -> Option<Vec<Channel>> {
    if value.layout == Some(Layout::Last) || value.padding != 0 {
        return None;
    }
    let plain = node
        .attributes
        .iter()
        .all(|attribute| match attribute.name.as_str() {
            "pads" => attribute.ints.iter().all(|&pad| pad == 0),
            "strides" | "dilations" => attribute.ints.iter().all(|&step| step == 1),
            "group" => attribute.int == 1,
            _ => true,
        });
    let (shape, matrix) = constants.numbers(node.inputs.get(1)?)?;
    if !plain || value.channels.len() != 3 || shape != [3, 3, 1, 1] {
        return None;
    }
    let bias = match node.inputs.get(2).filter(|name| !name.is_empty()) {
        Some(name) => constants.numbers(name)?.1,
        None => vec![0.0; 3],
    };
    let rows = matrix.chunks_exact(3).zip(&bias);
    let mixed: Vec<Channel> = rows
        .map(|(row, bias)| {
            let mut used = row
                .iter()
                .zip(&value.channels)
                .filter(|(factor, _)| **factor != 0.0);
            let (factor, channel) = used.next()?;
            used.next().is_none().then_some(Channel {
                source: channel.source,
                scale: factor * channel.scale,
                offset: factor * channel.offset + bias,
            })
        })
        .collect::<Option<_>>()?;
    (mixed.len() == 3).then_some(mixed)
}

/// The normalisation that channels stand for; `None` if they are the input's own.
fn normalization(channels: &[Channel]) -> Result<Option<Normalization>, ()> {
    let channels: [Channel; 3] = channels.try_into().map_err(|_| ())?;
    let own = |(index, channel): (usize, &Channel)| {
        *channel
            == Channel {
                source: index,
                scale: 1.0,
                offset: 0.0,
            }
    };
    if channels.iter().enumerate().all(own) {
        return Ok(None);
    }
    let bgr = match channels.map(|channel| channel.source) {
        [0, 1, 2] => false,
        [2, 1, 0] => true,
        _ => return Err(()),
    };
    let mut mean = [0.0; 3];
    let mut std = [0.0; 3];
    for channel in channels {
        if !(channel.scale > 0.0 && channel.scale.is_finite() && channel.offset.is_finite()) {
            return Err(());
        }
        // No −0.
        mean[channel.source] = (-channel.offset / channel.scale) as f32 + 0.0;
        std[channel.source] = (1.0 / channel.scale) as f32;
    }
    Normalization::from_units(mean, std)
        .map(|normalization| Normalization {
            bgr: normalization.bgr != bgr,
            ..normalization
        })
        .map(Some)
        .ok_or(())
}
/// Whether a node puts one pixel of zeros on each side.
pub(super) fn is_zero_padding(node: &Node, constants: &Constants) -> bool {
    let input = |index: usize| {
        let name = node.inputs.get(index).map(String::as_str);
        name.filter(|name| !name.is_empty())
    };
    let constant = attribute(node, "mode")
        .is_none_or(|mode| mode.text.is_empty() || &mode.text[..] == b"constant");
    let zeros = match input(2) {
        Some(name) => {
            let fill = constants.numbers(name);
            fill.is_some_and(|(_, values)| values.iter().all(|&value| value == 0.0))
        }
        None => attribute(node, "value").is_none_or(|value| value.float == 0.0),
    };
    let pads = match attribute(node, "pads") {
        Some(pads) => Some(pads.ints.clone()),
        None => input(1).and_then(|name| constants.integers(name)),
    };
    constant && zeros && pads.is_some_and(|pads| pads == [0, 0, 1, 1, 0, 0, 1, 1])
}
