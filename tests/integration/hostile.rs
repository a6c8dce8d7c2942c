//! Files made to do harm: whatever they hold, there is an answer, soon, and in little memory. What
//! can be tried without files is tested beside the parsers.
//!
//! `PROPTEST_CASES=100000 cargo test --release --features cli hostile` tries as many of each kind.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use impasto::Vgg19Weights;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::data;

/// Reads a file with these contents; there must be an answer soon, and finite values.
fn survive(bytes: &[u8]) -> Result<(), TestCaseError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let start = Instant::now();
    if let Ok(weights) = Vgg19Weights::load(file.path()) {
        for layer in weights.convolutions() {
            prop_assert!(layer.weight.iter().all(|value| value.is_finite()));
            prop_assert_eq!(layer.weight.len(), layer.shape.iter().product::<usize>());
        }
    }
    prop_assert!(start.elapsed() < Duration::from_secs(5));
    Ok(())
}

/// One change to a file.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Number(Index, u64),
    Delete(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        2 => (place(), number()).prop_map(|(at, number)| Edit::Number(at, number)),
        1 => (place(), 1usize..2000).prop_map(|(at, count)| Edit::Delete(at, count)),
        1 => (place(), 1usize..2000).prop_map(|(at, count)| Edit::Repeat(at, count)),
        1 => place().prop_map(Edit::Cut),
    ]
}

/// Numbers at which something may go over.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..100,
        select(vec![
            1 << 20,
            (1 << 31) - 1,
            1 << 31,
            1 << 32,
            1 << 40,
            i64::MAX as u64,
            1 << 63,
            u64::MAX - 7,
            u64::MAX,
        ]),
        any::<u64>(),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit, front: bool) {
    if bytes.is_empty() {
        return;
    }
    // What matters most lies at either end.
    let length = bytes.len();
    let at = |index: &Index| match front {
        true => index.index(length.min(3000)),
        false => length - 1 - index.index(length.min(9000)),
    };
    match edit {
        Edit::Set(index, byte) => bytes[at(index)] = *byte,
        Edit::Number(index, number) => {
            let start = at(index);
            let end = length.min(start + 8);
            bytes[start..end].copy_from_slice(&number.to_le_bytes()[..end - start]);
        }
        Edit::Delete(index, count) => {
            let start = at(index);
            bytes.drain(start..length.min(start + count));
        }
        Edit::Repeat(index, count) => {
            let start = at(index);
            let copy = bytes[start..length.min(start + count)].to_vec();
            bytes.splice(start..start, copy);
        }
        Edit::Cut(index) => bytes.truncate(at(index)),
    }
}

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

proptest! {
    #[test]
    fn hostile_edits_of_good_files(
        which in 0usize..7, front in any::<bool>(), edits in prop::collection::vec(edit(), 1..6),
    ) {
        let names = [
            "small.safetensors", "small-f16.safetensors", "small.onnx", "small-scrambled.onnx",
            "small-features.onnx", "small.pth", "small-legacy.pth",
        ];
        let mut bytes = fs::read(data(names[which])).unwrap();
        edits.iter().for_each(|edit| apply(&mut bytes, edit, front));
        survive(&bytes)?;
    }

    /// The same in files as people save them, in an archive of all of them, and in a compressed one.
    #[test]
    fn hostile_edits_of_wrapped_files(
        which in any::<Index>(), packed in 0usize..3, front in any::<bool>(),
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        let (name, file) = &WRAPPED[which.index(WRAPPED.len())];
        let mut bytes = match packed {
            0 => file.clone(),
            1 => {
                let mut archive = tar::Builder::new(Vec::new());
                let mut header = tar::Header::new_gnu();
                header.set_size(file.len() as u64);
                archive.append_data(&mut header, name, &file[..]).unwrap();
                archive.into_inner().unwrap()
            }
            _ => deflated(name, file),
        };
        edits.iter().for_each(|edit| apply(&mut bytes, edit, front));
        survive(&bytes)?;
    }
}

