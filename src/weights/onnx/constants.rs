//! Constants of a graph: initialisers, Constant nodes, and what simple operators make of them.

use std::collections::HashMap;
use std::path::{Component, Path};

use bytes::{Bytes, BytesMut};

use super::super::file;
use super::super::tensor::{Dtype, NamedTensor, product};
use super::proto::{Attribute, Graph, Node, OnnxTensor, look_up};

/// Most operators between an initialiser and its use.
const MAX_STEPS: usize = 16;

/// Most values of a constant that is computed with, such as a mean.
const MAX_NUMBERS: usize = 64;

/// A constant: where it is from and what is done to it.
#[derive(Clone)]
pub(super) struct Constant<'a> {
    origin: Origin<'a>,
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Origin<'a> {
    Tensor(&'a OnnxTensor),
    Floats(&'a [f32]),
    Ints(&'a [i64]),
    /// A single number.
    Float(f32),
    Int(i64),
}

/// What an operator makes of a constant without changing its values.
#[derive(Clone)]
enum Step {
    Transpose(Option<Vec<i64>>),
    Reshape(Vec<i64>),
    Unsqueeze(Vec<i64>),
    Squeeze(Option<Vec<i64>>),
}

/// The constants of a graph by name.
pub(super) struct Constants<'a> {
    named: HashMap<&'a str, Constant<'a>>,
    /// The model's file, beside which others may lie; `None` if it lies in an archive.
    place: Option<&'a Path>,
}

/// An attribute of a node.
pub(super) fn attribute<'a>(node: &'a Node, name: &str) -> Option<&'a Attribute> {
    node.attributes
        .iter()
        .find(|attribute| attribute.name == name)
}

impl<'a> Constants<'a> {
    pub fn new(graph: &'a Graph, place: Option<&'a Path>) -> Self {
        let named = graph.initializers.iter().map(|tensor| {
            let constant = Constant {
                origin: Origin::Tensor(tensor),
                steps: Vec::new(),
            };
            (tensor.name.as_str(), constant)
        });
        Self {
            named: named.collect(),
            place,
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// Takes note of a node that makes a constant; false if it is none.
    pub fn follow(&mut self, node: &'a Node) -> bool {
        let Some(output) = node.outputs.first() else {
            return false;
        };
        let constant = match node.operator.as_str() {
            "Constant" => origin(node).map(|origin| Constant {
                origin,
                steps: Vec::new(),
            }),
            _ => self.stepped(node),
        };
        match constant {
            Some(constant) => {
                self.named.insert(output, constant);
                true
            }
            None => false,
        }
    }

    /// What an operator makes of its first input, if that is a constant.
    fn stepped(&self, node: &Node) -> Option<Constant<'a>> {
        let mut constant = self.named.get(node.inputs.first()?.as_str())?.clone();
        // Sizes and axes: an attribute in older models, an input in newer ones.
        let stated = |name: &str| -> Option<Vec<i64>> {
            match attribute(node, name) {
                Some(attribute) => Some(attribute.ints.clone()),
                None => self.integers(node.inputs.get(1)?),
            }
        };
        let step = match node.operator.as_str() {
            // Exporters share equal tensors this way.
            "Identity" => return Some(constant),
            // To floating point, in which the values are read anyway.
            "Cast" | "CastLike" => {
                let to = attribute(node, "to").map_or(1, |to| to.int);
                return matches!(to, 1 | 10 | 11 | 16).then_some(constant);
            }
            "Transpose" => Step::Transpose(attribute(node, "perm").map(|perm| perm.ints.clone())),
            "Reshape" => Step::Reshape(stated("shape")?),
            "Unsqueeze" => Step::Unsqueeze(stated("axes")?),
            "Squeeze" => Step::Squeeze(stated("axes")),
            _ => return None,
        };
        constant.steps.push(step);
        (constant.steps.len() <= MAX_STEPS).then_some(constant)
    }

    /// A tensor of floating point numbers, wherever its values lie.
    pub fn tensor(&self, name: &str) -> Option<Result<NamedTensor, String>> {
        let constant = self.named.get(name)?;
        let tensor = match constant.origin {
            Origin::Tensor(tensor) => tensor.locate(name, self.place),
            Origin::Floats(values) => Ok(numbers(name, vec![values.len()], values)),
            Origin::Float(value) => Ok(numbers(name, Vec::new(), &[value])),
            Origin::Ints(_) | Origin::Int(_) => Err(format!("`{name}` holds integers")),
        };
        let apply = |tensor: NamedTensor, step: &Step| {
            step.apply(tensor)
                .ok_or_else(|| format!("`{name}` is brought to a shape that it cannot have"))
        };
        Some(tensor.and_then(|tensor| constant.steps.iter().try_fold(tensor, apply)))
    }

    /// The shape and the values of a small constant.
    pub fn numbers(&self, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        let constant = self.named.get(name)?;
        if let Origin::Tensor(tensor) = constant.origin
            && matches!(tensor.data_type, 6 | 7)
            && constant.steps.is_empty()
        {
            let values: Vec<f64> = self.integers(name)?.iter().map(|&v| v as f64).collect();
            let shape = if tensor.dims.is_empty() {
                Vec::new()
            } else {
                vec![values.len()]
            };
            return Some((shape, values));
        }
        let tensor = self.tensor(name)?.ok()?;
        let count = product(&tensor.shape)?;
        if count > MAX_NUMBERS || tensor.shape.len() > 8 || !tensor.is_whole() {
            return None;
        }
        let values = tensor.values().into_iter().map(f64::from).collect();
        Some((tensor.shape, values))
    }

    /// The values of a small constant of integers.
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let values = match self.named.get(name)?.origin {
            Origin::Ints(values) => values.to_vec(),
            Origin::Int(value) => vec![value],
            Origin::Tensor(tensor) => tensor.integers()?,
            Origin::Floats(_) | Origin::Float(_) => return None,
        };
        (values.len() <= MAX_NUMBERS).then_some(values)
    }
}

