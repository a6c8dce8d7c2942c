//! Which convolutions of the network are computed together, so that the responses between them need not be
//! kept.

use super::{Layer, LayerKind, Pooling, Tap};
use crate::kernel::Epilogue;

/// Blocks at the beginning of the network that are one segment, since the responses between them are the
/// largest of all.
const JOINED_BLOCKS: usize = 2;

/// A convolution with what follows it, as far as it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub convolution: Layer,
    pub relu: Option<Layer>,
    pub pool: Option<Layer>,
}

impl Step {
    /// The last of its layers.
    pub fn response(&self) -> Layer {
        self.pool.or(self.relu).unwrap_or(self.convolution)
    }

    /// What follows the convolution, if nothing between is read.
    pub fn epilogue(&self, pooling: Pooling) -> Epilogue {
        match (self.relu, self.pool) {
            (_, Some(_)) => Epilogue::ReluPool(pooling),
            (Some(_), None) => Epilogue::Relu,
            (None, None) => Epilogue::None,
        }
    }
}

/// The steps to a layer.
pub(crate) fn steps_to(deepest: Option<Layer>) -> Vec<Step> {
    let mut layers = Layer::all()
        .take_while(|&layer| Some(layer) <= deepest)
        .peekable();
    let mut steps = Vec::new();
    while let Some(convolution) = layers.next() {
        steps.push(Step {
            convolution,
            relu: layers.next_if(|layer| layer.kind() == LayerKind::Relu),
            pool: layers.next_if(|layer| layer.kind() == LayerKind::Pool),
        });
    }
    steps
}

/// How many steps from the first of `steps` on are a segment: at least two, or 0 if there is none. Within a
/// segment no features are read as a whole; it ends at features that are, at a pool, or where the steps do.
pub(super) fn segment_of(steps: &[Step], taps: &[Tap]) -> usize {
    let tap = |layer: Layer| taps.iter().find(|tap| tap.layer == layer);
    let mut count = 0;
    for step in steps {
        let convolution = tap(step.convolution);
        // What is between a convolution and its pool is not computed in one operation.
        let split = step.pool.is_some() && step.relu.is_some_and(|relu| tap(relu).is_some());
        if convolution.is_some() || split || step.relu.is_none() {
            break;
        }
        count += 1;
        let features = |layer: Layer| tap(layer).is_some_and(|tap| tap.features);
        let ends = match (step.relu, step.pool) {
            (_, Some(pool)) => tap(pool).is_some() || pool.block() >= JOINED_BLOCKS,
            (Some(relu), None) => features(relu),
            (None, None) => true,
        };
        if ends {
            break;
        }
    }
    match count {
        1 => 0,
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Moments;

    /// The segments to the deepest of some layers, as their last layers.
    fn ends(grams: &[Layer], features: &[Layer]) -> Vec<Layer> {
        let gram = |&layer: &Layer| Tap::moments(layer, Moments::Gram);
        let taps = grams.iter().map(gram);
        let taps = taps.chain(features.iter().map(|&layer| Tap::features(layer)));
        let taps = Tap::merged(taps.collect());
        let steps = steps_to(taps.last().map(|tap| tap.layer));
        let (mut first, mut ends) = (0, Vec::new());
        while first < steps.len() {
            let count = segment_of(&steps[first..], &taps);
            if count > 0 {
                let last = steps[first + count - 1];
                ends.push(last.response());
            }
            first += count.max(1);
        }
        ends
    }

    #[test]
    fn segments_end_at_pools_and_at_features() {
        let grams = [
            Layer::RELU1_1,
            Layer::RELU2_1,
            Layer::RELU3_1,
            Layer::RELU4_1,
            Layer::RELU5_1,
        ];
        let (pool1, pool2, pool3, pool4) = (Layer::POOL1, Layer::POOL2, Layer::POOL3, Layer::POOL4);
        assert_eq!(ends(&grams, &[]), [pool2, pool3, pool4]);
        let content = [Layer::RELU4_2];
        assert_eq!(
            ends(&grams, &content),
            [pool2, pool3, Layer::RELU4_2, pool4]
        );
        // Features of the first convolution: a step of its own.
        assert_eq!(ends(&grams[..2], &grams[..1]), [Layer::RELU2_1]);
        assert_eq!(ends(&grams[1..3], &[pool1]), [pool1, pool2]);
        // Neither before a ReLU nor between a ReLU and its pool.
        assert_eq!(ends(&grams[3..4], &[Layer::CONV1_2]), [pool2, pool3]);
        assert_eq!(ends(&[Layer::RELU1_2], &grams[2..3]), [pool2]);
    }
}
