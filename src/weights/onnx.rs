//! Weights out of an ONNX model.
//!
//! Only the few fields that lead to the convolutions are declared here; prost skips the others, and
//! tensor data stay slices of the file. `onnx-ir` would parse the whole model, infer the types of
//! every node and copy the weights. Nothing of this is needed here, and it refuses models for
//! operators after the layers of interest. Field numbers are those of `onnx.proto`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::tensor::{Dtype, NamedTensor, ParsedFile};
use super::{file, metadata, names};

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    metadata: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<OnnxTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    int: i64,
    #[prost(bytes = "bytes", tag = "4")]
    text: Bytes,
    #[prost(message, optional, tag = "5")]
    tensor: Option<OnnxTensor>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxTensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    floats: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    ints: Vec<i32>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw: Bytes,
    #[prost(double, repeated, tag = "10")]
    doubles: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    external: Vec<KeyValue>,
    #[prost(int32, tag = "14")]
    location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// How many messages, names and sizes are read. VGG19 has a few hundred.
const MAX_ITEMS: usize = 200_000;

/// The messages above, as far as they contain others.
#[derive(Clone, Copy)]
enum Part {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Entry,
}

/// Counts what decoding would make objects of. An empty message takes two bytes of a file but a
/// hundred in memory; values of tensors take no more than a few times their own size.
///
/// # Errors
/// If there are more than `left`, or the file is damaged.
fn count(mut bytes: &[u8], part: Part, left: &mut usize) -> Result<(), String> {
    let damaged = |error| format!("damaged or incomplete ONNX file ({error}); get it again");
    let cut_short = || "incomplete ONNX file; get it again".to_string();
    while !bytes.is_empty() {
        let (tag, wire) = decode_key(&mut bytes).map_err(damaged)?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut bytes).map_err(damaged)?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut bytes).map_err(damaged)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err("damaged ONNX file: it holds groups; get it again".to_string());
            }
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let contents = bytes.get(..length).ok_or_else(cut_short)?;
        let (inner, items) = match (part, tag) {
            (Part::Model, 7) => (Some(Part::Graph), 1),
            (Part::Model, 14) | (Part::Tensor, 13) => (Some(Part::Entry), 1),
            (Part::Graph, 1) => (Some(Part::Node), 1),
            (Part::Graph, 5) | (Part::Attribute, 5) => (Some(Part::Tensor), 1),
            (Part::Node, 5) => (Some(Part::Attribute), 1),
            // Lists of sizes, packed or one by one.
            (Part::Tensor, 1) | (Part::Attribute, 8) => (None, length.max(1)),
            (Part::Node, _) | (Part::Entry, _) => (None, 1),
            _ => (None, 0),
        };
        *left = left.checked_sub(items).ok_or_else(|| {
            format!("the ONNX file holds more than {MAX_ITEMS} parts; is it another network?")
        })?;
        if let (Some(inner), WireType::LengthDelimited) = (inner, wire) {
            count(contents, inner, left)?;
        }
        bytes.advance(length);
    }
    Ok(())
}

fn look_up<'a>(list: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let entry = list.iter().find(|entry| entry.key == key)?;
    Some(&entry.value)
}

/// Finds the convolutions in the order of the graph, which ONNX requires to be the order of
/// evaluation.
pub(super) fn parse(bytes: Bytes, path: &Path) -> Result<ParsedFile, String> {
    count(&bytes, Part::Model, &mut MAX_ITEMS.clone())?;
    let model = Model::decode(bytes)
        .map_err(|error| format!("damaged or incomplete ONNX file ({error}); get it again"))?;
    let normalization = metadata::read(|key| look_up(&model.metadata, key));
    let graph = model.graph.ok_or("the ONNX file holds no graph")?;

    let mut constants: HashMap<&str, &OnnxTensor> = HashMap::new();
    for tensor in &graph.initializers {
        constants.insert(&tensor.name, tensor);
    }
    let mut tensors = BTreeMap::new();
    let mut count = 0;
    let mut foreign: Option<&str> = None;
    for node in &graph.nodes {
        match node.operator.as_str() {
            "Constant" => {
                let value = node.attributes.iter().find(|a| a.name == "value");
                if let (Some(output), Some(tensor)) =
                    (node.outputs.first(), value.and_then(|a| a.tensor.as_ref()))
                {
                    constants.insert(output, tensor);
                }
            }
            // Exporters share equal tensors this way.
            "Identity" => {
                if let ([input], [output]) = (&node.inputs[..], &node.outputs[..])
                    && let Some(&tensor) = constants.get(input.as_str())
                {
                    constants.insert(output, tensor);
                }
            }
            "Conv" => {
                let number = count + 1;
                if number > names::CONVOLUTIONS.len() {
                    return Err("it holds more than VGG19's 16 convolutions".to_string());
                }
                if let Some(operator) = foreign {
                    return Err(format!(
                        "there is an operator {operator} before convolution {number}, where VGG19 \
                         has none; is it another network, such as one with batch normalisation?"
                    ));
                }
                check_convolution(node, number)?;
                let input = |index: usize| {
                    let name = node.inputs.get(index).filter(|name| !name.is_empty())?;
                    Some(match constants.get(name.as_str()) {
                        Some(tensor) => tensor.locate(name, path),
                        None => Err(format!(
                            "`{name}`, an input of convolution {number}, is no constant of the \
                             model; export it with its weights"
                        )),
                    })
                };
                let weight =
                    input(1).ok_or_else(|| format!("convolution {number} has no kernel"))?;
                tensors.insert(names::weight(count), weight?);
                if let Some(bias) = input(2) {
                    tensors.insert(names::bias(count), bias?);
                }
                count = number;
            }
            "Relu" | "MaxPool" | "AveragePool" | "Dropout" => {}
            // The classifier's; before a convolution they would change what it sees.
            other => foreign = foreign.or(Some(other)),
        }
    }
    Ok(ParsedFile {
        tensors,
        normalization,
    })
}

