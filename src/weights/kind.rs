//! What a file is, by its contents. Its name only helps where a format has no mark of its own.

use std::path::Path;

use super::safetensors::Header;

/// What a file is.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Safetensors,
    Onnx,
    /// Python's pickle, as PyTorch's older files begin.
    Pickle,
    /// A zip archive, as PyTorch's newer files are.
    Zip,
    Tar,
    /// Nothing that can be read here: what it is, and what to do.
    Other(String),
}

const GET: &str = "get VGG19's weights with `impasto weights download`";

const CONVERT: &str = "convert it to safetensors, ONNX or a PyTorch state dictionary";

/// Formats by how they begin, and what to do about each.
const MAGIC: [(&[u8], &str, &str); 22] = [
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, as Keras saves its models (.h5)",
        CONVERT,
    ),
    (
        b"MATLAB ",
        "a MATLAB file (.mat), as MatConvNet's models are",
        CONVERT,
    ),
    (b"\x93NUMPY", "a NumPy array (.npy)", CONVERT),
    (
        b"GGUF",
        "a GGUF file, as language models are published",
        GET,
    ),
    (
        b"7z\xbc\xaf\x27\x1c",
        "a 7-Zip archive",
        "unpack it and name the file in it",
    ),
    (
        b"Rar!\x1a\x07",
        "a RAR archive",
        "unpack it and name the file in it",
    ),
    (
        b"\xfd7zXZ\0",
        "a file compressed with xz",
        "unpack it with `xz -d` and name the file in it",
    ),
    (
        b"BZh",
        "a file compressed with bzip2",
        "unpack it with `bzip2 -d` and name the file in it",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "a file compressed with Zstandard",
        "unpack it with `zstd -d` and name the file in it",
    ),
    (
        b"\x04\x22\x4d\x18",
        "a file compressed with LZ4",
        "unpack it with `lz4 -d` and name the file in it",
    ),
    (
        b"\x89PNG\r\n\x1a\n",
        "a picture (PNG)",
        "name a file of VGG19's weights",
    ),
    (
        b"\xff\xd8\xff",
        "a picture (JPEG)",
        "name a file of VGG19's weights",
    ),
    (b"GIF8", "a picture (GIF)", "name a file of VGG19's weights"),
    (
        b"II*\0",
        "a picture (TIFF)",
        "name a file of VGG19's weights",
    ),
    (
        b"MM\0*",
        "a picture (TIFF)",
        "name a file of VGG19's weights",
    ),
    (b"%PDF", "a PDF document", "name a file of VGG19's weights"),
    (b"\x7fELF", "a program", "name a file of VGG19's weights"),
    (
        b"\x12\x01\0\0\0\0\0\0",
        "an MXNet file of parameters",
        CONVERT,
    ),
    (
        b"ggml",
        "a GGML file, as language models are published",
        GET,
    ),
    (
        b"lmgg",
        "a GGML file, as language models are published",
        GET,
    ),
    (
        b"tjgg",
        "a GGML file, as language models are published",
        GET,
    ),
    (
        b"SQLite format 3",
        "a database (SQLite)",
        "name a file of VGG19's weights",
    ),
];

impl Kind {
    /// What a file with these contents is.
    pub fn of(bytes: &[u8], path: &Path) -> Self {
        match bytes {
            [] => return other("the file is empty", "get it again"),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => return Kind::Zip,
            // Before what begins as the length of its table may.
            _ if Header::begins(bytes) => return Kind::Safetensors,
            [0x80, 2..=5, ..] => return Kind::Pickle,
            // Before the version of an ONNX model, which would begin alike.
            [_, _, _, _, b'T', b'F', b'L', b'3', ..] => {
                return other("this is a TensorFlow Lite model (.tflite)", CONVERT);
            }
            // Field 1 of the protobuf, `ir_version`, a small number; another field follows. In a
            // tensor of ONNX, more sizes or the type follow.
            [0x08, 1..=0x7f, 0x08 | 0x10, ..] => {
                return other(
                    "this is a tensor of ONNX, not a model",
                    "name the model that belongs to it",
                );
            }
            [0x08, 1..=0x7f, ..] => return Kind::Onnx,
            _ if bytes.get(257..262) == Some(b"ustar") => return Kind::Tar,
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => {
                return other("this is a picture (WebP)", "name a file of VGG19's weights");
            }
            [4, 0, 0, 0, ..] if contains(&bytes[..bytes.len().min(64)], b"V 1") => {
                return other(
                    "this is a file of Torch7 (.t7), the Torch before PyTorch",
                    CONVERT,
                );
            }
            _ => {}
        }
        if let Some((_, kind, advice)) = MAGIC.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
            return other(&format!("this is {kind}"), advice);
        }
        if let Some(kind) = text(bytes).or_else(|| protobuf(bytes)) {
            return kind;
        }
        // The mark of TensorFlow's table of tensors is at its end.
        if bytes.ends_with(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb") {
            return other("this is a TensorFlow checkpoint (.ckpt, .index)", CONVERT);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_lowercase();
        if name.contains(".ckpt") || name.contains(".data-000") {
            return other(
                "this is no file of weights that can be read; by its name it is a TensorFlow \
                 checkpoint",
                CONVERT,
            );
        }
        other(
            "this is no file of weights",
            "expected ONNX, safetensors or a PyTorch state dictionary",
        )
    }
}