static WRAPPED: LazyLock<Vec<(String, Vec<u8>)>> =
    LazyLock::new(|| crate::wrapped::files().into_iter().collect());

/// A compressed zip archive of one file.
fn deflated(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let deflated = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    archive.start_file(name, deflated).unwrap();
    archive.write_all(contents).unwrap();
    archive.finish().unwrap().into_inner()
}

/// A PyTorch file in the newer format with this pickle.
fn zip_of(pickle: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, contents) in [("x/data.pkl", pickle), ("x/data/0", &[0; 108])] {
        archive.start_file(name, stored).unwrap();
        archive.write_all(contents).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Loads what must not load.
#[track_caller]
fn refused(bytes: &[u8], words: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let start = Instant::now();
    let error = Vgg19Weights::load(file.path()).unwrap_err().to_string();
    assert!(error.contains(words), "`{error}` lacks `{words}`");
    assert!(start.elapsed() < Duration::from_secs(10), "{words}");
}

fn safetensors(json: &str, values: usize) -> Vec<u8> {
    let length = (json.len() as u64).to_le_bytes();
    [&length[..], json.as_bytes(), &vec![0; values]].concat()
}

#[test]
fn tables_of_contents_that_contradict_themselves_are_refused() {
    let entry = |name: &str, shape: &str, from: u64, to: u64| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    let table = |entries: &[String]| format!("{{{}}}", entries.join(","));
    let twice = table(&[entry("a", "[1]", 0, 4), entry("a", "[1]", 0, 4)]);
    refused(&safetensors(&twice, 4), "`a` occurs twice");
    let twice = "{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"}}";
    refused(&safetensors(twice, 0), "`x` occurs twice");
    let overlap = table(&[entry("a", "[2]", 0, 8), entry("b", "[2]", 4, 12)]);
    refused(&safetensors(&overlap, 12), "damaged");
    let gap = table(&[entry("a", "[1]", 0, 4), entry("b", "[1]", 8, 12)]);
    refused(&safetensors(&gap, 12), "damaged");
    let backwards = table(&[entry("a", "[1]", 4, 0)]);
    refused(&safetensors(&backwards, 4), "damaged");
    let huge = table(&[entry("a", "[4294967296,4294967296,4]", 0, 4)]);
    refused(&safetensors(&huge, 4), "damaged");
    let past = table(&[entry("a", "[1000]", 0, 4000)]);
    refused(&safetensors(&past, 4), "expected");
    for length in [1 << 20 | 1, 1 << 39] {
        let mut file = safetensors("{}", 0);
        file[..8].copy_from_slice(&u64::to_le_bytes(length));
        refused(&file, "table of contents");
    }
}