/// What a Constant node stands for.
fn origin(node: &Node) -> Option<Origin<'_>> {
    node.attributes.iter().find_map(|attribute| {
        Some(match attribute.name.as_str() {
            "value" => Origin::Tensor(attribute.tensor.as_ref()?),
            "value_float" => Origin::Float(attribute.float),
            "value_floats" => Origin::Floats(&attribute.floats),
            "value_int" => Origin::Int(attribute.int),
            "value_ints" => Origin::Ints(&attribute.ints),
            _ => return None,
        })
    })
}

/// A tensor of a few numbers.
fn numbers(name: &str, shape: Vec<usize>, values: &[f32]) -> NamedTensor {
    NamedTensor {
        name: name.to_string(),
        shape,
        strides: None,
        dtype: Dtype::F32,
        data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>()
            .into(),
    }
}

/// An axis, counted from the end if it is negative.
fn axis(axis: i64, dimensions: usize) -> Option<usize> {
    let positive = if axis < 0 {
        axis.checked_add(dimensions as i64)?
    } else {
        axis
    };
    usize::try_from(positive)
        .ok()
        .filter(|&axis| axis < dimensions)
}

impl Step {
    fn apply(&self, tensor: NamedTensor) -> Option<NamedTensor> {
        let dimensions = tensor.shape.len();
        let shape = match self {
            Step::Transpose(order) => {
                let axes: Vec<usize> = match order {
                    None => (0..dimensions).rev().collect(),
                    Some(order) => {
                        let axes = order.iter().map(|&a| axis(a, dimensions));
                        axes.collect::<Option<_>>()?
                    }
                };
                let mut sorted = axes.clone();
                sorted.sort_unstable();
                let complete = sorted.into_iter().eq(0..dimensions);
                return complete.then(|| tensor.permuted(&axes));
            }
            Step::Reshape(sizes) => reshaped(&tensor.shape, sizes)?,
            Step::Unsqueeze(axes) => {
                let new = dimensions + axes.len();
                let mut axes: Vec<usize> =
                    axes.iter().map(|&a| axis(a, new)).collect::<Option<_>>()?;
                axes.sort_unstable();
                axes.dedup();
                let mut old = tensor.shape.iter().copied();
                (0..new)
                    .map(|place| {
                        if axes.contains(&place) {
                            Some(1)
                        } else {
                            old.next()
                        }
                    })
                    .collect::<Option<_>>()?
            }
            Step::Squeeze(axes) => {
                let axes: Option<Vec<usize>> = axes
                    .as_ref()
                    .map(|axes| axes.iter().map(|&a| axis(a, dimensions)).collect())
                    .unwrap_or(Some((0..dimensions).collect()));
                let axes = axes?;
                let sizes = tensor.shape.iter().enumerate();
                let kept = sizes.filter(|(place, size)| **size != 1 || !axes.contains(place));
                kept.map(|(_, &size)| size).collect()
            }
        };
        // Values in another order cannot get another shape without being moved.
        if tensor.strides.is_some() {
            return None;
        }
        (shape.len() <= 8).then_some(NamedTensor { shape, ..tensor })
    }
}

