//! Weights out of a PyTorch file: a state dictionary in the zip format (since 1.6) or in the older
//! one, in which torchvision's own files are published.
//!
//! Both describe the tensors by a pickle, a program for a small stack machine. The machine here
//! knows the instructions that build data and no way to call anything: a name such as
//! `torch._utils._rebuild_tensor_v2` is only compared with the few names that a state dictionary
//! uses, and every other one leaves an inert placeholder. Objects live in an arena and refer to each
//! other by number, so that no file, however nested or shared, costs more than its own length.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use bytes::Bytes;

use super::names;
use super::tensor::{Dtype, NamedTensor, ParsedFile};

/// Longest pickle that is interpreted. VGG19's is under 10 kB; an object takes up to 64 bytes of
/// memory for each byte of it.
const MAX_PICKLE: usize = 1 << 20;

/// Most files in a zip archive. VGG19's has about 60.
const MAX_FILES: u64 = 10_000;

/// Longest name of a tensor or of its data that is looked at.
const MAX_NAME: usize = 1000;

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// Finds the tensors; their values stay where they are.
pub(super) fn parse(bytes: Bytes) -> Result<ParsedFile, String> {
    let tensors = if bytes.starts_with(b"PK") {
        read_zip(&bytes)
    } else {
        read_legacy(&bytes)
    };
    let tensors =
        tensors.map_err(|error| format!("damaged or unsupported PyTorch file: {error}"))?;
    names::check(&tensors)?;
    Ok(ParsedFile {
        tensors,
        normalization: None,
    })
}

type Tensors = BTreeMap<String, NamedTensor>;

fn read_zip(bytes: &Bytes) -> Result<Tensors, String> {
    if stated_files(bytes).is_some_and(|files| files > MAX_FILES) {
        return Err(format!("the zip archive holds more than {MAX_FILES} files"));
    }
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes.clone()))
        .map_err(|error| format!("the zip archive cannot be read ({error})"))?;
    let index = archive
        .file_names()
        .flatten()
        .find(|name| name == "data.pkl" || name.ends_with("/data.pkl"))
        .map(|name| name.into_owned())
        .ok_or("the zip archive holds no data.pkl")?;
    let folder = index.trim_end_matches("data.pkl").to_string();
    let mut entry = |name: &str| -> Result<Bytes, String> {
        let entry = archive
            .by_name(name)
            .map_err(|error| format!("`{name}`: {error}"))?;
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(format!("`{name}` is compressed, which PyTorch never does"));
        }
        let start = entry.data_start();
        let end = start.and_then(|start| Some((start, start.checked_add(entry.size())?)));
        match end {
            Some((start, end)) if end <= bytes.len() as u64 => {
                Ok(bytes.slice(start as usize..end as usize))
            }
            _ => Err(format!("`{name}` reaches past the end of the file")),
        }
    };
    if let Ok(order) = entry(&format!("{folder}byteorder"))
        && &order[..] != b"little"
    {
        return Err("it was written on a big-endian machine".to_string());
    }
    let pickle = entry(&index)?;
    let (machine, root, _) = Machine::run(&pickle)?;
    machine.state_dict(root, &mut |key| entry(&format!("{folder}data/{key}")))
}

/// How many files a zip archive says it holds, in either of the two places where it may: all of them
/// would be listed in memory at once.
fn stated_files(bytes: &[u8]) -> Option<u64> {
    // The last record, before a comment.
    let from = bytes.len().saturating_sub(22 + 0xffff);
    let record = from + bytes[from..].windows(4).rposition(|w| w == b"PK\x05\x06")?;
    let small = u16::from_le_bytes(*bytes.get(record + 10..)?.first_chunk()?);
    let large = || {
        let locator = bytes.get(record.checked_sub(20)?..record)?;
        let offset = locator.strip_prefix(b"PK\x06\x07")?.get(4..)?;
        let offset = usize::try_from(u64::from_le_bytes(*offset.first_chunk()?)).ok()?;
        let count = bytes.get(offset.checked_add(32)?..)?.first_chunk()?;
        Some(u64::from_le_bytes(*count))
    };
    Some(large().unwrap_or(0).max(small.into()))
}