#[test]
fn small_files_do_not_grow_large() {
    // Millions of empty messages, names and sizes: nodes, tensors, attributes, metadata, inputs.
    let many = |message: &[u8]| message.repeat(1 << 20);
    let model = |graph: &[u8]| [&[8, 8][..], &field(7, graph)].concat();
    for bomb in [
        model(&many(&[0x0a, 0])),
        model(&many(&[0x2a, 0])),
        model(&field(1, &many(&[0x2a, 0]))),
        model(&field(1, &many(&[0x0a, 0]))),
        model(&field(5, &field(1, &many(&[1, 1])))),
        [&[8, 8][..], &many(&[0x72, 0])].concat(),
    ] {
        refused(&bomb, "parts");
    }
    // A pickle that recalls a long text again and again, as the name of a tensor.
    let long = vec![b'n'; 500_000];
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(\
        (X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ\
        K\0K\x01\x85K\x01\x85tRq\x02";
    let start = [
        &b"\x80\x02}(X"[..],
        &(long.len() as u32).to_le_bytes(),
        &long,
        b"q\x01",
    ];
    let pickle = [
        &start.concat(),
        &tensor[..],
        &b"h\x01h\x02".repeat(100_000),
        b"u.",
    ]
    .concat();
    refused(&zip_of(&pickle), "without tensors");
    // A pickle of nothing but new lists, and one that is too long.
    refused(
        &zip_of(&[&b"]".repeat(1_000_000)[..], b"."].concat()),
        "state dictionary",
    );
    refused(&zip_of(&b"]".repeat(2_000_000)), "too long");
    // A zip archive that claims more files than anyone needs.
    let mut archive = zip_of(b"}.");
    let end = archive.len() - 22;
    archive[end + 8..end + 12].copy_from_slice(&[0xff; 4]);
    refused(&archive, "files");
    // A gzip file of nothing, a thousand times as long.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        packed.write_all(&[0; 1 << 20]).unwrap();
    }
    refused(&packed.finish().unwrap(), "no file of weights");
    // The same in a zip archive, and dictionaries that hold each other many times over.
    refused(&deflated("zeros", &vec![0; 64 << 20]), "no file of weights");
    let mut pickle = b"\x80\x02}q\0".to_vec();
    for level in 0..60u8 {
        let inner = [b'h', level];
        let pair = [b"X\x01\0\0\0a", &inner[..], b"X\x01\0\0\0b", &inner].concat();
        pickle.extend([b"}(", &pair[..], b"uq", &[level + 1]].concat());
    }
    refused(&zip_of(&[&pickle[..], b"."].concat()), "without tensors");
    // A dictionary in itself, and a tower of lists.
    refused(&zip_of(b"\x80\x02}q\0X\x01\0\0\0ah\0s."), "without tensors");
    let tower = [&b"]".repeat(200_000)[..], &b"a".repeat(199_999), b"."].concat();
    refused(&zip_of(&tower), "without tensors");
    // A call that is handed to itself.
    let call = b"ctorch._tensor\n_rebuild_from_type_v2\nq\0)q\x01";
    let nested = b"h\0(h\0Nh\x01tq\x01R0".repeat(1000);
    refused(
        &zip_of(&[&call[..], &nested, b"}."].concat()),
        "without tensors",
    );
}

#[test]
fn tensors_of_onnx_that_lead_nowhere_are_refused() {
    let node = |operator: &[u8], inputs: &[&[u8]], output: &[u8]| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
        let pads = field(5, &[field(1, b"pads"), field(8, &[1; 4])].concat());
        field(
            1,
            &[inputs, field(2, output), field(4, operator), pads].concat(),
        )
    };
    let model = |nodes: &[Vec<u8>]| [vec![8, 8], field(7, &nodes.concat())].concat();
    // Two names that stand for each other, and one for itself.
    let cycle = [
        node(b"Identity", &[b"b"], b"a"),
        node(b"Identity", &[b"a"], b"b"),
        node(b"Identity", &[b"c"], b"c"),
        node(b"Conv", &[b"x", b"a"], b"y"),
    ];
    refused(&model(&cycle), "no constant");
    refused(&model(&[node(b"Conv", &[b"x", b"w"], b"y")]), "no constant");
    refused(&model(&[node(b"Conv", &[b"x"], b"y")]), "no kernel");
    // Data elsewhere that are far longer than their shape: refused before they are converted.
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("model.onnx");
    let entry = field(13, &[field(1, b"location"), field(2, b"data")].concat());
    let shape = [8, 1, 8, 3, 8, 3, 8, 3, 16, 1].to_vec();
    let tensor = [shape, field(8, b"w"), entry, vec![0x70, 1]].concat();
    let graph = [node(b"Conv", &[b"x", b"w"], b"y"), field(5, &tensor)].concat();
    fs::write(&path, [vec![8, 8], field(7, &graph)].concat()).unwrap();
    let data = fs::File::create(folder.path().join("data")).unwrap();
    data.set_len(64 << 30).unwrap();
    let error = Vgg19Weights::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("holds 17179869184 values, expected 27"),
        "{error}"
    );
}
