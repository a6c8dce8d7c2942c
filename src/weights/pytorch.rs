//! Weights out of a PyTorch file: a state dictionary in the zip format (since 1.6) or in the older
//! one, in which torchvision's own files are published.
//!
//! Both describe the tensors by a pickle.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use bytes::Bytes;

use super::names;
use super::pickle::{Object, Pickle};
use super::tensor::{NamedTensor, ParsedFile};

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
    let pickle = Pickle::parse(&entry(&index)?)?;
    state_dict(&pickle, &mut |key| entry(&format!("{folder}data/{key}")))
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
        let size = *sizes
            .get(key)
            .ok_or_else(|| format!("storage `{key}` belongs to no tensor"))?;
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
    state_dict(&pickle, &mut |key| {
        let storage = storages.get(key).cloned();
        storage.ok_or_else(|| format!("storage `{key}` is missing"))
    })
}

/// Bytes of an element, for each storage.
fn storage_sizes(pickle: &Pickle) -> HashMap<&str, usize> {
    let storages = pickle.objects.iter().filter_map(|object| match object {
        Object::Storage { size, key, .. } => Some((pickle.text(*key).ok()?, *size)),
        _ => None,
    });
    storages.collect()
}

/// The tensors of the dictionary that a pickle stands for, or of its entry `state_dict`.
fn state_dict(
    pickle: &Pickle,
    storage: &mut dyn FnMut(&str) -> Result<Bytes, String>,
) -> Result<Tensors, String> {
    let entries = pickle.entries(pickle.root).ok_or_else(|| {
        format!(
            "expected a state dictionary, found {}; save it with \
             `torch.save(model.state_dict(), …)`",
            pickle.objects[pickle.root].kind()
        )
    })?;
    // Checkpoints of a training run keep it beside other things.
    let inner = entries.iter().find_map(|&(key, value)| {
        matches!(pickle.text(key), Ok("state_dict" | "model"))
            .then(|| pickle.entries(value))
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
        ) = (pickle.text(key), &pickle.objects[value])
        else {
            continue;
        };
        let Object::Storage {
            dtype: Some(dtype),
            key,
            ..
        } = pickle.objects[*id]
        else {
            continue;
        };
        let key = pickle.text(key)?;
        // What is long can be referred to again and again, and copied each time.
        let dimensions = pickle
            .items(*shape)?
            .len()
            .max(pickle.items(*stride)?.len());
        if name.len().max(key.len()) > MAX_NAME || dimensions > MAX_DIMENSIONS {
            return Err("it holds a tensor of an impossible name or shape".to_string());
        }
        let shape = pickle.sizes(*shape)?;
        let reach = |sizes: &[usize]| {
            sizes
                .iter()
                .try_fold(dtype.size(), |n, &size| n.checked_mul(size))
        };
        let mut contiguous = Vec::new();
        for axis in 0..shape.len() {
            contiguous.push(reach(&shape[axis + 1..]).map(|bytes| bytes / dtype.size()));
        }
        let stride = pickle.sizes(*stride)?;
        if !stride.iter().copied().map(Some).eq(contiguous) {
            return Err(format!(
                "`{name}` is stored with strides {stride:?}; save it after `.contiguous()`"
            ));
        }
        let data = storage(key)?;
        let start = pickle.size(*offset)?.checked_mul(dtype.size());
        let range = start.zip(reach(&shape)).and_then(|(start, length)| {
            let end = start.checked_add(length)?;
            (end <= data.len()).then_some(start..end)
        });
        let range = range.ok_or_else(|| format!("`{name}` reaches past the end of its data"))?;
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
        let parsed = Pickle::parse(pickle).unwrap();
        assert!(matches!(parsed.objects[parsed.root], Object::Inert));
        assert_eq!(parsed.length, pickle.len());
        let error = state_dict(&parsed, &mut |_| unreachable!());
        assert!(error.unwrap_err().contains("state_dict()"));
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
            if let Ok(pickle) = Pickle::parse(&bytes) {
                prop_assert!(pickle.length <= bytes.len());
                let _ = state_dict(&pickle, &mut |_| Ok(Bytes::new()));
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