fn other(what: &str, advice: &str) -> Kind {
    Kind::Other(format!("{what}; {advice}"))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Texts that lie where weights should.
fn text(bytes: &[u8]) -> Option<Kind> {
    let start = &bytes[..bytes.len().min(1 << 12)];
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let start = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if start.len() - error.valid_up_to() < 4 && bytes.len() > start.len() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    if start.is_empty() || start.contains(|c: char| c.is_control() && !c.is_ascii_whitespace()) {
        return None;
    }
    let start = start.trim_start();
    if start.starts_with("version https://git-lfs") {
        let size = start
            .lines()
            .find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
        let size = size.map_or(String::new(), |size| {
            format!(" of {} MB", size.div_ceil(1_000_000))
        });
        return Some(other(
            &format!("this is a Git LFS pointer to a file{size}, not the file itself"),
            "run `git lfs pull` in its repository, or download the file from the repository's web page",
        ));
    }
    if start.starts_with('<') {
        return Some(other(
            "this is a web page (or XML) instead of a file of weights",
            "download the file itself, not the page about it (expected ONNX, safetensors or a \
             PyTorch state dictionary)",
        ));
    }
    if start.starts_with(['{', '[']) {
        let advice = match start.contains("weight_map") || start.contains(".safetensors") {
            true => "it lists the files of a model; name one of those",
            false => "expected ONNX, safetensors or a PyTorch state dictionary",
        };
        return Some(other("this is a JSON file", advice));
    }
    Some(other(
        "this is a text file, no file of weights",
        "expected ONNX, safetensors or a PyTorch state dictionary",
    ))
}

/// Models of TensorFlow and Caffe, which are protobufs and begin with a name or a node.
fn protobuf(bytes: &[u8]) -> Option<Kind> {
    let &[0x0a, length, ..] = bytes else {
        return None;
    };
    let rest = &bytes[2..];
    // Names are short; nodes may be longer than what is here.
    let (name, next) = rest.split_at(rest.len().min(usize::from(length & 0x7f)));
    let readable = !name.is_empty() && name.iter().all(|byte| (b' '..=b'~').contains(byte));
    // A name, then layers of the older or the newer kind.
    if length < 0x80
        && readable
        && matches!(next, [0x12, ..] | [0x1a, ..] | [0x22, ..] | [0xa2, 6, ..])
    {
        return Some(other(
            "this is a Caffe model (.caffemodel)",
            "convert it to safetensors or ONNX, or get the same training with `impasto weights \
             download caffe`",
        ));
    }
    // A node that begins with its name.
    let node = if length < 0x80 {
        &bytes[2..]
    } else {
        bytes.get(3..)?
    };
    node.starts_with(&[0x0a])
        .then(|| other("this is a TensorFlow graph (.pb)", CONVERT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(bytes: &[u8], name: &str, words: &str) {
        match Kind::of(bytes, Path::new(name)) {
            Kind::Other(problem) => assert!(problem.contains(words), "{problem}"),
            kind => panic!("{words} was taken for {kind:?}"),
        }
    }

    #[test]
    fn files_of_other_kinds_are_named() {
        says(b"", "x", "empty");
        says(b"\x89HDF\r\n\x1a\n\0", "vgg19.h5", "Keras");
        says(b"MATLAB 5.0 MAT-file, Platform", "x", "MatConvNet");
        says(b"7z\xbc\xaf\x27\x1c\0\x04", "x.onnx", "7-Zip");
        says(b"\x1c\0\0\0TFL3\x14\0", "x", "TensorFlow Lite");
        says(b"\x0a\x14VGG_ILSVRC_19_layers\x12\x80\x01", "x", "Caffe");
        says(
            b"\x0a\x28\x0a\x05input\x12\x0bPlaceholder",
            "x",
            "TensorFlow graph",
        );
        says(
            b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0d\0\0\0nn.Sequential",
            "x",
            "Torch7",
        );
        says(b"  <!DOCTYPE html><html>", "vgg19.pth", "web page");
        says(
            b"{\"weight_map\": {\"a\": \"model-1.safetensors\"}}",
            "x",
            "name one of those",
        );
        says(
            b"version https://git-lfs.github.com/spec/v1\nsize 574674105\n",
            "x",
            "575 MB",
        );
        says(b"\xef\xbb\xbfhello", "x", "text");
        says(b"\x08\x01\x08\x03\x10\x01", "input_0.pb", "not a model");
        says(
            &[&[7; 100][..], b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"].concat(),
            "x",
            "checkpoint",
        );
        says(&[0xfe; 100], "vgg_19.ckpt", "TensorFlow checkpoint");
        says(&[0xfe; 100], "x", "no file of weights");
    }
}