/// The format before 1.6: pickles of a magic number, a version, facts on the writer, the state
/// dictionary and the keys of its storages, then the storages one after another.
fn read_legacy(bytes: &Bytes) -> Result<Tensors, String> {
    let mut at = 0;
    let mut next = || -> Result<(Machine, Id), String> {
        let (machine, root, length) = Machine::run(&bytes[at..])?;
        at += length;
        Ok((machine, root))
    };
    for _ in ["magic number", "version", "writer"] {
        next()?;
    }
    let (machine, root) = next()?;
    let (keys, list) = next()?;
    let dtypes = machine.storage_types();
    let mut storages = HashMap::new();
    let cut_short = || "the file ends before its last tensor".to_string();
    for &key in keys.items(list)? {
        let key = keys.text(key)?;
        let dtype = *dtypes
            .get(key)
            .ok_or_else(|| format!("storage `{key}` belongs to no tensor"))?;
        let (count, rest) = bytes[at..].split_first_chunk().ok_or_else(cut_short)?;
        let length = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(dtype))
            .filter(|&length| length <= rest.len())
            .ok_or_else(cut_short)?;
        at += 8;
        if storages.contains_key(key) {
            return Err(format!("storage `{key}` is there twice"));
        }
        storages.insert(key.to_string(), bytes.slice(at..at + length));
        at += length;
    }
    machine.state_dict(root, &mut |key| {
        let storage = storages.get(key).cloned();
        storage.ok_or_else(|| format!("storage `{key}` is missing"))
    })
}

/// Place of an object in the arena.
type Id = usize;

