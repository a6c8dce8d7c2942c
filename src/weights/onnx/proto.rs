//! The few messages of ONNX that lead to the convolutions, and bounds on them. Field numbers are those
//! of `onnx.proto`.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    pub metadata: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub initializers: Vec<OnnxTensor>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub float: f32,
    #[prost(int64, tag = "3")]
    pub int: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub text: Bytes,
    #[prost(message, optional, tag = "5")]
    pub tensor: Option<OnnxTensor>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OnnxTensor {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub floats: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub ints: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub longs: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub raw: Bytes,
    #[prost(double, repeated, tag = "10")]
    pub doubles: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    pub external: Vec<KeyValue>,
    #[prost(int32, tag = "14")]
    pub location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// How many messages, names and sizes are read. VGG19 has a few hundred.
pub(super) const MAX_ITEMS: usize = 200_000;

/// The messages above, as far as they contain others.
#[derive(Clone, Copy)]
pub(super) enum Part {
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
pub(super) fn count(mut bytes: &[u8], part: Part, left: &mut usize) -> Result<(), String> {
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
            // Lists of sizes and the like, packed or one by one.
            (Part::Tensor, 1 | 7) | (Part::Attribute, 7 | 8) => (None, length.max(1)),
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

pub(super) fn look_up<'a>(list: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let entry = list.iter().find(|entry| entry.key == key)?;
    Some(&entry.value)
}
