//! How the loss of a scale is computed, so that a run fits the memory that it may take.

use burn::tensor::DType;
use serde::{Deserialize, Serialize};

use super::{Recipe, Request, TransferError};
use crate::kernel::AutodiffStyleBackend;
use crate::optim::OptimizerConfig;

/// How one scale is computed.
///
/// Loss and gradient are the same but for rounding, however they are computed. Only a shorter history
/// changes the course of the optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Computation {
    /// About how many pixels a tile has along a side; `None` for the whole image at once.
    pub tile_size: Option<usize>,
    /// Whether the network is computed in segments, as it is in tiles: several convolutions of which no more
    /// than the last one's response is kept; and about how many values a response has within a tile of them.
    pub segment_values: Option<usize>,
    /// How many steps L-BFGS remembers, where it is fewer than the recipe says or where they are kept in
    /// another precision.
    pub history: Option<usize>,
    /// Whether they are kept in half precision, to remember more of them.
    pub half_precision: bool,
}

/// Steps that L-BFGS should remember at least, even if tiles must be smaller for it.
const GOOD_HISTORY: usize = 10;

/// Steps that it remembers in the least memory.
const LEAST_HISTORY: usize = 1;

/// How many times the estimate a run is allowed: it may be wrong.
const MARGIN: f64 = 1.1;

/// The smallest tiles that are tried, in pixels along a side. With its halo such a tile is six times as
/// large.
const SMALLEST_TILE: usize = 96;

/// The sides of tiles that ranks share, in pixels. The halos of smaller ones cost too much; of larger ones there
/// would be too few.
const SHARED_TILES: std::ops::RangeInclusive<usize> = 512..=1024;

/// The side of the tiles of an image of `size` that ranks share: the same for any number of them, so that the
/// result is.
fn shared_tile([height, width]: [usize; 2]) -> usize {
    let quarter = height.max(width).div_ceil(4);
    quarter.clamp(*SHARED_TILES.start(), *SHARED_TILES.end())
}

/// What the search for a computation ends with.
pub(super) enum Fit {
    /// One that fits, and the bytes that it needs.
    Found(Computation, u64),
    /// None; this many bytes are needed at least.
    Needs(u64),
}

impl<B: AutodiffStyleBackend> Request<B> {
    /// The fastest computation of a scale of `size` (height and width) that fits the memory: whole, in
    /// segments, in smaller tiles of these, in as few tiles as possible. `left` are the bytes that the scale before leaves behind.
    pub fn computation(
        &self,
        recipe: &Recipe,
        size: [usize; 2],
        styles: &[(usize, usize)],
        left: u64,
    ) -> Fit {
        let shared = self.communicator.as_ref().map(|_| shared_tile(size));
        let asked = Computation {
            tile_size: self.tile_size.or(shared),
            segment_values: None,
            history: None,
            half_precision: false,
        };
        let memory = |how| self.memory(recipe, size, styles, how);
        let Some(limit) = self.memory_limit else {
            return Fit::Found(asked, memory(asked));
        };
        let budget = ((limit as f64 / MARGIN) as u64).saturating_sub(left);
        let wanted = match recipe.optimizer {
            OptimizerConfig::Lbfgs(config) => config.history.min(recipe.iterations),
            OptimizerConfig::Adam(_) => 0,
        };
        let halves = matches!(recipe.optimizer, OptimizerConfig::Lbfgs(config)
            if !config.half_precision && B::supports_dtype(&self.encoder.device(), DType::BF16));
        let with_history = |how: Computation, steps: usize, half_precision: bool| Computation {
            history: (steps < wanted || half_precision).then_some(steps),
            half_precision,
            ..how
        };
        // As much of the history as there is room for, and at least this much.
        let fitting = |way: Computation, least: usize, half: bool| {
            let needed = memory(with_history(way, least, half));
            let step = (memory(with_history(way, least + 1, half)) - needed).max(1);
            let more = budget.checked_sub(needed)? / step;
            let more = usize::try_from(more).unwrap_or(usize::MAX);
            Some(least.saturating_add(more).min(wanted))
        };
        let ways = self.ways(recipe, size, asked);
        for least in [GOOD_HISTORY, LEAST_HISTORY] {
            let least = least.min(wanted);
            for &way in &ways {
                let single = fitting(way, least, false);
                let half = match single {
                    Some(steps) if steps == wanted => None,
                    _ if halves => fitting(way, least, true),
                    _ => None,
                };
                if let Some(steps) = half.or(single) {
                    let how = with_history(way, steps, half.is_some());
                    return Fit::Found(how, memory(how));
                }
            }
        }
        let least = ways.iter().map(|&way| {
            let steps = LEAST_HISTORY.min(wanted);
            memory(with_history(way, steps, halves))
        });
        let least = least.min().unwrap_or(u64::MAX);
        Fit::Needs(((least + left) as f64 * MARGIN) as u64)
    }

    /// The ways to compute a scale, fastest first.
    fn ways(&self, recipe: &Recipe, size: [usize; 2], asked: Computation) -> Vec<Computation> {
        if self.tile_size.is_some() {
            return vec![asked];
        }
        let longest = size[0].max(size[1]);
        let sides = (2..).map(|pieces| longest.div_ceil(pieces));
        let sides = sides.take_while(|&side| side >= SMALLEST_TILE);
        // Several sides would be rounded up to the same tiles.
        let sides = sides.map(|side| side.next_multiple_of(SMALLEST_TILE / 3));
        let in_tiles = |side| Computation {
            tile_size: Some(side),
            ..asked
        };
        if let Some(largest) = asked.tile_size {
            let smaller = sides.filter(|&side| side < largest).map(in_tiles);
            return std::iter::once(asked).chain(smaller).collect();
        }
        let in_segments = |values| Computation {
            segment_values: Some(values),
            ..asked
        };
        let mut ways = vec![asked];
        ways.extend([B::SEGMENT_VALUES, B::SEGMENT_VALUES / 2].map(in_segments));
        if self.needs_whole_image(recipe).is_some() {
            return ways;
        }
        ways.extend(sides.map(in_tiles));
        ways.dedup();
        ways
    }

    /// The name of a term that cannot be computed in tiles, if there is one.
    pub fn needs_whole_image(&self, recipe: &Recipe) -> Option<String> {
        let own = self.own_terms.needs_whole_image.clone();
        own.or_else(|| recipe.needs_whole_image().map(str::to_string))
    }

    /// The largest size of the result, as the recipe measures it, that fits the memory; at most this one.
    pub(super) fn fitting_size(&self, recipe: &Recipe) -> usize {
        let mut size = recipe.size;
        while size > 16 {
            size = size * 15 / 16;
            let scales = self.scales(&recipe.clone().with_size(size));
            if !matches!(scales, Err(TransferError::Memory { .. })) {
                break;
            }
        }
        size
    }
}