#[derive(Debug)]
enum Object {
    /// Something of no concern: None, numbers with a fraction, results of unknown calls.
    Inert,
    Int(i64),
    Text(String),
    /// A name that the pickle would import: module and item.
    Global(String, String),
    Items(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage {
        /// Bytes of an element, and its type where it is one that weights have.
        size: usize,
        dtype: Option<Dtype>,
        key: Id,
    },
    Tensor {
        storage: Id,
        offset: Id,
        shape: Id,
        stride: Id,
    },
}

/// The stack machine of Python's `pickle` (protocols 2 to 4), without calls.
struct Machine {
    arena: Vec<Object>,
    /// Bytes and items that copies may still take. Everything else comes from the file itself, once.
    budget: usize,
}

impl Machine {
    /// Interprets the pickle at the start of `bytes`; returns its result and its length.
    fn run(bytes: &[u8]) -> Result<(Self, Id, usize), String> {
        let bytes = &bytes[..bytes.len().min(MAX_PICKLE)];
        let mut machine = Self {
            arena: Vec::new(),
            budget: MAX_PICKLE,
        };
        let mut code = Code { bytes, at: 0 };
        let mut stack: Vec<Id> = Vec::new();
        let mut marks: Vec<usize> = Vec::new();
        let mut memo: HashMap<usize, Id> = HashMap::new();
        let empty = || "the pickle takes from an empty stack".to_string();

        loop {
            let instruction = code.byte()?;
            let object = match instruction {
                b'.' => {
                    let root = stack.pop().ok_or_else(empty)?;
                    return Ok((machine, root, code.at));
                }
                0x80 => {
                    code.byte()?;
                    continue;
                }
                0x95 => {
                    code.take(8)?;
                    continue;
                }
                b'(' => {
                    marks.push(stack.len());
                    continue;
                }
                b'0' => {
                    stack.pop().ok_or_else(empty)?;
                    continue;
                }
                b'1' => {
                    stack.truncate(marks.pop().ok_or_else(empty)?);
                    continue;
                }
                b'2' => {
                    stack.push(*stack.last().ok_or_else(empty)?);
                    continue;
                }
                // Remembering and recalling.
                b'q' | b'r' | 0x94 => {
                    let slot = match instruction {
                        b'q' => code.byte()? as usize,
                        b'r' => code.length4()?,
                        _ => memo.len(),
                    };
                    memo.insert(slot, *stack.last().ok_or_else(empty)?);
                    continue;
                }
                b'h' | b'j' => {
                    let slot = match instruction {
                        b'h' => code.byte()? as usize,
                        _ => code.length4()?,
                    };
                    let id = memo
                        .get(&slot)
                        .ok_or("the pickle recalls what it never had")?;
                    stack.push(*id);
                    continue;
                }
                // Filling lists and dictionaries.
                b'a' | b'e' | b's' | b'u' => {
                    let from = match instruction {
                        b'a' => stack.len().checked_sub(1),
                        b's' => stack.len().checked_sub(2),
                        _ => marks.pop().filter(|&mark| mark <= stack.len()),
                    };
                    let items = stack.split_off(from.ok_or_else(empty)?);
                    let &target = stack.last().ok_or_else(empty)?;
                    match &mut machine.arena[target] {
                        Object::Items(list) => list.extend(items),
                        Object::Dict(entries) => {
                            entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                        }
                        _ => {}
                    }
                    continue;
                }
                // An object's attributes: of no concern.
                b'b' => {
                    stack.pop().ok_or_else(empty)?;
                    continue;
                }
                b'N' | 0x88 | 0x89 => Object::Inert,
                b'G' => {
                    code.take(8)?;
                    Object::Inert
                }
                b'K' => Object::Int(code.byte()?.into()),
                b'M' => Object::Int(u16::from_le_bytes(code.array()?).into()),
                b'J' => Object::Int(i32::from_le_bytes(code.array()?).into()),
                0x8a | 0x8b => {
                    let length = match instruction {
                        0x8a => code.byte()? as usize,
                        _ => code.length4()?,
                    };
                    code.integer(length)?
                }
                b'U' | 0x8c | b'C' => {
                    let length = code.byte()? as usize;
                    code.text(length)?
                }
                b'T' | b'X' | b'B' => {
                    let length = code.length4()?;
                    code.text(length)?
                }
                0x8d | 0x8e => {
                    let length = u64::from_le_bytes(code.array()?);
                    code.text(usize::try_from(length).unwrap_or(usize::MAX))?
                }
                b'}' => Object::Dict(Vec::new()),
                b']' | b')' => Object::Items(Vec::new()),
                b't' | b'l' | b'd' => {
                    let mark = marks.pop().filter(|&mark| mark <= stack.len());
                    let items = stack.split_off(mark.ok_or_else(empty)?);
                    match instruction {
                        b'd' => Object::Dict(
                            items
                                .chunks_exact(2)
                                .map(|pair| (pair[0], pair[1]))
                                .collect(),
                        ),
                        _ => Object::Items(items),
                    }
                }
                0x85..=0x87 => {
                    let count = instruction as usize - 0x84;
                    let from = stack.len().checked_sub(count).ok_or_else(empty)?;
                    Object::Items(stack.split_off(from))
                }
                b'c' => Object::Global(code.line()?, code.line()?),
                0x93 => {
                    let name = stack.pop().ok_or_else(empty)?;
                    let module = stack.pop().ok_or_else(empty)?;
                    let length = machine.text(module)?.len() + machine.text(name)?.len();
                    machine.spend(length)?;
                    Object::Global(
                        machine.text(module)?.to_string(),
                        machine.text(name)?.to_string(),
                    )
                }
                // A call: answered only for the few names that a state dictionary uses.
                b'R' | 0x81 => {
                    let arguments = stack.pop().ok_or_else(empty)?;
                    let callee = stack.pop().ok_or_else(empty)?;
                    if let Ok(&[entries]) = machine.items(arguments)
                        && let Ok(entries) = machine.items(entries)
                    {
                        machine.spend(entries.len())?;
                    }
                    match machine.answer(callee, arguments)? {
                        Answer::Existing(id) => {
                            stack.push(id);
                            continue;
                        }
                        Answer::New(object) => object,
                    }
                }
                // A reference to a storage.
                b'Q' => {
                    let reference = stack.pop().ok_or_else(empty)?;
                    machine.storage(reference)?
                }
                other => {
                    return Err(format!(
                        "the pickle uses instruction {other:#04x}, which a state dictionary has \
                         no need of"
                    ));
                }
            };
            stack.push(machine.arena.len());
            machine.arena.push(object);
        }
    }

    /// Accounts for a copy.
    fn spend(&mut self, amount: usize) -> Result<(), String> {
        let rest = self.budget.checked_sub(amount);
        self.budget = rest.ok_or("the pickle repeats itself without end")?;
        Ok(())
    }

    fn text(&self, id: Id) -> Result<&str, String> {
        match &self.arena[id] {
            Object::Text(text) => Ok(text),
            other => Err(format!("expected a name, found {}", other.kind())),
        }
    }

    fn items(&self, id: Id) -> Result<&[Id], String> {
        match &self.arena[id] {
            Object::Items(items) => Ok(items),
            other => Err(format!("expected a list, found {}", other.kind())),
        }
    }

    fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self.arena[id] {
            Object::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    fn size(&self, id: Id) -> Result<usize, String> {
        match self.arena[id] {
            Object::Int(value) => {
                usize::try_from(value).map_err(|_| format!("a size of {value} is impossible"))
            }
            ref other => Err(format!("expected a size, found {}", other.kind())),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        self.items(id)?.iter().map(|&id| self.size(id)).collect()
    }

    fn answer(&self, callee: Id, arguments: Id) -> Result<Answer, String> {
        let Object::Global(module, name) = &self.arena[callee] else {
            return Ok(Answer::New(Object::Inert));
        };
        let arguments = self.items(arguments)?;
        Ok(match (module.as_str(), name.as_str(), arguments) {
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor", arguments) => {
                let &[storage, offset, shape, stride, ..] = arguments else {
                    return Err("a tensor is described incompletely".to_string());
                };
                Answer::New(Object::Tensor {
                    storage,
                    offset,
                    shape,
                    stride,
                })
            }
            ("torch._utils", "_rebuild_parameter", &[tensor, ..]) => Answer::Existing(tensor),
            // Python 2 hands over the entries as a list of pairs.
            ("collections", "OrderedDict", &[entries]) => {
                let pair = |&id: &Id| match self.items(id)? {
                    &[key, value] => Ok((key, value)),
                    _ => Err("a dictionary's entry is no pair".to_string()),
                };
                let entries: Result<_, String> = self.items(entries)?.iter().map(pair).collect();
                Answer::New(Object::Dict(entries?))
            }
            ("collections", "OrderedDict", _) => Answer::New(Object::Dict(Vec::new())),
            _ => Answer::New(Object::Inert),
        })
    }

    /// `('storage', type, key, device, count[, view])`.
    fn storage(&self, reference: Id) -> Result<Object, String> {
        let &[_, kind, key, _, _, ref view @ ..] = self.items(reference)? else {
            return Err("a storage is described incompletely".to_string());
        };
        if let Some(&view) = view.first()
            && !matches!(self.arena[view], Object::Inert)
        {
            return Err("it shares storages in a way that is not supported".to_string());
        }
        let (size, dtype) = match &self.arena[kind] {
            Object::Global(_, name) => match name.as_str() {
                "HalfStorage" => (2, Some(Dtype::F16)),
                "BFloat16Storage" => (2, Some(Dtype::Bf16)),
                "FloatStorage" => (4, Some(Dtype::F32)),
                "DoubleStorage" => (8, Some(Dtype::F64)),
                "LongStorage" => (8, None),
                "IntStorage" => (4, None),
                "ShortStorage" => (2, None),
                "CharStorage" | "ByteStorage" | "BoolStorage" => (1, None),
                other => return Err(format!("storages of type `{other}` are not supported")),
            },
            other => return Err(format!("expected a type, found {}", other.kind())),
        };
        Ok(Object::Storage { size, dtype, key })
    }

    /// Bytes of an element, for each storage.
    fn storage_types(&self) -> HashMap<&str, usize> {
        let storages = self.arena.iter().filter_map(|object| match object {
            Object::Storage { size, key, .. } => Some((self.text(*key).ok()?, *size)),
            _ => None,
        });
        storages.collect()
    }

    /// The tensors of the dictionary at `root`, or of its entry `state_dict`.
    fn state_dict(
        &self,
        root: Id,
        storage: &mut dyn FnMut(&str) -> Result<Bytes, String>,
    ) -> Result<Tensors, String> {
        let entries = self.entries(root).ok_or_else(|| {
            format!(
                "expected a state dictionary, found {}; save it with \
                 `torch.save(model.state_dict(), …)`",
                self.arena[root].kind()
            )
        })?;
        // Checkpoints of a training run keep it beside other things.
        let inner = entries.iter().find_map(|&(key, value)| {
            matches!(self.text(key), Ok("state_dict" | "model"))
                .then(|| self.entries(value))
                .flatten()
        });

        let mut tensors = Tensors::new();
        for &(key, value) in inner.unwrap_or(entries) {
            let (
                Ok(name),
                Object::Tensor {
                    storage: id,
                    offset,
                    shape,
                    stride,
                },
            ) = (self.text(key), &self.arena[value])
            else {
                continue;
            };
            let Object::Storage {
                dtype: Some(dtype),
                key,
                ..
            } = self.arena[*id]
            else {
                continue;
            };
            let key = self.text(key)?;
            // What is long can be referred to again and again, and copied each time.
            let dimensions = self.items(*shape)?.len().max(self.items(*stride)?.len());
            if name.len().max(key.len()) > MAX_NAME || dimensions > MAX_DIMENSIONS {
                return Err("it holds a tensor of an impossible name or shape".to_string());
            }
            let shape = self.sizes(*shape)?;
            let reach = |sizes: &[usize]| {
                sizes
                    .iter()
                    .try_fold(dtype.size(), |n, &size| n.checked_mul(size))
            };
            let mut contiguous = Vec::new();
            for axis in 0..shape.len() {
                contiguous.push(reach(&shape[axis + 1..]).map(|bytes| bytes / dtype.size()));
            }
            let stride = self.sizes(*stride)?;
            if !stride.iter().copied().map(Some).eq(contiguous) {
                return Err(format!(
                    "`{name}` is stored with strides {stride:?}; save it after `.contiguous()`"
                ));
            }
            let data = storage(key)?;
            let start = self.size(*offset)?.checked_mul(dtype.size());
            let range = start.zip(reach(&shape)).and_then(|(start, length)| {
                let end = start.checked_add(length)?;
                (end <= data.len()).then_some(start..end)
            });
            let range =
                range.ok_or_else(|| format!("`{name}` reaches past the end of its data"))?;
            tensors.insert(
                name.to_string(),
                NamedTensor {
                    name: name.to_string(),
                    shape,
                    dtype,
                    data: data.slice(range),
                },
            );
        }
        Ok(tensors)
    }
}

/// What a call yields.
enum Answer {
    Existing(Id),
    New(Object),
}

impl Object {
    fn kind(&self) -> &'static str {
        match self {
            Object::Inert => "something else",
            Object::Int(_) => "a number",
            Object::Text(_) => "a text",
            Object::Global(..) => "a name to import",
            Object::Items(_) => "a list",
            Object::Dict(_) => "a dictionary",
            Object::Storage { .. } => "a storage",
            Object::Tensor { .. } => "a tensor",
        }
    }
}

/// The instructions, read from front to back.
struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Code<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("the pickle ends too early, or is too long")?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many bytes as taken"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn length4(&mut self) -> Result<usize, String> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn text(&mut self, length: usize) -> Result<Object, String> {
        let text = String::from_utf8_lossy(self.take(length)?);
        Ok(Object::Text(text.into_owned()))
    }

    /// A two's complement number; those longer than 64 bits occur only as magic numbers.
    fn integer(&mut self, length: usize) -> Result<Object, String> {
        let bytes = self.take(length)?;
        if bytes.len() > 8 {
            return Ok(Object::Inert);
        }
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut number = [if negative { 0xff } else { 0 }; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        Ok(Object::Int(i64::from_le_bytes(number)))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or("the pickle ends too early")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::weights::tensor::tests::{assert_views, number};

    /// Instructions of a pickle, most of them with arguments.
    fn pickle() -> impl Strategy<Value = Vec<u8>> {
        let instruction = prop_oneof![
            4 => select(b"(.)}]tldRQbasu012eN\x81\x85\x86\x87\x88\x93\x94".to_vec()).prop_map(|b| vec![b]),
            2 => (select(b"qhKU".to_vec()), 0u8..9).prop_map(|(op, n)| vec![op, n]),
            1 => (select(b"rjJXTB\x8b".to_vec()), number())
                .prop_map(|(op, n)| [&[op][..], &n.to_le_bytes()[..4]].concat()),
            1 => (select(vec![0x8du8, 0x8e, 0x95, 0x8a]), number())
                .prop_map(|(op, n)| [&[op][..], &n.to_le_bytes()].concat()),
            3 => select(vec![
                &b"ctorch._utils\n_rebuild_tensor_v2\n"[..],
                b"ccollections\nOrderedDict\n",
                b"ctorch\nFloatStorage\n",
                b"cposix\nsystem\n",
                b"X\x07\0\0\0storage",
                b"X\x01\0\0\x000",
                b"X\x11\0\0\0features.0.weight",
                b"X\x0f\0\0\0features.0.bias",
                b"K\x03K\x03K\x03",
            ]).prop_map(<[u8]>::to_vec),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(instruction, 0..60).prop_map(|instructions| instructions.concat())
    }

    /// The start of a file in PyTorch's older format, up to the state dictionary.
    const LEGACY: &[u8] =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

    /// A PyTorch file in the newer format with this pickle.
    fn zip_of(pickle: &[u8]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for (name, contents) in [("x/data.pkl", pickle), ("x/data/0", &[0; 108])] {
            archive.start_file(name, stored).unwrap();
            archive.write_all(contents).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    /// A file in either format with such pickles.
    pub fn file() -> impl Strategy<Value = Vec<u8>> {
        (pickle(), pickle(), any::<bool>()).prop_map(|(first, second, zipped)| match zipped {
            true => zip_of(&first),
            false => [LEGACY, &first, b".", &second, b".", &[0; 64]].concat(),
        })
    }

    /// A pickle that would run `os.system("touch pwned")` in Python.
    #[test]
    fn a_call_in_a_pickle_is_never_made() {
        let pickle = b"\x80\x02cposix\nsystem\nX\x0b\0\0\0touch pwned\x85R.";
        let (machine, root, length) = Machine::run(pickle).unwrap();
        assert!(matches!(machine.arena[root], Object::Inert));
        assert_eq!(length, pickle.len());
        let error = machine.state_dict(root, &mut |_| unreachable!());
        assert!(error.unwrap_err().contains("state_dict()"));
    }

    #[test]
    fn damaged_pickles_give_errors() {
        for pickle in [
            &b""[..],
            b"\x80",
            b".",
            b"0.",
            b"R.",
            b"Q.",
            b"(1u.",
            b"h\x05.",
            b"X\xff\xff\xff\xffabc",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            b"cposix",
            b"]]a1.",
            b"K\x01K\x02\x86Q.",
            b"\xff.",
        ] {
            let error = Machine::run(pickle).err();
            assert!(error.is_some(), "{pickle:?}");
        }
    }

    /// A file that loads: the first convolution, all zeros.
    fn good() -> Vec<u8> {
        let tensor = |name: &str, shape: &[u8], stride: &[u8]| {
            let sizes = |sizes: &[u8]| {
                let sizes: Vec<u8> = sizes.iter().flat_map(|&size| [b'K', size]).collect();
                [b"(", &sizes[..], b"t"].concat()
            };
            [
                &[b'X', name.len() as u8, 0, 0, 0][..],
                name.as_bytes(),
                b"ctorch._utils\n_rebuild_tensor_v2\n(\
                    (X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x1btQ\
                    K\0",
                &sizes(shape),
                &sizes(stride),
                b"tR",
            ]
            .concat()
        };
        let weight = tensor("features.0.weight", &[1, 3, 3, 3], &[27, 9, 3, 1]);
        let bias = tensor("features.0.bias", &[1], &[1]);
        zip_of(&[b"\x80\x02}(", &weight[..], &bias, b"u."].concat())
    }

    #[test]
    fn a_small_file_is_read() {
        let parsed = parse(good().into()).unwrap();
        assert_eq!(parsed.tensors["features.0.weight"].shape, [1, 3, 3, 3]);
        assert_views(&parsed, good().len());
    }

    proptest! {
        /// Whatever the bytes, there is an answer, and a dictionary that comes out is readable.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(
            prop_oneof![
                select(b"(.)}]tldRQbqhKMJNUXsuae012cX\x80\x81\x85\x86\x87\x93\x94"
                    .to_vec()),
                any::<u8>(),
            ],
            0..200,
        )) {
            if let Ok((machine, root, length)) = Machine::run(&bytes) {
                prop_assert!(length <= bytes.len());
                let _ = machine.state_dict(root, &mut |_| Ok(Bytes::new()));
            }
        }

        #[test]
        fn damaged_files_give_views(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = good();
            let length = bytes.len();
            for (place, byte) in edits {
                bytes[place.index(length)] = byte;
            }
            if let Ok(parsed) = parse(bytes.into()) {
                assert_views(&parsed, length);
            }
        }

        /// Every tensor of a file that is accepted lies in the file, and is as long as its shape.
        #[test]
        fn accepted_files_give_views(bytes in file()) {
            let length = bytes.len();
            if let Ok(parsed) = parse(bytes.into()) {
                assert_views(&parsed, length);
            }
        }
    }
}
