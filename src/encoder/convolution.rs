//! A 3×3 convolution as a Burn module, whose weights are packed once.

use std::sync::{Arc, OnceLock};

use burn::module::{
    AutodiffModule, Content, Devices, HasAutodiffModule, Module, ModuleDisplay,
    ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::kernel::{self, Precision};

/// A [`Conv2d`] with its packed kernel, which is kept as long as the kernel stays the same.
#[derive(Clone, Debug)]
pub struct FrozenConv2d<B: Backend> {
    layer: Conv2d<B>,
    /// The 1×1 convolution behind it in a slim network.
    projection: Option<Conv2d<B>>,
    precision: Precision,
    /// Shared by clones, whichever of them packs it first.
    packed: Arc<OnceLock<Tensor<B, 1>>>,
}

impl<B: Backend> FrozenConv2d<B> {
    pub fn new(layer: Conv2d<B>, projection: Option<Conv2d<B>>) -> Self {
        Self {
            layer,
            projection,
            precision: Precision::default(),
            packed: Arc::default(),
        }
    }

    /// The same layer, packed for a precision.
    pub fn with_precision(self, precision: Precision) -> Self {
        match self.precision == precision {
            true => self,
            false => Self {
                precision,
                packed: Arc::default(),
                ..self
            },
        }
    }

    pub fn layer(&self) -> &Conv2d<B> {
        &self.layer
    }

    pub fn projection(&self) -> Option<&Conv2d<B>> {
        self.projection.as_ref()
    }
}

impl<B: kernel::StyleBackend> FrozenConv2d<B> {
    /// The weights as the kernels take them.
    pub fn weights(&self) -> kernel::PackedConv2d<B> {
        let weight = self.layer.weight.val();
        let [channels_out, ..] = weight.dims();
        let bias = match &self.layer.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([channels_out], &weight.device()),
        };
        let packed = self
            .packed
            .get_or_init(|| B::pack(weight.clone(), self.precision));
        kernel::PackedConv2d {
            weight,
            bias,
            packed: packed.clone(),
            projection: self.projection.as_ref().map(|projection| {
                let weight = projection.weight.val();
                let [rows, channels, ..] = weight.dims();
                weight.reshape([rows, channels])
            }),
            precision: self.precision,
        }
    }
}

/// Delegates to the layers inside; methods that may change the kernel drop the packed weights.
impl<B: Backend> Module<B> for FrozenConv2d<B> {
    type Record = (
        <Conv2d<B> as Module<B>>::Record,
        <Option<Conv2d<B>> as Module<B>>::Record,
    );

    fn collect_devices(&self, devices: Devices<B>) -> Devices<B> {
        self.projection
            .collect_devices(self.layer.collect_devices(devices))
    }

    fn fork(self, device: &B::Device) -> Self {
        Self::new(self.layer.fork(device), self.projection.fork(device))
            .with_precision(self.precision)
    }

    fn to_device(self, device: &B::Device) -> Self {
        Self::new(
            self.layer.to_device(device),
            self.projection.to_device(device),
        )
        .with_precision(self.precision)
    }

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        self.layer.visit(visitor);
        self.projection.visit(visitor);
    }

    fn map<M: ModuleMapper<B>>(self, mapper: &mut M) -> Self {
        Self::new(self.layer.map(mapper), Module::map(self.projection, mapper))
            .with_precision(self.precision)
    }

    fn load_record(self, (layer, projection): Self::Record) -> Self {
        Self::new(
            self.layer.load_record(layer),
            self.projection.load_record(projection),
        )
        .with_precision(self.precision)
    }

    fn into_record(self) -> Self::Record {
        (self.layer.into_record(), self.projection.into_record())
    }
}

impl<B: AutodiffBackend> AutodiffModule<B> for FrozenConv2d<B> {
    type InnerModule = FrozenConv2d<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        FrozenConv2d {
            layer: self.layer.valid(),
            projection: self.projection.valid(),
            precision: self.precision,
            packed: Arc::new(match self.packed.get() {
                Some(packed) => packed.clone().inner().into(),
                None => OnceLock::new(),
            }),
        }
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        Self {
            layer: Conv2d::from_inner(module.layer),
            projection: module.projection.map(Conv2d::from_inner),
            precision: module.precision,
            packed: Arc::new(match module.packed.get() {
                Some(packed) => Tensor::from_inner(packed.clone()).into(),
                None => OnceLock::new(),
            }),
        }
    }
}

impl<B: AutodiffBackend> HasAutodiffModule<B> for FrozenConv2d<B::InnerBackend> {
    type TrainModule = FrozenConv2d<B>;
}

impl<B: Backend> ModuleDisplayDefault for FrozenConv2d<B> {
    fn content(&self, content: Content) -> Option<Content> {
        self.layer.content(content)
    }
}

impl<B: Backend> ModuleDisplay for FrozenConv2d<B> {}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::nn::conv::Conv2dConfig;

    #[test]
    fn clones_share_packed_weights() {
        let layer = Conv2dConfig::new([2, 3], [3, 3]).init::<Autodiff<Flex>>(&Default::default());
        let first = FrozenConv2d::new(layer, None);
        let second = first.clone();
        assert!(second.packed.get().is_none());
        first.weights();
        assert!(second.packed.get().is_some());
        assert!(second.valid().packed.get().is_some());
        // Other weights are packed anew.
        let moved = second.fork(&Default::default());
        assert!(moved.packed.get().is_none());
    }
}
