//! ReLU masks: one bit for each pixel of a tile, set if the pixel passes its gradient on.

use super::lanes::{Bits, NR};
use super::tiles::Panel;

/// The masks of each of sixteen tiles (at `[1][1]`) and of its eight neighbours.
pub type NeighborMasks = [[Bits; 3]; 3];

/// Reads the masks of a panel's tiles and of their neighbours; zero outside the image.
#[inline(always)]
pub fn gather_masks(panel: &Panel, masks: &[u16], neighbors: &mut NeighborMasks) {
    let grid = panel.grid;
    let columns = grid.columns();
    for run in &panel.runs {
        let first = run.column == 0;
        let last = run.column + run.count == columns;
        for dy in 0..3 {
            let tile_row = (run.row + dy).wrapping_sub(1);
            // All lanes of one row of tiles, with both outer neighbours. At the sides of the image
            // these belong to other rows, and are cleared.
            let at = (tile_row.wrapping_mul(columns) + run.column).wrapping_sub(1);
            let there = masks.get(at..).and_then(|there| there.first_chunk());
            if let (Some::<&[u16; NR + 2]>(there), NR, true) =
                (there, run.count, tile_row < grid.rows())
            {
                for dx in 0..3 {
                    for t in 0..NR {
                        neighbors[dy][dx][t] = there[dx + t].into();
                    }
                }
                if first {
                    neighbors[dy][0][0] = 0;
                }
                if last {
                    neighbors[dy][2][NR - 1] = 0;
                }
                continue;
            }
            let mut row = [0; NR + 2];
            if tile_row < grid.rows() {
                let left = usize::from(run.column == 0);
                let end = columns.min(run.column + run.count + 1);
                let there = &masks[tile_row * columns..][run.column + left - 1..end];
                row[left..left + there.len()].copy_from_slice(there);
            }
            for dx in 0..3 {
                for t in 0..run.count {
                    neighbors[dy][dx][run.lane + t] = row[dx + t].into();
                }
            }
        }
    }
}
