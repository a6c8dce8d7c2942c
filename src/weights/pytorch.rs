//! Weights out of a PyTorch file, in the zip format (since 1.6) or in the older one, in which
//! torchvision's own files are published.
//!
//! Both describe the tensors by a pickle: a state dictionary, or one somewhere in a checkpoint, or
//! whole modules, whose parameters are found without their classes.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::pickle::{Id, Object, Pickle};
use super::tensor::{Contents, Dtype, Listed, NamedTensor, ParsedFile, contiguous, product, reach};
use super::zip_file;

/// Longest name of a tensor or of its data that is looked at.
const MAX_NAME: usize = 1000;

/// Bytes of all names together.
const MAX_NAMES: usize = 16 << 20;

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// The number at the start of the older format, as the first pickle.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Whether a zip archive is a PyTorch file.
pub(super) fn is_zip(bytes: &Bytes) -> bool {
    match zip_file::open(bytes) {
        Ok(archive) => index(&archive).is_some(),
        // The message for a damaged one is the same.
        Err(_) => true,
    }
}

/// The name of the pickle in an archive.
fn index(archive: &zip_file::Archive) -> Option<String> {
    let mut names = archive.file_names().flatten();
    let name = names.find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"));
    name.map(|name| name.into_owned())
}

/// Finds the tensors in a file of the newer format; their values stay where they are.
pub(super) fn parse_zip(bytes: &Bytes) -> Result<ParsedFile, String> {
    parsed(read_zip(bytes))
}

/// Finds the tensors in a file of the older format; their values stay where they are.
pub(super) fn parse_legacy(bytes: &Bytes) -> Result<ParsedFile, String> {
    if !bytes[..bytes.len().min(64)]
        .windows(MAGIC.len())
        .any(|window| window == MAGIC)
    {
        return Err(
            "this is a pickle of Python, but not one of PyTorch (Paddle, joblib and others write \
             them too); convert it to safetensors or save it with `torch.save`"
                .to_string(),
        );
    }
    parsed(read_legacy(bytes))
}

fn parsed(listed: Result<Vec<Listed>, String>) -> Result<ParsedFile, String> {
    let listed = listed.map_err(|error| format!("damaged or unsupported PyTorch file: {error}"))?;
    Ok(ParsedFile {
        contents: Contents::Tensors(listed),
        normalization: None,
    })
}

fn read_zip(bytes: &Bytes) -> Result<Vec<Listed>, String> {
    let mut archive = zip_file::open(bytes)?;
    let index = index(&archive).ok_or("the zip archive holds no data.pkl")?;
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
    let pickle = Pickle::parse(&entry(&index)?)?;
    tensors(&pickle, &mut |key| entry(&format!("{folder}data/{key}")))
}

/// The format before 1.6: pickles of a magic number, a version, facts on the writer, the state
/// dictionary and the keys of its storages, then the storages one after another.
fn read_legacy(bytes: &Bytes) -> Result<Vec<Listed>, String> {
    let mut at = 0;
    let mut next = || -> Result<Pickle, String> {
        let pickle = Pickle::parse(&bytes[at..])?;
        at += pickle.length;
        Ok(pickle)
    };
    for _ in ["magic number", "version", "writer"] {
        next()?;
    }
    let pickle = next()?;
    let keys = next()?;
    let sizes = storage_sizes(&pickle);
    let mut storages = HashMap::new();
    let cut_short = || "the file ends before its last tensor".to_string();
    for &key in keys.items(keys.root)? {
        let key = keys.text(key)?;
        let size = match sizes.get(key) {
            Some(Ok(size)) => *size,
            Some(Err(kind)) => return Err(format!("storages of type `{kind}` are not supported")),
            None => return Err(format!("storage `{key}` belongs to no tensor")),
        };
        let (count, rest) = bytes[at..].split_first_chunk().ok_or_else(cut_short)?;
        let length = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(size))
            .filter(|&length| length <= rest.len())
            .ok_or_else(cut_short)?;
        at += 8;
        if storages.contains_key(key) {
            return Err(format!("storage `{key}` is there twice"));
        }
        storages.insert(key.to_string(), bytes.slice(at..at + length));
        at += length;
    }
    tensors(&pickle, &mut |key| {
        let storage = storages.get(key).cloned();
        storage.ok_or_else(|| format!("storage `{key}` is missing"))
    })
}

