//! Ranks that paint one picture together: threads, devices, processes, machines.
//!
//! Every rank runs the same program on the same pictures, and takes the same steps: images, optimisers
//! and targets are the same everywhere. Only what takes the time is shared: of an
//! [evaluation in tiles](crate::eval) each rank computes some tiles, and all receive what the others found.
//! Sums are added in the order of the tiles, whoever computed them, so the result has the same bytes with any
//! number of ranks of one kind.
//!
//! Ranks are given to [`StyleTransfer::communicator`](crate::StyleTransfer::communicator) or
//! [`Evaluator::with_communicator`](crate::Evaluator::with_communicator).
//!
//! ```
//! # #[cfg(all(feature = "flex", feature = "builtin"))] {
//! use std::sync::Arc;
//!
//! use burn::backend::{Autodiff, Flex};
//! use impasto::communicator::ThreadCommunicator;
//! use impasto::{Picture, Recipe, StyleTransfer, Vgg19};
//!
//! let ranks = ThreadCommunicator::group(2);
//! let pictures = std::thread::scope(|scope| {
//!     let paint = |rank| {
//!         // Each its own device, if there are several.
//!         let encoder = Vgg19::<Autodiff<Flex>>::builtin(&Default::default());
//!         let recipe = Recipe { iterations: 2, ..Recipe::gram() };
//!         let transfer = StyleTransfer::new(&encoder)
//!             .content(Picture::open("assets/scene.jpg")?)
//!             .style(Picture::open("assets/swirls.jpg")?, 1.0)
//!             .recipe(recipe.with_size(96))
//!             .tile_size(64)
//!             .communicator(Arc::new(rank));
//!         Ok::<_, impasto::Error>(transfer.run()?.picture)
//!     };
//!     let threads: Vec<_> = ranks.into_iter().map(|rank| scope.spawn(move || paint(rank))).collect();
//!     let joined = threads.into_iter().map(|thread| thread.join().unwrap());
//!     joined.collect::<Result<Vec<_>, _>>()
//! })?;
//! assert_eq!(pictures[0].rgb(), pictures[1].rgb());
//! # }
//! # Ok::<(), impasto::Error>(())
//! ```

#[cfg(feature = "mpi")]
mod mpi;
mod threads;

use std::fmt;

#[cfg(feature = "mpi")]
pub use mpi::MpiCommunicator;
pub use threads::ThreadCommunicator;

/// One of several ranks, and its way to the others.
pub trait Communicator: fmt::Debug + Send + Sync {
    /// Which one, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Whether the others are threads of the same process, which share its memory.
    fn is_in_process(&self) -> bool {
        false
    }

    /// Gives bytes to all ranks, and returns those of every rank, in their order. All ranks call it equally
    /// often; it waits for the others.
    ///
    /// # Errors
    /// See [`CommunicationError`].
    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError>;
}

/// What can go wrong between ranks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommunicationError {
    /// A rank is gone: its thread or process ended.
    #[error("another rank is gone, or has ended the run for a reason of its own")]
    Lost,
    /// MPI that cannot be begun.
    #[error(
        "MPI cannot be begun; start the program with the mpirun of the MPI that it was built with"
    )]
    NoMpi,
    /// The program was asked to stop while it waited for others.
    #[error("stopped while waiting for other ranks")]
    Cancelled,
    /// Ranks that do not paint the same picture.
    #[error("the ranks were given different pictures, weights or options; start them all alike")]
    OtherRun,
    /// Ranks that computed something else from the same numbers.
    #[error("rank {rank} has another image than this one; use processors or GPUs of one kind")]
    OtherImage {
        /// Which rank.
        rank: usize,
    },
    /// A message that is not what the program sends.
    #[error(
        "rank {rank} sent something unknown; start all ranks from the same version of the program"
    )]
    Message {
        /// Which rank.
        rank: usize,
    },
}
