//! Weights out of an ONNX model.
//!
//! Only the few fields that lead to the convolutions are declared; prost skips the others, and tensor
//! data stay slices of the file. `onnx-ir` would parse the whole model, infer the types of every node
//! and copy the weights. Nothing of this is needed here, and it refuses models for operators after
//! the layers of interest.

mod constants;
mod input;
mod proto;

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use self::constants::{Constants, attribute};
use self::input::{Input, is_zero_padding};
use self::proto::{Graph, MAX_ITEMS, Model, Node, Part, count, look_up};
use super::source::NormalizationSource;
use super::tensor::{Contents, NamedTensor, Network, ParsedFile};
use super::{foreign, kernels, metadata, names};
use crate::normalization::Normalization;

/// Finds the convolutions in the order of the graph, which ONNX requires to be the order of
/// evaluation. A second file with data may lie beside the model's `place`.
pub(super) fn parse(bytes: Bytes, place: Option<&Path>) -> Result<ParsedFile, String> {
    count(&bytes, Part::Model, &mut MAX_ITEMS.clone())?;
    let model = Model::decode(bytes)
        .map_err(|error| format!("damaged or incomplete ONNX file ({error}); get it again"))?;
    let stated = metadata::read(|key| look_up(&model.metadata, key));
    let graph = model.graph.ok_or(
        "the file holds no ONNX graph; it may be incomplete, or a TensorFlow SavedModel or a Core ML \
         model, which begin alike: convert those to ONNX or safetensors",
    )?;
    let (network, computed) = convolutions(&graph, place).map_err(|problem| {
        explain(&graph).map_or(problem.clone(), |name| format!("{problem} ({name})"))
    })?;
    let computed = computed.map(|normalization| (normalization, NormalizationSource::Graph));
    let stated = stated.map(|normalization| (normalization, NormalizationSource::File));
    Ok(ParsedFile {
        contents: Contents::Network(network),
        normalization: computed.or(stated),
    })
}

/// What the network is, by the names and shapes of its initialisers.
fn explain(graph: &Graph) -> Option<String> {
    let shape = |dims: &[i64]| {
        dims.iter()
            .map(|&size| usize::try_from(size).unwrap_or(0))
            .collect()
    };
    let shapes: Vec<Vec<usize>> = graph
        .initializers
        .iter()
        .map(|tensor| shape(&tensor.dims))
        .collect();
    let names = graph.initializers.iter().map(|tensor| tensor.name.as_str());
    let named: Vec<kernels::Named> = names.zip(shapes.iter().map(|shape| &shape[..])).collect();
    let network = foreign::identify(&named, &kernels::kernels(&named))?;
    Some(format!(
        "the model is {network}; get VGG19's weights with `impasto weights download`"
    ))
}

/// The convolutions of a graph and the normalisation before them.
fn convolutions(
    graph: &Graph,
    place: Option<&Path>,
) -> Result<(Network, Option<Normalization>), String> {
    let mut constants = Constants::new(graph, place);
    let mut input = Input::default();
    let mut network = Network::default();
    let mut normalization = None;
    // The operator after the first convolution that VGG19 has not.
    let mut foreign: Option<&str> = None;
    // What a node has put around what the next convolution sees.
    let mut padding = 0;
    for node in &graph.nodes {
        if constants.follow(node) {
            continue;
        }
        let first = network.weights.is_empty();
        match node.operator.as_str() {
            "Conv" if first && of_one_pixel(node, &constants) => input.follow(node, &constants),
            "Conv" => {
                let number = network.weights.len() + 1;
                if number > names::CONVOLUTIONS.len() {
                    return Err("it holds more than VGG19's 16 convolutions".to_string());
                }
                if first {
                    let name = node.inputs.first().map_or("", String::as_str);
                    let seen = input
                        .seen(name)
                        .map_err(|operator| unexpected(operator, number))?;
                    (normalization, padding) = (seen.normalization, seen.padding);
                }
                if let Some(operator) = foreign {
                    return Err(unexpected(operator, number));
                }
                check_convolution(node, number, padding)?;
                padding = 0;
                let tensor = |index: usize| -> Option<Result<NamedTensor, String>> {
                    let name = node.inputs.get(index).filter(|name| !name.is_empty())?;
                    Some(constants.tensor(name).unwrap_or_else(|| {
                        Err(format!(
                            "`{name}`, an input of convolution {number}, is no constant of the \
                             model; export it with its weights"
                        ))
                    }))
                };
                let weight =
                    tensor(1).ok_or_else(|| format!("convolution {number} has no kernel"))?;
                network.weights.push(weight?);
                network.biases.push(tensor(2).transpose()?);
            }
            _ if first => input.follow(node, &constants),
            "Pad" if padding == 0 && is_zero_padding(node, &constants) => padding = 1,
            // A pool behind it would see it, too.
            "MaxPool" | "AveragePool" if padding > 0 => foreign = foreign.or(Some("Pad")),
            "Relu" | "MaxPool" | "AveragePool" | "Dropout" | "Identity" | "Cast" => {}
            // The classifier's; before a convolution they would change what it sees.
            other => foreign = foreign.or(Some(other)),
        }
    }
    let shapes: Vec<&[usize]> = network
        .weights
        .iter()
        .map(|weight| &weight.shape[..])
        .collect();
    match foreign::vgg_of(&shapes) {
        Some(name) if name != "VGG19" => Err(format!(
            "this is {name}, whose convolutions are not VGG19's"
        )),
        _ => Ok((network, normalization)),
    }
}