/// Bytes of an element, for each storage, or the type of which they are unknown.
fn storage_sizes(pickle: &Pickle) -> HashMap<&str, Result<usize, &str>> {
    let storages = pickle.objects.iter().filter_map(|object| match object {
        Object::Storage {
            size, kind, key, ..
        } => Some((pickle.text(*key).ok()?, size.ok_or(import(pickle, *kind)))),
        _ => None,
    });
    storages.collect()
}

/// The last part of a name to import.
fn import(pickle: &Pickle, id: Id) -> &str {
    match &pickle.objects[id] {
        Object::Global(_, name) => name,
        _ => "unknown",
    }
}

/// The tensors in what a pickle stands for, with the paths to them as names.
fn tensors(
    pickle: &Pickle,
    storage: &mut dyn FnMut(&str) -> Result<Bytes, String>,
) -> Result<Vec<Listed>, String> {
    let mut listed = Vec::new();
    let mut names = MAX_NAMES;
    // What is there several times is looked at once.
    let mut seen: HashSet<Id> = HashSet::new();
    let mut waiting: Vec<(String, Id)> = vec![(String::new(), pickle.root)];
    while let Some((name, id)) = waiting.pop() {
        match &pickle.objects[id] {
            Object::Tensor { .. } => listed.push(tensor(pickle, name, id, storage)),
            Object::OtherTensor(kind) => listed.push(Listed {
                shape: Vec::new(),
                tensor: Err(format!(
                    "`{name}` is {kind}, expected an ordinary one; save it after `.to_dense()` or \
                     `.dequantize()`"
                )),
                name,
            }),
            Object::Dict(_) | Object::Items(_) | Object::Instance(Some(_)) if seen.insert(id) => {
                let inner = children(pickle, &name, id, &mut names)?;
                waiting.extend(inner.into_iter().rev());
            }
            _ => {}
        }
    }
    if listed.is_empty() {
        return Err(format!(
            "expected a state dictionary, found {} without tensors; save it with \
             `torch.save(model.state_dict(), …)`",
            pickle.objects[pickle.root].kind()
        ));
    }
    Ok(listed)
}

/// What a dictionary, a list or an object holds, with the paths to it.
fn children(
    pickle: &Pickle,
    name: &str,
    id: Id,
    names: &mut usize,
) -> Result<Vec<(String, Id)>, String> {
    let mut children = Vec::new();
    let mut add = |key: &str, id: Id| {
        let length = name.len() + 1 + key.len();
        let holds = !matches!(
            pickle.objects[id],
            Object::Inert | Object::Int(_) | Object::Text(_) | Object::Global(..)
        );
        if holds && length <= MAX_NAME {
            *names = names
                .checked_sub(length)
                .ok_or("the names of its tensors are longer than any network's")?;
            let dot = if name.is_empty() || key.is_empty() {
                ""
            } else {
                "."
            };
            children.push((format!("{name}{dot}{key}"), id));
        }
        Ok::<_, String>(())
    };
    match &pickle.objects[id] {
        Object::Items(items) => {
            for (number, &item) in items.iter().enumerate() {
                add(&number.to_string(), item)?;
            }
        }
        Object::Dict(entries) => {
            for &(key, value) in entries {
                match &pickle.objects[key] {
                    Object::Text(key) => add(key, value)?,
                    Object::Int(number) => add(&number.to_string(), value)?,
                    _ => {}
                }
            }
        }
        Object::Instance(Some(state)) => {
            // Some have two dictionaries of attributes.
            let state = match &pickle.objects[*state] {
                Object::Items(items) => items.first().copied().unwrap_or(*state),
                _ => *state,
            };
            let entries = pickle.entries(state).unwrap_or_default();
            let part = |wanted: &str| {
                let entry = entries
                    .iter()
                    .find(|(key, _)| pickle.text(*key) == Ok(wanted));
                entry.map(|(_, value)| *value)
            };
            // A module of PyTorch keeps what it holds in these three.
            let parts = ["_parameters", "_buffers", "_modules"].map(part);
            match parts.iter().all(Option::is_none) {
                true => add("", state)?,
                false => {
                    for part in parts.into_iter().flatten() {
                        add("", part)?;
                    }
                }
            }
        }
        _ => {}
    }
    Ok(children)
}

