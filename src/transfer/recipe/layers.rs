//! The layers that a recipe really uses.

use super::Recipe;
use crate::layer::Layer;

impl Recipe {
    /// Content layers, none without a weight.
    pub(in crate::transfer) fn used_content_layers(&self) -> Vec<Layer> {
        match self.content_weight > 0.0 {
            true => self.content_layers.clone(),
            false => Vec::new(),
        }
    }

    /// Style layers, none without a weight.
    pub(in crate::transfer) fn used_style_layers(&self) -> Vec<Layer> {
        match self.style_weight > 0.0 {
            true => self.style_layers.clone(),
            false => Vec::new(),
        }
    }

    /// Layers of the losses by matching that have a weight.
    pub(in crate::transfer) fn matched_layers(&self) -> Vec<Layer> {
        let (neighbors, transport) = (&self.neighbors, &self.transport);
        let used = [
            (neighbors.weight, &neighbors.layers),
            (transport.weight, &transport.layers),
        ];
        let used = used.into_iter().filter(|(weight, _)| *weight > 0.0);
        used.flat_map(|(_, layers)| layers.iter().copied())
            .collect()
    }

    /// The layers that style pictures are read at.
    pub(in crate::transfer) fn layers_of_styles(&self) -> Vec<Layer> {
        [self.used_style_layers(), self.matched_layers()].concat()
    }
}
