//! A step length that satisfies the strong Wolfe conditions.
//!
//! Nocedal and Wright, *Numerical Optimization* (2006), algorithms 3.5 (bracketing) and 3.6 (zoom),
//! with the cubic interpolation and the safeguards of Mark Schmidt's minFunc, which
//! `torch.optim.LBFGS` uses too; the sequence of trial steps is the same.

use burn::tensor::{Tensor, backend::Backend};

/// Sufficient decrease: `φ(t) ≤ φ(0) + C1·t·φ′(0)`.
const C1: f64 = 1e-4;
/// Curvature: `|φ′(t)| ≤ C2·|φ′(0)|`.
const C2: f64 = 0.9;
/// Most evaluations of one search.
const MAX_TRIALS: usize = 25;
/// The bracket is final when no value of the image would change by more than this.
const MIN_CHANGE: f64 = 1e-9;

/// A point on the search line: `φ(t) = f(x + t·d)`.
#[derive(Clone, Debug)]
pub(super) struct Trial<B: Backend> {
    /// Step length.
    pub t: f64,
    /// `φ(t)`.
    pub loss: f64,
    /// `φ′(t)`, the gradient's component along the direction.
    pub slope: f64,
    /// The gradient.
    pub gradient: Tensor<B, 4>,
}

/// Searches from `start` (at `t = 0`), trying `first` first. `reach` is the largest absolute value
/// of the direction; `evaluate` gives the trial at a step length.
pub(super) fn search<B: Backend, E>(
    start: Trial<B>,
    first: f64,
    reach: f64,
    mut evaluate: impl FnMut(f64) -> Result<Trial<B>, E>,
) -> Result<Trial<B>, E> {
    let too_high = |trial: &Trial<B>| trial.loss > start.loss + C1 * trial.t * start.slope;
    let flat_enough = |trial: &Trial<B>| trial.slope.abs() <= -C2 * start.slope;

    // Go out until the interval between the last two trials holds a good step.
    let mut behind = start.clone();
    let mut ahead = evaluate(first)?;
    let mut trials = 0;
    loop {
        if trials == MAX_TRIALS {
            behind = start.clone();
            break;
        }
        if too_high(&ahead) || (trials > 1 && ahead.loss >= behind.loss) {
            break;
        }
        if flat_enough(&ahead) {
            return Ok(ahead);
        }
        if ahead.slope >= 0.0 {
            break;
        }
        let nearest = ahead.t + 0.01 * (ahead.t - behind.t);
        let next = cubic_minimum(&behind, &ahead, nearest, 10.0 * ahead.t);
        behind = std::mem::replace(&mut ahead, evaluate(next)?);
        trials += 1;
    }

    // Narrow it down; `low` is the better end.
    let (mut low, mut high) = if behind.loss <= ahead.loss {
        (behind, ahead)
    } else {
        (ahead, behind)
    };
    let mut close_to_an_end = false;
    while trials < MAX_TRIALS && (high.t - low.t).abs() * reach >= MIN_CHANGE {
        let (left, right) = (low.t.min(high.t), low.t.max(high.t));
        let mut t = cubic_minimum(&low, &high, left, right);
        // Twice in a row near an end would make no headway: move inside by a tenth.
        let margin = 0.1 * (right - left);
        if (right - t).min(t - left) < margin {
            if close_to_an_end || t >= right || t <= left {
                t = if (t - right).abs() < (t - left).abs() {
                    right - margin
                } else {
                    left + margin
                };
                close_to_an_end = false;
            } else {
                close_to_an_end = true;
            }
        } else {
            close_to_an_end = false;
        }

        let trial = evaluate(t)?;
        trials += 1;
        if too_high(&trial) || trial.loss >= low.loss {
            high = trial;
            if high.loss < low.loss {
                std::mem::swap(&mut low, &mut high);
            }
        } else {
            if flat_enough(&trial) {
                return Ok(trial);
            }
            if trial.slope * (high.t - low.t) >= 0.0 {
                high = low;
            }
            low = trial;
        }
    }
    Ok(low)
}

/// Where the cubic through both points with their slopes is least, within `[least, most]`
/// (Nocedal and Wright, equation 3.59); the middle where it has no minimum.
fn cubic_minimum<B: Backend>(a: &Trial<B>, b: &Trial<B>, least: f64, most: f64) -> f64 {
    let (a, b) = if a.t <= b.t { (a, b) } else { (b, a) };
    let d1 = a.slope + b.slope - 3.0 * (a.loss - b.loss) / (a.t - b.t);
    let square = d1 * d1 - a.slope * b.slope;
    if square < 0.0 {
        return (least + most) / 2.0;
    }
    let d2 = square.sqrt();
    let t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2));
    if t.is_nan() {
        return (least + most) / 2.0;
    }
    t.max(least).min(most)
}