fn unexpected(operator: &str, number: usize) -> String {
    format!(
        "there is an operator {operator} before convolution {number}, where VGG19 has none; is it \
         another network, such as one with batch normalisation?"
    )
}

/// Whether the kernel is one that mixes the colours of single pixels.
fn of_one_pixel(node: &Node, constants: &Constants) -> bool {
    let kernel = node.inputs.get(1).and_then(|name| constants.numbers(name));
    kernel.is_some_and(|(shape, _)| shape == [3, 3, 1, 1])
}

/// Refuses convolutions that are not VGG19's: its own have stride 1, padding 1 and nothing else.
/// `padding` was already there.
fn check_convolution(node: &Node, number: usize, padding: usize) -> Result<(), String> {
    let same = attribute(node, "auto_pad").is_some_and(|mode| mode.text.starts_with(b"SAME"));
    let pads = attribute(node, "pads").map_or(&[][..], |pads| &pads.ints);
    let own = match pads {
        _ if same => 1,
        [] => 0,
        [first, ..] => *first,
    };
    let total = own.checked_add(padding as i64);
    if total != Some(1) || !same && pads.iter().any(|&pad| pad != own) {
        let found = match total {
            Some(0) => "no padding".to_string(),
            _ => format!("a padding of {pads:?}"),
        };
        return Err(format!(
            "convolution {number} has {found}, where VGG19 has 1 pixel on each side; is it another \
             network?"
        ));
    }
    for attribute in &node.attributes {
        let ok = match attribute.name.as_str() {
            "strides" | "dilations" => attribute.ints.iter().all(|&value| value == 1),
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

#[cfg(test)]
pub(super) mod tests {
    use super::proto::{Attribute, OnnxTensor};
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
            b"Cast",
            b"Sub",
            b"Div",
            b"BatchNormalization",
            b"Transpose",
            b"Reshape",
            b"Unsqueeze",
            b"Squeeze",
            b"Gather",
            b"Slice",
            b"Split",
            b"Concat",
            b"Pad",
            b"perm",
            b"axis",
            b"axes",
            b"\x02\x01\x00",
            b"\x00\x03\x01\x02",
            b"\x00\x00\x80\x3f\x00\x00\x80\x3f\x00\x00\x80\x3f",
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
        let tensor = |tensor: &OnnxTensor| {
            1 + tensor.dims.len() + tensor.longs.len() + tensor.external.len()
        };
        let attribute = |attribute: &Attribute| {
            1 + attribute.ints.len()
                + attribute.floats.len()
                + attribute.tensor.as_ref().map_or(0, tensor)
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
            let parsed = parse(bytes.into(), Some(Path::new("nowhere/hostile")));
            if let Ok(ParsedFile { contents: Contents::Network(network), .. }) = parsed {
                for tensor in network.weights.iter().chain(network.biases.iter().flatten()) {
                    // A value of half precision may take a single byte in the file.
                    prop_assert!(tensor.data.len() <= 2 * length);
                }
            }
        }
    }
}