/// The shape that Reshape gives: 0 keeps a size, −1 takes what is left.
fn reshaped(shape: &[usize], sizes: &[i64]) -> Option<Vec<usize>> {
    let count = product(shape)?;
    let mut rest = None;
    let mut new = Vec::new();
    for (place, &size) in sizes.iter().enumerate() {
        new.push(match size {
            0 => *shape.get(place)?,
            -1 => {
                rest = Some(place);
                1
            }
            size => usize::try_from(size).ok()?,
        });
    }
    if let Some(rest) = rest {
        new[rest] = count.checked_div(product(&new)?)?;
    }
    (product(&new)? == count).then_some(new)
}

impl OnnxTensor {
    /// Where the values lie: in the tensor's own bytes, in a list of numbers or in another file.
    fn locate(&self, name: &str, place: Option<&Path>) -> Result<NamedTensor, String> {
        let shape = self
            .dims
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| format!("`{name}` has the impossible shape {:?}", self.dims))?;
        let dtype = match self.data_type {
            1 => Dtype::F32,
            10 => Dtype::F16,
            11 => Dtype::F64,
            16 => Dtype::Bf16,
            other => {
                return Err(format!(
                    "`{name}` holds values of type {}, expected 16, 32 or 64 bits of floating point",
                    type_name(other)
                ));
            }
        };
        let data = if self.location == 1 {
            self.external_data(name, place)?
        } else if !self.raw.is_empty() {
            self.raw.clone()
        } else {
            let mut data = BytesMut::new();
            match dtype {
                Dtype::F32 => self
                    .floats
                    .iter()
                    .for_each(|v| data.extend(v.to_le_bytes())),
                Dtype::F64 => self
                    .doubles
                    .iter()
                    .for_each(|v| data.extend(v.to_le_bytes())),
                // Half precision is stored as its bits in 32-bit integers.
                Dtype::F16 | Dtype::Bf16 => self
                    .ints
                    .iter()
                    .for_each(|&v| data.extend((v as u16).to_le_bytes())),
            }
            data.freeze()
        };
        Ok(NamedTensor {
            name: name.to_string(),
            shape,
            strides: None,
            dtype,
            data,
        })
    }

    /// Data in a second file, which must lie in the model's own folder or below it.
    fn external_data(&self, name: &str, model: Option<&Path>) -> Result<Bytes, String> {
        let model = model.ok_or_else(|| {
            format!(
                "`{name}` has its data in a second file; unpack the archive and name the model in it"
            )
        })?;
        let entry = |key| look_up(&self.external, key);
        let number = |key| entry(key).map(str::parse::<u64>).transpose();
        let (Some(location), Ok(offset), Ok(length)) =
            (entry("location"), number("offset"), number("length"))
        else {
            return Err(format!("`{name}` does not say where its data are"));
        };
        let inside = Path::new(location)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(format!(
                "`{name}` refers to the file {location}, outside the model's folder"
            ));
        }
        let path = model.parent().unwrap_or(Path::new("")).join(location);
        let missing = |error| {
            format!(
                "`{name}` has its data in {}, which cannot be read ({error}); keep the two files \
                 together",
                path.display()
            )
        };
        let bytes = file::map(&path).map_err(missing)?;
        let start = offset.unwrap_or(0);
        let end = match length {
            Some(length) => start.checked_add(length),
            None => Some(bytes.len() as u64),
        };
        match end {
            Some(end) if start <= end && end <= bytes.len() as u64 => {
                Ok(bytes.slice(start as usize..end as usize))
            }
            _ => Err(format!(
                "`{name}` reaches past the end of {}",
                path.display()
            )),
        }
    }

    /// The values of a tensor of integers.
    fn integers(&self) -> Option<Vec<i64>> {
        if self.location == 1 || self.raw.len() > 8 * MAX_NUMBERS {
            return None;
        }
        Some(match self.data_type {
            6 if self.raw.is_empty() => self.ints.iter().map(|&value| value.into()).collect(),
            6 => {
                let values = self.raw.as_chunks().0;
                values
                    .iter()
                    .map(|&bytes| i32::from_le_bytes(bytes).into())
                    .collect()
            }
            7 if self.raw.is_empty() => self.longs.clone(),
            7 => {
                let values = self.raw.as_chunks().0;
                values
                    .iter()
                    .map(|&bytes| i64::from_le_bytes(bytes))
                    .collect()
            }
            _ => return None,
        })
    }
}

/// ONNX's name of an element type.
fn type_name(number: i32) -> String {
    let known = match number {
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        8 => "string",
        9 => "bool",
        12 => "uint32",
        13 => "uint64",
        14 => "complex64",
        15 => "complex128",
        17..=20 => "float8",
        _ => return format!("{number}"),
    };
    known.to_string()
}
