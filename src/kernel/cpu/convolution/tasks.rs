//! How a convolution is divided among threads.

use std::ops::Range;

use crate::kernel::cpu::microkernel::MR;

/// Time for the transforms of a block's patches, as a share of the whole block's.
const TRANSFORM_SHARE: f64 = 0.07;

/// What one thread does at a time.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub panels: Range<usize>,
    pub channels: Range<usize>,
}

/// Divides panels into blocks of at most `panels_at_once`. Blocks that are left when every thread has
/// had the same number of them are divided into ranges of channels: as many as let the threads end
/// together, `most_ranges` at most, but few, since each transforms all patches of its block again.
pub(super) fn divide(
    panels: usize,
    panels_at_once: usize,
    channels: usize,
    most_ranges: usize,
    threads: usize,
) -> Vec<Task> {
    let whole = panels / (panels_at_once * threads) * (panels_at_once * threads);
    let rest = panels - whole;
    let blocks = rest.div_ceil(panels_at_once);
    // Time for the rest until the last thread ends, if each takes the next task in turn.
    let time = |ranges: usize| {
        let (size, larger) = (rest / blocks.max(1), rest % blocks.max(1));
        let (tasks, larger) = (blocks * ranges, larger * ranges);
        let panels = tasks.div_ceil(threads) * size + larger.div_ceil(threads);
        panels as f64 * (1.0 / ranges as f64 + TRANSFORM_SHARE)
    };
    let ranges = (1..=most_ranges.min(threads))
        .min_by(|&a, &b| time(a).total_cmp(&time(b)))
        .unwrap_or(1);
    let range = channels.div_ceil(ranges).next_multiple_of(MR);

    let whole_blocks = (0..whole).step_by(panels_at_once).map(|first| Task {
        panels: first..first + panels_at_once,
        channels: 0..channels,
    });
    // Of blocks that differ by a panel, the larger ones first.
    let start = |block: usize| whole + (rest * block).div_ceil(blocks);
    let parts = (0..blocks).flat_map(|block| {
        (0..channels).step_by(range.max(1)).map(move |first| Task {
            panels: start(block)..start(block + 1),
            channels: first..channels.min(first + range),
        })
    });
    whole_blocks.chain(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every panel and channel is in exactly one task, and ranges begin where a stripe of the packed
        /// kernel does.
        #[test]
        fn tasks_cover_everything_once(
            panels in 0usize..40, at_once in 1usize..5, channels in 1usize..100,
            threads in 1usize..9, projected in any::<bool>(),
        ) {
            let most_ranges = if projected { 1 } else { channels.div_ceil(MR) };
            let tasks = divide(panels, at_once, channels, most_ranges, threads);
            let mut seen = vec![0; panels * channels];
            for Task { panels, channels: range } in tasks {
                prop_assert!(panels.len() <= at_once && !panels.is_empty() && !range.is_empty());
                prop_assert_eq!(range.start % MR, 0);
                prop_assert!(!projected || range == (0..channels));
                for panel in panels {
                    for channel in range.clone() {
                        seen[panel * channels + channel] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|&count| count == 1));
        }
    }

    /// Threads end together: eleven panels for two threads are two blocks of four, and one of three
    /// whose channels are divided; a single panel is divided among all threads.
    #[test]
    fn what_is_left_is_divided_among_all_threads() {
        let sizes = |panels, threads| -> Vec<(usize, usize)> {
            divide(panels, 4, 512, 86, threads)
                .into_iter()
                .map(|task| (task.panels.len(), task.channels.len()))
                .collect()
        };
        assert_eq!(sizes(11, 2), [(4, 512), (4, 512), (3, 258), (3, 254)]);
        assert_eq!(sizes(1, 2), [(1, 258), (1, 254)]);
        assert_eq!(sizes(5, 2), [(3, 258), (3, 254), (2, 258), (2, 254)]);
        assert_eq!(sizes(16, 4), [(4, 512); 4]);
    }
}
