//! Kernels among the tensors of a file, by their names and shapes, and what their names tell.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The orders of a kernel's axes that files have: PyTorch's, Keras's and MLX's.
pub(super) const ORDERS: [[usize; 4]; 3] = [[0, 1, 2, 3], [3, 2, 0, 1], [0, 3, 1, 2]];

/// A tensor's name and its shape.
pub(super) type Named<'a> = (&'a str, &'a [usize]);

/// The tensors whose names and shapes are those of kernels.
pub(super) fn kernels<'a>(tensors: &[Named<'a>]) -> Vec<Kernel<'a>> {
    let four = tensors
        .iter()
        .enumerate()
        .filter(|(_, (_, shape))| shape.len() == 4);
    four.filter_map(|(place, &(name, shape))| Kernel::new(place, name, shape))
        .collect()
}

/// How a tensor's name ends: as a kernel or as the bias beside it.
pub(super) struct Leaf {
    pub kernel: &'static str,
    pub bias: &'static str,
}

const LEAVES: [Leaf; 6] = [
    Leaf {
        kernel: "weight",
        bias: "bias",
    },
    Leaf {
        kernel: "weights",
        bias: "biases",
    },
    Leaf {
        kernel: "kernel",
        bias: "bias",
    },
    Leaf {
        kernel: "kernel:0",
        bias: "bias:0",
    },
    Leaf {
        kernel: "W",
        bias: "b",
    },
    Leaf {
        kernel: "w",
        bias: "b",
    },
];

/// A kernel's name up to its end (with the separator), and how it ends.
pub(super) fn split(name: &str) -> Option<(&str, &'static Leaf)> {
    LEAVES.iter().find_map(|leaf| {
        let stem = name.strip_suffix(leaf.kernel)?;
        let whole = stem.is_empty() || stem.ends_with(['.', '/', '_']);
        whole.then_some((stem, leaf))
    })
}

/// What a kernel's name says of its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Key {
    /// Its number among the modules of a sequence.
    Position(usize),
    /// Its block and its number there, as in `conv1_1`.
    Layer(usize, usize),
    None,
}

/// A tensor of four axes whose name ends as a kernel's.
#[derive(Clone, Debug)]
pub(super) struct Kernel<'a> {
    /// Its place in the list of tensors.
    pub place: usize,
    pub shape: &'a [usize],
    stem: &'a str,
    pub key: Key,
    /// The path to it, without wrappers.
    pub folder: String,
    /// The path without its numbers.
    pub family: String,
}

/// Names that wrappers put into the path: PyTorch's DataParallel and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

impl<'a> Kernel<'a> {
    fn new(place: usize, name: &'a str, shape: &'a [usize]) -> Option<Self> {
        let (stem, _) = split(name)?;
        let (folder, last) = path(stem);
        let (key, folder) = key(folder, last);
        Some(Self {
            place,
            shape,
            stem,
            key,
            family: without_numbers(&folder),
            folder,
        })
    }

    pub fn is_3x3(&self) -> bool {
        ORDERS
            .iter()
            .any(|axes| [self.shape[axes[2]], self.shape[axes[3]]] == [3, 3])
    }
}

/// The folder and the last part of a stem such as `module.features.0.`.
pub(super) fn path(stem: &str) -> (Vec<&str>, &str) {
    let stem = stem.trim_end_matches(['.', '/', '_']);
    let mut parts: Vec<&str> = stem
        .split(['.', '/'])
        .filter(|part| !WRAPPERS.contains(part))
        .collect();
    let last = parts.pop().unwrap_or_default();
    (parts, last)
}

/// What the last part of a path says of the place, and the path to what it numbers.
fn key<'a>(mut folder: Vec<&'a str>, last: &'a str) -> (Key, String) {
    let (key, named) = if let Ok(position) = last.parse() {
        (Key::Position(position), false)
    } else if let Some((block, number)) = layer(last) {
        (Key::Layer(block, number), false)
    } else if let Some(block) = folder.last()
        && let Some((block, number)) = layer(&format!("{block}_{last}"))
    {
        folder.pop();
        (Key::Layer(block, number), false)
    } else {
        (Key::None, true)
    };
    if named {
        folder.push(last);
    }
    (key, folder.join("."))
}

/// Block and number of names such as `conv1_1`, `conv_1_1` and `block1_conv1`.
fn layer(name: &str) -> Option<(usize, usize)> {
    let digits =
        |text: &str| text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let number = |text: &str| text.parse().ok().filter(|number| (1..=9).contains(number));
    let (rest, second) = name.split_at(name.len() - digits(name));
    let between = rest.trim_end_matches(|c: char| !c.is_ascii_digit());
    let separator = &rest[between.len()..];
    let (word, first) = between.split_at(between.len() - digits(between));
    let word = word.trim_end_matches(['_', '-']).to_ascii_lowercase();
    let known = match separator.to_ascii_lowercase().as_str() {
        "_" | "-" => word.ends_with("conv"),
        "_conv" | "_conv_" | "conv" => word.ends_with("block"),
        _ => false,
    };
    known.then_some((number(first)?, number(second)?))
}

pub(super) fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Kernels with equal values of `by`, in the order of the list.
pub(super) fn group<'a>(
    kernels: &[Kernel<'a>],
    by: impl Fn(&Kernel) -> String,
) -> Vec<Vec<Kernel<'a>>> {
    let mut groups: BTreeMap<String, Vec<Kernel>> = BTreeMap::new();
    for kernel in kernels {
        groups.entry(by(kernel)).or_default().push(kernel.clone());
    }
    groups.into_values().collect()
}

/// The kernels with torchvision's positions, or their order by name with numbers as numbers.
pub(super) fn in_order<'a, 'b>(kernels: &'b [Kernel<'a>]) -> Vec<&'b Kernel<'a>> {
    let mut sorted: Vec<&Kernel> = kernels.iter().collect();
    sorted.sort_by(|a, b| natural(a.stem, b.stem));
    sorted
}

/// Groups of kernels, as far as their names tell.
pub(super) fn families<'a>(kernels: &[Kernel<'a>]) -> Vec<Vec<Kernel<'a>>> {
    group(kernels, |kernel| kernel.family.clone())
}

/// Compares texts with the numbers in them as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|c| c.is_ascii_digit()).count();
        match (digits(a), digits(b)) {
            (0, _) | (_, 0) => match (a.split_first(), b.split_first()) {
                (Some((x, rest_a)), Some((y, rest_b))) if x == y => (a, b) = (rest_a, rest_b),
                _ => return a.cmp(b),
            },
            (x, y) => {
                let ((number_a, rest_a), (number_b, rest_b)) = (a.split_at(x), b.split_at(y));
                let significant = |number: &[u8]| {
                    let zeros = number.iter().take_while(|&&c| c == b'0').count();
                    number[zeros..].to_vec()
                };
                let (number_a, number_b) = (significant(number_a), significant(number_b));
                let order = number_a.len().cmp(&number_b.len());
                let order = order.then_with(|| number_a.cmp(&number_b));
                if order.is_ne() {
                    return order;
                }
                (a, b) = (rest_a, rest_b);
            }
        }
    }
}
