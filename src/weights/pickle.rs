//! Python's pickle, a program for a small stack machine that builds objects.
//!
//! The machine here knows the instructions that build data and no way to call anything: a name such
//! as `torch._utils._rebuild_tensor_v2` is only compared with the few names that a state dictionary
//! uses, and every other one leaves an inert placeholder. Objects lie in one list and refer to each
//! other by number, so that no file, however nested or shared, costs more than its own length.

use std::collections::HashMap;

use super::tensor::Dtype;

/// Longest pickle that is interpreted. VGG19's is under 10 kB; an object takes up to 64 bytes of
/// memory for each byte of it.
const MAX_PICKLE: usize = 1 << 20;

/// Place of an object in the list.
pub(super) type Id = usize;

/// What a pickle is made of.
#[derive(Debug)]
pub(super) enum Object {
    /// Something of no concern: None, numbers with a fraction.
    Inert,
    /// What an unknown call would make, with the attributes that it would be given.
    Instance(Option<Id>),
    /// A tensor of a kind that weights are not stored in.
    OtherTensor(&'static str),
    Int(i64),
    Text(String),
    /// A name that the pickle would import: module and item.
    Global(String, String),
    Items(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage {
        /// Bytes of an element, where the type is known.
        size: Option<usize>,
        /// Its type where it is one that weights have.
        dtype: Option<Dtype>,
        /// The type, as a name to import.
        kind: Id,
        key: Id,
        /// Whether it is a part of another storage.
        part: bool,
    },
    Tensor {
        storage: Id,
        offset: Id,
        shape: Id,
        stride: Id,
        /// The type of the elements where the storage does not tell it, as a name to import.
        dtype: Option<Id>,
    },
}

/// An interpreted pickle (protocols 0 to 5).
pub(super) struct Pickle {
    pub objects: Vec<Object>,
    /// The object that the pickle stands for.
    pub root: Id,
    /// Bytes of the pickle.
    pub length: usize,
    /// Bytes and items that may still be copied. Everything else comes from the file itself, once.
    budget: usize,
}

impl Pickle {
    /// Interprets the pickle at the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let bytes = &bytes[..bytes.len().min(MAX_PICKLE)];
        let mut pickle = Self {
            objects: Vec::new(),
            root: 0,
            length: 0,
            budget: MAX_PICKLE,
        };
        let mut reader = Reader { bytes, at: 0 };
        let mut stack: Vec<Id> = Vec::new();
        let mut marks: Vec<usize> = Vec::new();
        let mut memo: HashMap<usize, Id> = HashMap::new();
        let empty = || "the pickle takes from an empty stack".to_string();

        loop {
            let instruction = reader.byte()?;
            let object = match instruction {
                b'.' => {
                    pickle.root = stack.pop().ok_or_else(empty)?;
                    pickle.length = reader.at;
                    return Ok(pickle);
                }
                0x80 => {
                    reader.byte()?;
                    continue;
                }
                0x95 => {
                    reader.take(8)?;
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
                b'q' | b'r' | b'p' | 0x94 => {
                    let slot = match instruction {
                        b'q' => reader.byte()? as usize,
                        b'r' => reader.length4()?,
                        b'p' => reader.number()?,
                        _ => memo.len(),
                    };
                    memo.insert(slot, *stack.last().ok_or_else(empty)?);
                    continue;
                }
                b'h' | b'j' | b'g' => {
                    let slot = match instruction {
                        b'h' => reader.byte()? as usize,
                        b'g' => reader.number()?,
                        _ => reader.length4()?,
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
                    match &mut pickle.objects[target] {
                        Object::Items(list) => list.extend(items),
                        Object::Dict(entries) => {
                            entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                        }
                        _ => {}
                    }
                    continue;
                }
                // An object's attributes.
                b'b' => {
                    let attributes = stack.pop().ok_or_else(empty)?;
                    let &target = stack.last().ok_or_else(empty)?;
                    if let Object::Instance(state) = &mut pickle.objects[target] {
                        *state = Some(attributes);
                    }
                    continue;
                }
                // Sets, whose items are of no concern, and buffers that may not be written to.
                0x90 => {
                    let mark = marks.pop().filter(|&mark| mark <= stack.len());
                    stack.truncate(mark.ok_or_else(empty)?);
                    continue;
                }
                0x91 => {
                    let mark = marks.pop().filter(|&mark| mark <= stack.len());
                    stack.truncate(mark.ok_or_else(empty)?);
                    Object::Inert
                }
                0x98 => continue,
                b'N' | 0x88 | 0x89 | 0x8f | 0x97 => Object::Inert,
                0x82..=0x84 => {
                    reader.take(1 << (instruction - 0x82))?;
                    Object::Inert
                }
                0x96 => {
                    let length = u64::from_le_bytes(reader.array()?);
                    reader.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                    Object::Inert
                }
                // Numbers and texts of the oldest protocol, a line each.
                b'I' | b'L' => match reader.line()?.trim_end_matches('L').parse() {
                    Ok(number) => Object::Int(number),
                    Err(_) => Object::Inert,
                },
                b'F' | b'P' => {
                    reader.line()?;
                    Object::Inert
                }
                b'S' => Object::Text(reader.line()?.trim_matches(['\'', '"']).to_string()),
                b'V' => Object::Text(reader.line()?),
                b'G' => {
                    reader.take(8)?;
                    Object::Inert
                }
                b'K' => Object::Int(reader.byte()?.into()),
                b'M' => Object::Int(u16::from_le_bytes(reader.array()?).into()),
                b'J' => Object::Int(i32::from_le_bytes(reader.array()?).into()),
                0x8a | 0x8b => {
                    let length = match instruction {
                        0x8a => reader.byte()? as usize,
                        _ => reader.length4()?,
                    };
                    reader.integer(length)?
                }
                b'U' | 0x8c | b'C' => {
                    let length = reader.byte()? as usize;
                    reader.text(length)?
                }
                b'T' | b'X' | b'B' => {
                    let length = reader.length4()?;
                    reader.text(length)?
                }
                0x8d | 0x8e => {
                    let length = u64::from_le_bytes(reader.array()?);
                    reader.text(usize::try_from(length).unwrap_or(usize::MAX))?
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
                b'c' => Object::Global(reader.line()?, reader.line()?),
                0x93 => {
                    let name = stack.pop().ok_or_else(empty)?;
                    let module = stack.pop().ok_or_else(empty)?;
                    let length = pickle.text(module)?.len() + pickle.text(name)?.len();
                    pickle.spend(length)?;
                    Object::Global(
                        pickle.text(module)?.to_string(),
                        pickle.text(name)?.to_string(),
                    )
                }
                // Calls that no tensor is made by: with names for arguments, and of old classes.
                0x92 => {
                    let from = stack.len().checked_sub(3).ok_or_else(empty)?;
                    stack.truncate(from);
                    Object::Instance(None)
                }
                b'i' | b'o' => {
                    if instruction == b'i' {
                        reader.line()?;
                        reader.line()?;
                    }
                    let mark = marks.pop().filter(|&mark| mark <= stack.len());
                    stack.truncate(mark.ok_or_else(empty)?);
                    Object::Instance(None)
                }
                // A call: answered only for the few names that a state dictionary uses.
                b'R' | 0x81 => {
                    let arguments = stack.pop().ok_or_else(empty)?;
                    let callee = stack.pop().ok_or_else(empty)?;
                    if let Ok(&[entries]) = pickle.items(arguments)
                        && let Ok(entries) = pickle.items(entries)
                    {
                        pickle.spend(entries.len())?;
                    }
                    match pickle.call(callee, arguments)? {
                        Called::Existing(id) => {
                            stack.push(id);
                            continue;
                        }
                        Called::New(object) => object,
                    }
                }
                // A reference to a storage.
                b'Q' => {
                    let reference = stack.pop().ok_or_else(empty)?;
                    pickle.storage(reference)?
                }
                other => {
                    return Err(format!(
                        "the pickle uses instruction {other:#04x}, which a state dictionary has \
                         no need of"
                    ));
                }
            };
            stack.push(pickle.objects.len());
            pickle.objects.push(object);
        }
    }

    /// Accounts for a copy.
    fn spend(&mut self, amount: usize) -> Result<(), String> {
        let rest = self.budget.checked_sub(amount);
        self.budget = rest.ok_or("the pickle repeats itself without end")?;
        Ok(())
    }

    pub fn text(&self, id: Id) -> Result<&str, String> {
        match &self.objects[id] {
            Object::Text(text) => Ok(text),
            other => Err(format!("expected a name, found {}", other.kind())),
        }
    }

    pub fn items(&self, id: Id) -> Result<&[Id], String> {
        match &self.objects[id] {
            Object::Items(items) => Ok(items),
            other => Err(format!("expected a list, found {}", other.kind())),
        }
    }

    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self.objects[id] {
            Object::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn size(&self, id: Id) -> Result<usize, String> {
        match self.objects[id] {
            Object::Int(value) => {
                usize::try_from(value).map_err(|_| format!("a size of {value} is impossible"))
            }
            ref other => Err(format!("expected a size, found {}", other.kind())),
        }
    }

    pub fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        self.items(id)?.iter().map(|&id| self.size(id)).collect()
    }

    /// What stands for the result of a call of `callee`.
    fn call(&self, callee: Id, arguments: Id) -> Result<Called, String> {
        let unknown = Ok(Called::New(Object::Instance(None)));
        let Object::Global(module, name) = &self.objects[callee] else {
            return unknown;
        };
        let arguments = self.items(arguments)?;
        // A tensor of a subclass, or with attributes of its own: as the function in it makes it.
        if let ("_rebuild_from_type" | "_rebuild_from_type_v2", &[inner, _, inner_arguments, ..]) =
            (name.as_str(), arguments)
            && let (Object::Global(module, name), Ok(arguments)) =
                (&self.objects[inner], self.items(inner_arguments))
        {
            return Ok(self.call_of(module, name, arguments).unwrap_or(Called::New(
                Object::OtherTensor("a tensor of a class of its own"),
            )));
        }
        if (module.as_str(), name.as_str()) == ("collections", "OrderedDict")
            && let &[entries] = arguments
        {
            // Python 2 hands over the entries as a list of pairs.
            let pair = |&id: &Id| match self.items(id)? {
                &[key, value] => Ok((key, value)),
                _ => Err("a dictionary's entry is no pair".to_string()),
            };
            let entries: Result<_, String> = self.items(entries)?.iter().map(pair).collect();
            return Ok(Called::New(Object::Dict(entries?)));
        }
        self.call_of(module, name, arguments).map_or(unknown, Ok)
    }

    /// What stands for the result of a call of one of the few known names.
    fn call_of(&self, module: &str, name: &str, arguments: &[Id]) -> Option<Called> {
        Some(match (module, name, arguments) {
            (
                "torch._utils",
                "_rebuild_tensor_v2" | "_rebuild_tensor" | "_rebuild_tensor_v3",
                &[storage, offset, shape, stride, ref rest @ ..],
            ) => Called::New(Object::Tensor {
                storage,
                offset,
                shape,
                stride,
                dtype: match name {
                    "_rebuild_tensor_v3" => Some(*rest.get(2)?),
                    _ => None,
                },
            }),
            (
                "torch._utils",
                "_rebuild_parameter" | "_rebuild_parameter_with_state",
                &[tensor, ..],
            ) => Called::Existing(tensor),
            ("torch._utils", _, _) if name.starts_with("_rebuild_") => {
                Called::New(Object::OtherTensor(match name {
                    "_rebuild_qtensor" => "a quantised tensor",
                    "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => "a sparse tensor",
                    "_rebuild_nested_tensor" => "a nested tensor",
                    "_rebuild_meta_tensor_no_storage" => "a tensor without values",
                    _ => "a tensor of an unusual kind",
                }))
            }
            ("collections", "OrderedDict" | "defaultdict", _) => {
                Called::New(Object::Dict(Vec::new()))
            }
            _ => return None,
        })
    }

    /// `('storage', type, key, device, count[, view])`, or in the older format, at a module,
    /// `('module', class, file, source)`.
    fn storage(&self, reference: Id) -> Result<Object, String> {
        let items = self.items(reference)?;
        if let Some(&first) = items.first()
            && let Ok("module") = self.text(first)
        {
            return Ok(Object::Inert);
        }
        let &[_, kind, key, _, _, ref view @ ..] = items else {
            return Err("a storage is described incompletely".to_string());
        };
        let part = view
            .first()
            .is_some_and(|&view| !matches!(self.objects[view], Object::Inert));
        let (size, dtype) = match &self.objects[kind] {
            Object::Global(_, name) => match name.as_str() {
                "HalfStorage" => (Some(2), Some(Dtype::F16)),
                "BFloat16Storage" => (Some(2), Some(Dtype::Bf16)),
                "FloatStorage" => (Some(4), Some(Dtype::F32)),
                "DoubleStorage" => (Some(8), Some(Dtype::F64)),
                "LongStorage" | "ComplexFloatStorage" => (Some(8), None),
                "ComplexDoubleStorage" => (Some(16), None),
                "IntStorage" | "QInt32Storage" => (Some(4), None),
                "ShortStorage" => (Some(2), None),
                "CharStorage" | "ByteStorage" | "BoolStorage" | "QInt8Storage"
                | "QUInt8Storage" | "UntypedStorage" => (Some(1), None),
                _ => (None, None),
            },
            other => return Err(format!("expected a type, found {}", other.kind())),
        };
        Ok(Object::Storage {
            size,
            dtype,
            kind,
            key,
            part,
        })
    }
}

/// What stands for the result of a call.
enum Called {
    Existing(Id),
    New(Object),
}

impl Object {
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Inert => "something else",
            Object::Instance(_) => "an object",
            Object::OtherTensor(kind) => kind,
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
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
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

    /// A number that is written in digits on a line.
    fn number(&mut self) -> Result<usize, String> {
        let line = self.line()?;
        line.trim()
            .parse()
            .map_err(|_| "the pickle recalls what it never had".to_string())
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
mod tests {
    use super::*;

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
            let error = Pickle::parse(pickle).err();
            assert!(error.is_some(), "{pickle:?}");
        }
    }
}