/// A tensor with its values, if they can be read.
fn tensor(
    pickle: &Pickle,
    name: String,
    id: Id,
    storage: &mut dyn FnMut(&str) -> Result<Bytes, String>,
) -> Listed {
    let Object::Tensor { shape, .. } = pickle.objects[id] else {
        unreachable!("only called with tensors");
    };
    // What is long can be referred to again and again, and copied each time.
    let short = |id: Id| {
        pickle
            .items(id)
            .is_ok_and(|items| items.len() <= MAX_DIMENSIONS)
    };
    let shape = match short(shape) {
        true => pickle.sizes(shape).unwrap_or_default(),
        false => Vec::new(),
    };
    let tensor = view(pickle, &name, id, storage);
    Listed {
        name,
        shape,
        tensor,
    }
}

fn view(
    pickle: &Pickle,
    name: &str,
    id: Id,
    storage: &mut dyn FnMut(&str) -> Result<Bytes, String>,
) -> Result<NamedTensor, String> {
    let Object::Tensor {
        storage: place,
        offset,
        shape,
        stride,
        dtype: stated,
    } = pickle.objects[id]
    else {
        unreachable!("only called with tensors");
    };
    let Object::Storage {
        dtype,
        kind,
        key,
        part,
        ..
    } = pickle.objects[place]
    else {
        return Err(format!("`{name}` has no values"));
    };
    if part {
        return Err(format!(
            "`{name}` shares its values with another tensor in a way that is not supported; save \
             it after `.clone()`"
        ));
    }
    let (dtype, kind) = match stated {
        Some(stated) => {
            let kind = import(pickle, stated);
            let known = match kind {
                "float16" => Some(Dtype::F16),
                "bfloat16" => Some(Dtype::Bf16),
                "float32" => Some(Dtype::F32),
                "float64" => Some(Dtype::F64),
                _ => None,
            };
            (known, kind)
        }
        None => (dtype, import(pickle, kind)),
    };
    let dtype = dtype.ok_or_else(|| {
        format!(
            "`{name}` holds values of type {}, expected 16, 32 or 64 bits of floating point; save \
             it after `.float()`",
            kind.trim_end_matches("Storage")
        )
    })?;
    let key = pickle.text(key)?;
    let dimensions = pickle.items(shape)?.len();
    if key.len() > MAX_NAME || dimensions > MAX_DIMENSIONS {
        return Err(format!("`{name}` has an impossible shape"));
    }
    if pickle.items(stride)?.len() != dimensions {
        return Err(format!("`{name}` has other strides than sizes"));
    }
    let (shape, strides) = (pickle.sizes(shape)?, pickle.sizes(stride)?);
    let strides = (contiguous(&shape).as_ref() != Some(&strides)).then_some(strides);
    let values = match &strides {
        None => product(&shape),
        Some(strides) => reach(&shape, strides),
    };
    let data = storage(key)?;
    let start = pickle.size(offset)?.checked_mul(dtype.size());
    let length = values.and_then(|values| values.checked_mul(dtype.size()));
    let range = start.zip(length).and_then(|(start, length)| {
        let end = start.checked_add(length)?;
        (end <= data.len()).then_some(start..end)
    });
    let range = range.ok_or_else(|| format!("`{name}` reaches past the end of its data"))?;
    Ok(NamedTensor {
        name: name.to_string(),
        shape,
        strides,
        dtype,
        data: data.slice(range),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Cursor, Write};

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
        let parsed = Pickle::parse(pickle).unwrap();
        assert!(matches!(
            parsed.objects[parsed.root],
            Object::Instance(None)
        ));
        assert_eq!(parsed.length, pickle.len());
        let error = tensors(&parsed, &mut |_| unreachable!());
        assert!(error.err().unwrap().contains("state_dict()"));
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
        let listed = read_zip(&good().into()).unwrap();
        assert_eq!(listed[0].name, "features.0.weight");
        assert_eq!(listed[0].shape, [1, 3, 3, 3]);
        assert_views(&listed, good().len());
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
            if let Ok(pickle) = Pickle::parse(&bytes) {
                prop_assert!(pickle.length <= bytes.len());
                let _ = tensors(&pickle, &mut |_| Ok(Bytes::new()));
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
            if let Ok(listed) = read_zip(&bytes.into()) {
                assert_views(&listed, length);
            }
        }

        /// Every tensor of a file that is accepted lies in the file, and is as long as its shape.
        #[test]
        fn accepted_files_give_views(bytes in file()) {
            let length = bytes.len();
            let bytes = Bytes::from(bytes);
            let listed = match bytes.starts_with(b"PK") {
                true => read_zip(&bytes),
                false => read_legacy(&bytes),
            };
            if let Ok(listed) = listed {
                assert_views(&listed, length);
            }
        }
    }
}