/// Refuses convolutions that are not VGG19's: its own have stride 1, padding 1 and nothing else.
fn check_convolution(node: &Node, number: usize) -> Result<(), String> {
    let padded = node.attributes.iter().any(|attribute| {
        attribute.name == "pads" && !attribute.ints.is_empty()
            || attribute.name == "auto_pad" && attribute.text.starts_with(b"SAME")
    });
    if !padded {
        return Err(format!(
            "convolution {number} has no padding, where VGG19 has 1 pixel"
        ));
    }
    for attribute in &node.attributes {
        let ok = match attribute.name.as_str() {
            "strides" | "dilations" | "pads" => attribute.ints.iter().all(|&value| value == 1),
            "group" => attribute.int == 1,
            _ => true,
        };
        if !ok {
            return Err(format!(
                "convolution {number} (`{}`) has {} {:?}, expected 1 as in VGG19; is it another \
                 network?",
                node.name,
                attribute.name,
                if attribute.ints.is_empty() {
                    std::slice::from_ref(&attribute.int)
                } else {
                    &attribute.ints
                }
            ));
        }
    }
    Ok(())
}

impl OnnxTensor {
    /// Where the values lie: in the tensor's own bytes, in a list of numbers or in another file.
    fn locate(&self, name: &str, path: &Path) -> Result<NamedTensor, String> {
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
                    "`{name}` has ONNX element type {other}, expected floating point numbers"
                ));
            }
        };
        let data = if self.location == 1 {
            self.external_data(name, path)?
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
            dtype,
            data,
        })
    }

    /// Data in a second file, which must lie in the model's own folder or below it.
    fn external_data(&self, name: &str, model: &Path) -> Result<Bytes, String> {
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
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::weights::tensor::tests::number;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    /// A protobuf field that holds bytes.
    fn field(number: u64, contents: &[u8]) -> Vec<u8> {
        [
            varint(number << 3 | 2),
            varint(contents.len() as u64),
            contents.to_vec(),
        ]
        .concat()
    }

    /// Protobuf fields, nested in each other, of any number and type.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let tag = || prop_oneof![1u64..15, number()];
        let text = select(vec![
            &b"Conv"[..],
            b"Relu",
            b"Constant",
            b"Identity",
            b"a",
            b"b",
            b"value",
            b"pads",
            b"\x01\x01\x01\x01",
            b"location",
            b"\xff",
            b"",
        ]);
        let leaf = prop_oneof![
            (tag(), number()).prop_map(|(tag, v)| [varint(tag << 3), varint(v)].concat()),
            (tag(), text).prop_map(|(tag, text)| field(tag, text)),
            (tag(), 1u64..8, any::<u64>()).prop_map(|(tag, wire, v)| {
                [&varint(tag << 3 | wire)[..], &v.to_le_bytes()].concat()
            }),
        ];
        leaf.prop_recursive(5, 64, 8, move |inner| {
            (tag(), prop::collection::vec(inner, 0..8))
                .prop_map(|(tag, fields)| field(tag, &fields.concat()))
        })
    }

    /// A model with such fields in it, in its graph, or in a node or tensor of that.
    pub fn model() -> impl Strategy<Value = Vec<u8>> {
        (prop::collection::vec(message(), 0..12), 0..4).prop_map(|(fields, wrap)| {
            let fields = fields.concat();
            let inner = match wrap {
                0 => fields,
                1 => field(7, &fields),
                2 => field(7, &field(1, &fields)),
                _ => field(
                    7,
                    &[field(5, &fields), field(1, &field(4, b"Conv"))].concat(),
                ),
            };
            [&[8, 8][..], &inner].concat()
        })
    }

    /// Objects that decoding has made.
    fn objects(model: &Model) -> usize {
        let tensor = |tensor: &OnnxTensor| 1 + tensor.dims.len() + tensor.external.len();
        let attribute = |attribute: &Attribute| {
            1 + attribute.ints.len() + attribute.tensor.as_ref().map_or(0, tensor)
        };
        let node = |node: &Node| {
            let attributes = node.attributes.iter().map(attribute);
            1 + node.inputs.len() + node.outputs.len() + attributes.sum::<usize>()
        };
        let graph = model.graph.iter();
        let graph = graph.map(|graph| {
            let tensors = graph.initializers.iter().map(tensor);
            1 + graph.nodes.iter().map(node).sum::<usize>() + tensors.sum::<usize>()
        });
        model.metadata.len() + graph.sum::<usize>()
    }

    proptest! {
        /// What is counted before decoding is no less than what decoding makes.
        #[test]
        fn decoding_makes_no_more_than_was_counted(bytes in model(), most in 0usize..40) {
            let mut left = most;
            let counted = count(&bytes, Part::Model, &mut left);
            if let (Ok(()), Ok(model)) = (counted, Model::decode(&bytes[..])) {
                prop_assert!(objects(&model) <= most - left);
            }
            let length = bytes.len();
            if let Ok(parsed) = parse(bytes.into(), Path::new("nowhere/hostile")) {
                for tensor in parsed.tensors.values() {
                    // A value of half precision may take a single byte in the file.
                    prop_assert!(tensor.data.len() <= 2 * length);
                }
            }
        }
    }
}
