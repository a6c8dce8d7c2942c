//! Runs that several ranks share, here threads.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use impasto::communicator::{CommunicationError, Communicator, ThreadCommunicator};
use impasto::eval::EvalError;
use impasto::loss::{ContentTerm, Loss};
use impasto::transfer::{Checkpoint, Transport};
use impasto::{Evaluator, Layer, Recipe, Status, StyleTransfer, TransferError};

use super::{B, encoder, recipe, transfer, waves};

/// Does something on as many ranks, and returns what each found.
fn on_ranks<T: Send>(count: usize, work: impl Fn(Arc<dyn Communicator>) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let ranks = ThreadCommunicator::group(count).into_iter();
        let threads = ranks.map(|rank| scope.spawn(move || work(Arc::new(rank))));
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// The transfer of the tests in tiles, of which its second scale has six.
fn in_tiles(encoder: &impasto::Vgg19<B>) -> StyleTransfer<'_, B> {
    transfer(encoder).tile_size(16)
}

#[test]
fn any_number_of_ranks_gives_the_same_picture() {
    let expected = in_tiles(&encoder()).run().unwrap();
    for count in 1..=4 {
        let outcomes = on_ranks(count, |rank| {
            in_tiles(&encoder()).communicator(rank).run().unwrap()
        });
        for outcome in outcomes {
            assert_eq!(outcome.picture, expected.picture, "{count} ranks");
            assert_eq!(outcome.losses, expected.losses);
            assert_eq!(outcome.evaluations, expected.evaluations);
        }
    }
}

/// A loss by nearest neighbours too, of the default recipe.
#[test]
fn ranks_share_nearest_neighbours() {
    let layers = vec![Layer::RELU2_1, Layer::RELU3_1];
    let mut matching = Recipe {
        size: 40,
        iterations: 3,
        coarse_iterations: vec![2],
        ..Recipe::default()
    };
    matching.neighbors.layers = layers;
    matching.neighbors.final_iterations = 0;
    let expected = in_tiles(&encoder()).recipe(matching.clone()).run().unwrap();
    let pictures = on_ranks(3, |rank| {
        let encoder = encoder();
        let transfer = in_tiles(&encoder).recipe(matching.clone());
        transfer.communicator(rank).run().unwrap().picture
    });
    assert!(pictures.iter().all(|picture| *picture == expected.picture));
}

