//! A run that its owner steps.
//!
//! | file | what is there |
//! |---|---|
//! | `state` | [`Run`], what it holds between two steps |
//! | `control` | what its owner can do with it: step, picture, checkpoint, set_recipe, finish |
//! | `scale` | from scale to scale: where each begins and what it minimises |
//! | `step` | a step of the optimiser, and the evaluations it is made of |
//! | `outcome` | the results of a step and of a run |

mod control;
mod outcome;
mod scale;
mod state;
mod step;

pub use outcome::{End, Outcome, Status, StepReport};
pub use state::Run;
pub use step::Step;
