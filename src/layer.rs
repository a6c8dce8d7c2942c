//! Names of VGG19's layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Convolutions in each of the five blocks of VGG19.
const CONVOLUTIONS: [usize; 5] = [2, 2, 4, 4, 4];

/// One layer of VGG19: a convolution, its ReLU, or the pool that ends a block.
///
/// Layers are written as in the literature: `conv4_2` is the output of the second convolution of
/// the fourth block, `relu4_2` the same after the ReLU, `pool4` the output of the pool that ends
/// the block. They order by depth.
///
/// ```
/// use impasto::Layer;
///
/// let layer: Layer = "relu4_2".parse()?;
/// assert_eq!(layer, Layer::RELU4_2);
/// assert!(layer > Layer::RELU3_1);
/// assert_eq!(layer.to_string(), "relu4_2");
/// assert!("relu4_9".parse::<Layer>().is_err());
/// # Ok::<(), impasto::layer::UnknownLayer>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Layer(u8);

/// A name that is no layer of VGG19.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no layer `{name}` in VGG19: did you mean `{nearest}`? \
     (layers: conv1_1 … conv5_4, relu1_1 … relu5_4, pool1 … pool5)"
)]
pub struct UnknownLayer {
    /// The name as given.
    pub name: String,
    /// The nearest name that exists.
    pub nearest: String,
}

/// What a [`Layer`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A 3×3 convolution with bias, stride 1, padding 1.
    Convolution,
    /// The ReLU after a convolution.
    Relu,
    /// The 2×2 pool, stride 2, that ends a block.
    Pool,
}

macro_rules! layers {
    ($($name:ident = $index:literal),* $(,)?) => {
        $(#[doc = concat!("The layer `", stringify!($name), "` (in lower case).")]
        pub const $name: Layer = Layer($index);)*
    };
}

impl Layer {
    layers! {
        CONV1_1 = 0, RELU1_1 = 1, CONV1_2 = 2, RELU1_2 = 3, POOL1 = 4,
        CONV2_1 = 5, RELU2_1 = 6, CONV2_2 = 7, RELU2_2 = 8, POOL2 = 9,
        CONV3_1 = 10, RELU3_1 = 11, CONV3_2 = 12, RELU3_2 = 13, CONV3_3 = 14, RELU3_3 = 15,
        CONV3_4 = 16, RELU3_4 = 17, POOL3 = 18,
        CONV4_1 = 19, RELU4_1 = 20, CONV4_2 = 21, RELU4_2 = 22, CONV4_3 = 23, RELU4_3 = 24,
        CONV4_4 = 25, RELU4_4 = 26, POOL4 = 27,
        CONV5_1 = 28, RELU5_1 = 29, CONV5_2 = 30, RELU5_2 = 31, CONV5_3 = 32, RELU5_3 = 33,
        CONV5_4 = 34, RELU5_4 = 35, POOL5 = 36,
    }

    /// All 37 layers, in the order in which an image passes them.
    pub fn all() -> impl DoubleEndedIterator<Item = Layer> + ExactSizeIterator {
        (0..37).map(Layer)
    }

    /// The five blocks' first layer and number of convolutions, and this layer's place in its
    /// block: `(block from 0, index within the block)`.
    fn place(self) -> (usize, usize) {
        let mut index = self.0 as usize;
        for (block, &convolutions) in CONVOLUTIONS.iter().enumerate() {
            let layers = 2 * convolutions + 1;
            if index < layers {
                return (block, index);
            }
            index -= layers;
        }
        unreachable!("a layer's index is below 37 by construction")
    }

    /// The block that the layer belongs to, 1 to 5.
    pub fn block(self) -> usize {
        self.place().0 + 1
    }

    /// Whether the layer is a convolution, a ReLU or a pool.
    pub fn kind(self) -> LayerKind {
        let (block, index) = self.place();
        if index == 2 * CONVOLUTIONS[block] {
            LayerKind::Pool
        } else if index.is_multiple_of(2) {
            LayerKind::Convolution
        } else {
            LayerKind::Relu
        }
    }

    /// How many convolutions an image has passed when it leaves this layer, 1 to 16.
    pub fn depth(self) -> usize {
        let (block, index) = self.place();
        let before: usize = CONVOLUTIONS[..block].iter().sum();
        before + (index / 2 + 1).min(CONVOLUTIONS[block])
    }

