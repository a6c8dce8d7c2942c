//! VGG19's tensors among those of a file, whatever wraps their names.
//!
//! Programs save the same network as `features.0.weight`, `module.features.0.weight`,
//! `state_dict.model.0.weight`, `conv1_1.weight`, `block1_conv1/kernel:0` and more. A kernel's name is
//! read as a path, and kernels whose paths differ only in numbers belong together. Such a group is
//! VGG19, or its beginning, if its shapes are VGG19's and its names leave no doubt that none is
//! missing in between. Everything else in the file may be what it likes.

use std::collections::HashMap;

use super::foreign;
use super::kernels::{
    Kernel, Key, Named, ORDERS, families, group, in_order, kernels, path, split, without_numbers,
};
use super::names;
use super::tensor::{Listed, NamedTensor, Network};
use super::vgg19::{MAX_CHANNELS, expected_shape};
use crate::layer::Layer;

/// Where VGG19's tensors are in a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Places {
    pub weights: Vec<usize>,
    pub biases: Vec<usize>,
    pub projections: Vec<usize>,
    /// Axes of a kernel that are those of `[out, in, height, width]`.
    axes: [usize; 4],
}

/// The tensors of VGG19, or of its first convolutions, among those of a file.
///
/// # Errors
/// If they are not there, with what is; or if one of them cannot be read, with the reason.
pub(super) fn network(listed: Vec<Listed>) -> Result<Network, String> {
    let places = {
        let named: Vec<Named> = listed
            .iter()
            .map(|tensor| (tensor.name.as_str(), &tensor.shape[..]))
            .collect();
        let same = |a: usize, b: usize| match (&listed[a].tensor, &listed[b].tensor) {
            (Ok(a), Ok(b)) => a.dtype == b.dtype && a.strides == b.strides && a.data == b.data,
            _ => false,
        };
        locate(&named, same)?
    };
    let mut listed: Vec<Option<Listed>> = listed.into_iter().map(Some).collect();
    let mut take = |place: usize| -> Result<NamedTensor, String> {
        let tensor = listed[place].take().ok_or("a tensor is used twice")?;
        tensor.tensor
    };
    let mut network = Network::default();
    for (&weight, &bias) in places.weights.iter().zip(&places.biases) {
        let weight = take(weight)?;
        network.weights.push(match places.axes {
            [0, 1, 2, 3] => weight,
            axes => weight.permuted(&axes),
        });
        network.biases.push(Some(take(bias)?));
    }
    for &projection in &places.projections {
        network.projections.push(take(projection)?);
    }
    Ok(network)
}

/// Finds VGG19's tensors by their names and shapes; `same` tells whether two tensors have the same
/// values.
///
/// # Errors
/// If they are not there, with what is.
pub(super) fn locate(
    tensors: &[Named],
    same: impl Fn(usize, usize) -> bool,
) -> Result<Places, String> {
    let index: HashMap<&str, usize> = tensors
        .iter()
        .enumerate()
        .map(|(place, &(name, _))| (name, place))
        .collect();
    if index.contains_key(names::projection(0).as_str()) {
        return slim(tensors, &index);
    }
    let kernels = kernels(tensors);
    let normalized = batch_normalized(tensors);
    let mut found: Vec<Match> = Vec::new();
    for family in families(&kernels) {
        let matched = network_of(&family, &normalized);
        if let Some(matched) = matched {
            found.push(matched);
            continue;
        }
        // Two networks side by side. A block of one network alone could look like a short one.
        let parts = group(&family, |kernel| kernel.folder.clone());
        if parts.len() > 1 {
            let parts = parts
                .iter()
                .filter_map(|part| network_of(part, &normalized));
            found.extend(parts.filter(|matched| matched.kernels.len() >= 4));
        }
    }
    if found.is_empty() {
        found.extend(network_of(&kernels, &normalized));
    }
    let longest = found.iter().map(|matched| matched.kernels.len()).max();
    found.retain(|matched| Some(matched.kernels.len()) == longest);
    let Some((first, others)) = found.split_first() else {
        return Err(foreign::explain(tensors, &kernels));
    };
    for other in others {
        let mut pairs = first.kernels.iter().zip(&other.kernels);
        if !pairs.all(|(&a, &b)| same(a, b)) {
            return Err(format!(
                "it holds two networks like VGG19, with `{}` and with `{}`; save the one that is \
                 meant to a file of its own",
                tensors[first.kernels[0]].0, tensors[other.kernels[0]].0
            ));
        }
    }
    let mut biases = Vec::new();
    for &kernel in &first.kernels {
        let name = tensors[kernel].0;
        let bias = split(name).map(|(stem, leaf)| format!("{stem}{}", leaf.bias));
        let bias = bias.unwrap_or_default();
        let place = index.get(bias.as_str());
        biases.push(*place.ok_or_else(|| format!("`{bias}` is missing beside `{name}`"))?);
    }
    Ok(Places {
        weights: first.kernels.clone(),
        biases,
        projections: Vec::new(),
        axes: first.axes,
    })
}

