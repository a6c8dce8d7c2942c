//! Pictures of what the network sees and of how a run goes: feature maps, the figure of Gatys et al.,
//! the evolution of an image, the curves of its losses.

mod curves;
mod evolution;
mod features;
mod figure;
mod sheet;

pub use curves::Curves;
pub use evolution::Evolution;
pub use features::{FeatureMap, Scaling, feature_maps, feature_sheet, feature_sheet_of_all_layers};
pub use figure::{FigureOptions, figure};
pub use sheet::sheet;