    /// The convolution numbered `index` (from 0) in the order of the network.
    ///
    /// # Panics
    /// If `index` is 16 or more.
    pub fn convolution(index: usize) -> Layer {
        Layer::all()
            .filter(|layer| layer.kind() == LayerKind::Convolution)
            .nth(index)
            .expect("VGG19 has 16 convolutions")
    }

    /// Output channels in a network whose first block has `width` of them (64 in VGG19).
    pub fn channels(self, width: usize) -> usize {
        width << self.place().0.min(3)
    }

    /// How many pixels of the input, along each axis, one position of the output stands for.
    pub fn stride(self) -> usize {
        let (block, _) = self.place();
        1 << (block + usize::from(self.kind() == LayerKind::Pool))
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (block, index) = self.place();
        let (block, number) = (block + 1, index / 2 + 1);
        f.pad(&match self.kind() {
            LayerKind::Convolution => format!("conv{block}_{number}"),
            LayerKind::Relu => format!("relu{block}_{number}"),
            LayerKind::Pool => format!("pool{block}"),
        })
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Layer {
    type Err = UnknownLayer;

    /// Parses `conv4_2`, `relu4_2` or `pool4`, in any case.
    ///
    /// # Errors
    /// [`UnknownLayer`] with the nearest name that exists.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let wanted = name.trim().to_ascii_lowercase();
        if let Some(layer) = Layer::all().find(|layer| layer.to_string() == wanted) {
            return Ok(layer);
        }
        let nearest = Layer::all()
            .map(|layer| {
                let name = layer.to_string();
                (strsim::damerau_levenshtein(&name, &wanted), name)
            })
            // ReLU outputs are what the well-known implementations read: prefer them in a tie.
            .min_by_key(|(distance, name)| (*distance, !name.starts_with("relu")))
            .map(|(_, name)| name)
            .unwrap_or_default();
        Err(UnknownLayer {
            name: name.trim().chars().take(40).collect(),
            nearest,
        })
    }
}

impl TryFrom<String> for Layer {
    type Error = UnknownLayer;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Layer> for String {
    fn from(layer: Layer) -> String {
        layer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_order_by_depth() {
        let names: Vec<String> = Layer::all().map(|layer| layer.to_string()).collect();
        assert_eq!(names[0], "conv1_1");
        assert_eq!(names[4], "pool1");
        assert_eq!(names[36], "pool5");
        for (layer, name) in Layer::all().zip(&names) {
            assert_eq!(name.parse::<Layer>().unwrap(), layer);
            assert_eq!(name.to_uppercase().parse::<Layer>().unwrap(), layer);
        }
        assert!(Layer::all().is_sorted());
        assert_eq!(Layer::RELU3_4.to_string(), "relu3_4");
        assert_eq!(Layer::POOL4.to_string(), "pool4");
        assert_eq!(Layer::RELU5_4.to_string(), "relu5_4");
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        for (name, expected) in [
            ("relu4_5", "relu4_"),
            ("rleu4_2", "relu4_2"),
            ("conv41", "conv4_1"),
            ("pool7", "pool"),
            ("4_2", "4_2"),
        ] {
            match name.parse::<Layer>() {
                Err(UnknownLayer { nearest, .. }) => {
                    assert!(nearest.contains(expected), "{name}: {nearest}")
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn geometry_is_that_of_vgg19() {
        assert_eq!(Layer::RELU1_1.channels(64), 64);
        assert_eq!(Layer::RELU3_4.channels(64), 256);
        assert_eq!(Layer::RELU5_1.channels(64), 512);
        assert_eq!(Layer::RELU5_1.stride(), 16);
        assert_eq!(Layer::POOL5.stride(), 32);
        assert_eq!(Layer::RELU1_1.depth(), 1);
        assert_eq!(Layer::POOL1.depth(), 2);
        assert_eq!(Layer::RELU4_2.depth(), 10);
        assert_eq!(Layer::RELU5_1.depth(), 13);
        assert_eq!(Layer::POOL5.depth(), 16);
        assert_eq!(Layer::convolution(12), Layer::CONV5_1);
        assert_eq!(Layer::convolution(15).kind(), LayerKind::Convolution);
    }
}