/// The tensors of a slim network, which has torchvision's names and its own widths.
fn slim(tensors: &[Named], index: &HashMap<&str, usize>) -> Result<Places, String> {
    let all = |name: fn(usize) -> String| -> Vec<usize> {
        let places = (0..names::CONVOLUTIONS.len()).map(|number| index.get(name(number).as_str()));
        places.map_while(|place| place.copied()).collect()
    };
    let weights = all(names::weight);
    if weights.is_empty() {
        return Err(format!("`{}` is missing", names::weight(0)));
    }
    let mut biases = Vec::new();
    for number in 0..weights.len() {
        let name = names::bias(number);
        let place = index.get(name.as_str());
        biases.push(*place.ok_or_else(|| format!("`{name}` is missing"))?);
    }
    let known = |place: &usize| weights.contains(place) || biases.contains(place);
    let other = (0..tensors.len())
        .find(|place| tensors[*place].0.starts_with("features.") && !known(place));
    match other {
        Some(place) => Err(format!(
            "found `{}`, which belongs to no convolution of the {} before it",
            tensors[place].0,
            weights.len()
        )),
        None => Ok(Places {
            weights,
            biases,
            projections: all(names::projection),
            axes: ORDERS[0],
        }),
    }
}

/// Folders in which batch normalisations lie.
fn batch_normalized(tensors: &[Named]) -> Vec<String> {
    let stems = tensors.iter().filter_map(|(name, _)| {
        let stem = name.strip_suffix("running_mean")?;
        Some(path(stem).0.join("."))
    });
    stems.map(|folder| without_numbers(&folder)).collect()
}

/// A network found: its kernels and the order of their axes.
struct Match {
    kernels: Vec<usize>,
    axes: [usize; 4],
}

/// These kernels as VGG19 or its beginning.
fn network_of(kernels: &[Kernel], normalized: &[String]) -> Option<Match> {
    let first = kernels.first()?;
    // A parent, because the normalisation may have a name of its own beside the convolution.
    let parent = |family: &str| {
        family
            .rsplit_once('.')
            .map_or(String::new(), |(up, _)| up.into())
    };
    let is_normalized = |family: &String| {
        normalized.contains(family)
            || first.key == Key::None && normalized.contains(&parent(family))
    };
    if kernels.iter().any(|kernel| is_normalized(&kernel.family)) {
        return None;
    }
    let named = kernels
        .iter()
        .any(|kernel| matches!(kernel.key, Key::Layer(..)));
    let order = match named {
        true => by_layer(kernels)?,
        false => by_position(kernels)?,
    };
    let shapes = || order.iter().map(|kernel| kernel.shape);
    let axes = ORDERS.into_iter().find(|axes| fits(shapes(), axes))?;
    Some(Match {
        kernels: order.iter().map(|kernel| kernel.place).collect(),
        axes,
    })
}

/// The kernels whose names are those of layers, from the first on without a gap.
fn by_layer<'a, 'b>(kernels: &'b [Kernel<'a>]) -> Option<Vec<&'b Kernel<'a>>> {
    let mut layers: [Option<&Kernel>; 16] = [None; 16];
    for kernel in kernels {
        let Key::Layer(block, number) = kernel.key else {
            continue;
        };
        // VGG's fully connected layers are called conv6 and so on where they are convolutions.
        if block > 5 {
            continue;
        }
        let name = format!("conv{block}_{number}");
        let index = (0..16).find(|&index| Layer::convolution(index).to_string() == name)?;
        if layers[index].replace(kernel).is_some() {
            return None;
        }
    }
    let count = layers.iter().filter(|layer| layer.is_some()).count();
    let start: Vec<&Kernel> = layers.into_iter().map_while(|layer| layer).collect();
    (start.len() == count).then_some(start)
}

/// The kernels in the order of their names, if none can be missing in between.
fn by_position<'a, 'b>(kernels: &'b [Kernel<'a>]) -> Option<Vec<&'b Kernel<'a>>> {
    let mut order = in_order(kernels);
    let last = order.iter().rposition(|kernel| kernel.is_3x3())?;
    // What comes after may be a classifier.
    order.truncate(last + 1);
    if order.len() > names::CONVOLUTIONS.len() {
        return None;
    }
    let positions: Option<Vec<usize>> = order
        .iter()
        .map(|kernel| match kernel.key {
            Key::Position(position) => Some(position),
            _ => None,
        })
        .collect();
    let known = positions.is_some_and(|positions| {
        let offset = positions.first().copied().unwrap_or(0);
        let expected = names::CONVOLUTIONS
            .iter()
            .map(|&position| position.checked_add(offset));
        positions
            .iter()
            .map(|&position| Some(position))
            .eq(expected.take(positions.len()))
    });
    // Up to the ninth, each has a shape that the one after it has not; then they repeat.
    let unique = matches!(order.len(), 8 | 9 | 16);
    (known || unique).then_some(order)
}

/// Whether these are the shapes of VGG19's first kernels, in this order of axes.
pub(super) fn fits<'a>(shapes: impl Iterator<Item = &'a [usize]>, axes: &[usize; 4]) -> bool {
    let mut width = 0;
    let mut shapes = shapes.enumerate();
    shapes.all(|(index, shape)| {
        let Ok(shape) = <[usize; 4]>::try_from(shape) else {
            return false;
        };
        let shape = axes.map(|axis| shape[axis]);
        if index == 0 {
            width = shape[0];
        }
        (1..=MAX_CHANNELS).contains(&width) && shape == expected_shape(index, width)
    })
}