#[test]
fn if_one_rank_stops_so_do_all_and_another_number_goes_on() {
    let expected = in_tiles(&encoder()).run().unwrap().picture;
    let stopped = on_ranks(3, |rank| {
        let (encoder, number) = (encoder(), rank.rank());
        let mut run = in_tiles(&encoder).communicator(rank).prepare().unwrap();
        let mut evaluations = 0;
        loop {
            let status = run.step_with(|_| {
                evaluations += 1;
                match number == 1 && evaluations == 7 {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            if status.unwrap() == Status::Stopped {
                return run.checkpoint().unwrap();
            }
        }
    });
    let bytes = |checkpoint: &Checkpoint| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        checkpoint.save(&path).unwrap();
        Checkpoint::load(&path).unwrap()
    };
    for checkpoint in &stopped {
        assert_eq!(checkpoint.evaluations(), 6);
    }
    for count in [1, 2, 4] {
        let pictures = on_ranks(count, |rank| {
            let encoder = encoder();
            let transfer = in_tiles(&encoder).resume(bytes(&stopped[0]));
            transfer.communicator(rank).run().unwrap().picture
        });
        assert!(pictures.iter().all(|picture| *picture == expected));
    }
}

#[test]
fn ranks_that_do_not_do_the_same_find_it_out() {
    let errors = on_ranks(2, |rank| {
        let encoder = encoder();
        let seed = rank.rank() as u64;
        in_tiles(&encoder)
            .seed(seed)
            .communicator(rank)
            .prepare()
            .unwrap_err()
    });
    for error in errors {
        let TransferError::Communication(CommunicationError::OtherRun) = error else {
            panic!("{error}");
        };
    }

    // An image that is not that of the others.
    let errors = on_ranks(2, |rank| {
        let (encoder, other) = (encoder(), 1 - rank.rank());
        let phase = rank.rank() as f32;
        let image = waves(40, 30, 1.0 + phase).to_tensor(&Default::default());
        let features = encoder.features(image.clone(), &[Layer::RELU2_1]).unwrap();
        let target = features.get(Layer::RELU2_1).clone();
        let [_, channels, ..] = target.dims();
        let term = ContentTerm::new(Layer::RELU2_1, channels, target);
        let loss = Loss::term("content", 1.0, term);
        let evaluator = Evaluator::new(encoder.clone(), Loss::sum("total", 1.0, vec![loss]));
        let evaluator = evaluator.with_tile_size(Some(16)).unwrap();
        let evaluator = evaluator.with_communicator(Some(rank));
        (evaluator.evaluate(&image.inner()).unwrap_err(), other)
    });
    for (error, rank) in errors {
        let expected = CommunicationError::OtherImage { rank };
        assert_eq!(error, EvalError::Communication(expected));
    }
}

#[test]
fn the_memory_that_the_least_may_take_is_that_of_all() {
    let plans = on_ranks(2, |rank| {
        let encoder = encoder();
        let bytes = [1 << 40, 1 << 30][rank.rank()];
        let transfer = transfer(&encoder).memory_limit(bytes).communicator(rank);
        transfer.prepare().unwrap().plan().clone()
    });
    assert_eq!(plans[0], plans[1]);
    let errors = on_ranks(2, |rank| {
        let encoder = encoder();
        let bytes = [1 << 40, 1 << 20][rank.rank()];
        let transfer = transfer(&encoder).memory_limit(bytes).communicator(rank);
        transfer.prepare().unwrap_err()
    });
    for error in errors {
        assert!(matches!(error, TransferError::Memory { .. }), "{error}");
    }
}

#[test]
fn a_loss_of_the_whole_image_is_not_shared() {
    let whole = Recipe {
        transport: Transport {
            weight: 1.0,
            ..recipe().transport
        },
        ..recipe()
    };
    let encoder = encoder();
    let alone: Arc<dyn Communicator> = Arc::new(ThreadCommunicator::group(1).remove(0));
    let transfer = transfer(&encoder).recipe(whole).communicator(alone);
    let error = transfer.prepare().unwrap_err();
    assert!(
        matches!(error, TransferError::CannotShare { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("neural-style"), "{error}");
}

/// Larger scales are cut without being asked, alike for any number of ranks.
#[test]
fn the_tiles_do_not_depend_on_the_number_of_ranks() {
    let large = recipe().with_size(700);
    let plan = |rank| {
        let encoder = encoder();
        let transfer = transfer(&encoder).content(waves(700, 600, 1.0));
        let transfer = transfer.recipe(large.clone()).communicator(rank);
        transfer.prepare().unwrap().plan().clone()
    };
    let expected = on_ranks(1, plan).remove(0);
    assert!(expected.scales.last().unwrap().tiles > 1);
    for other in on_ranks(3, plan) {
        assert_eq!(other, expected);
    }
}

/// A rank that is told to stop while it waits for others.
#[derive(Debug)]
struct Cancelled {
    ranks: ThreadCommunicator,
    /// Exchanges until then.
    left: AtomicUsize,
}

impl Communicator for Cancelled {
    fn rank(&self) -> usize {
        self.ranks.rank()
    }

    fn size(&self) -> usize {
        self.ranks.size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        match self.left.load(Ordering::Relaxed) {
            0 => Err(CommunicationError::Cancelled),
            left => {
                self.left.store(left - 1, Ordering::Relaxed);
                self.ranks.all_gather(own)
            }
        }
    }
}

/// Whatever it waits for, it stops with a checkpoint of its last complete step, from which others go on; and the
/// rank that waits for it learns that it is gone.
#[test]
fn a_rank_that_gives_up_keeps_its_last_step() {
    let expected = in_tiles(&encoder()).run().unwrap().picture;
    // Two exchanges when the run is prepared; its ten steps have up to three each.
    for left in [4, 11, 18, 25] {
        let ranks = ThreadCommunicator::group(2);
        let mut kept = thread::scope(|scope| {
            let threads = ranks.into_iter().map(|ranks| {
                scope.spawn(move || {
                    let (encoder, number) = (encoder(), ranks.rank());
                    let left = if number == 0 { left } else { usize::MAX };
                    let left = AtomicUsize::new(left);
                    let rank = Arc::new(Cancelled { ranks, left });
                    let mut run = in_tiles(&encoder).communicator(rank).prepare().unwrap();
                    loop {
                        match run.step() {
                            Ok(Status::Running(_)) => {}
                            Ok(status) => {
                                assert_eq!((number, status), (0, Status::Stopped));
                                return run.checkpoint();
                            }
                            Err(error) => {
                                assert_eq!(number, 1);
                                let lost = Some(&CommunicationError::Lost);
                                assert_eq!(error.communication(), lost, "{error}");
                                return None;
                            }
                        }
                    }
                })
            });
            let threads: Vec<_> = threads.collect();
            let kept = threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap());
            kept.collect::<Vec<Checkpoint>>()
        });
        let kept = kept.pop().unwrap();
        let resumed = in_tiles(&encoder()).resume(kept).run().unwrap();
        assert_eq!(resumed.picture, expected, "{left}");
    }
}
