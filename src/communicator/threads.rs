//! Ranks that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{CommunicationError, Communicator};

/// A rank among threads of one process, each for a device or a part of the processor's cores.
#[derive(Debug)]
pub struct ThreadCommunicator {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What has been given so far.
    given: Vec<Option<Arc<Vec<u8>>>>,
    /// How many have not yet taken what was given, once all have.
    left: usize,
    /// Whether a rank is gone.
    is_lost: bool,
}

impl ThreadCommunicator {
    /// `size` ranks, one for each thread. A rank that is dropped while others wait for it is lost to them.
    pub fn group(size: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                given: vec![None; size],
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let rank = |rank| Self {
            rank,
            size,
            shared: Arc::clone(&shared),
        };
        (0..size).map(rank).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state is as wanted, or somebody is gone.
    fn wait_until<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        is_wanted: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>, CommunicationError> {
        let waits = |state: &mut State| !is_wanted(state) && !state.is_lost;
        let state = self.shared.changed.wait_while(state, waits);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match is_wanted(&state) {
            true => Ok(state),
            false => Err(CommunicationError::Lost),
        }
    }
}

impl Communicator for ThreadCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn is_in_process(&self) -> bool {
        true
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        // Those before may still be taking what was given the last time.
        let mut state = self.wait_until(self.state(), |state| state.left == 0)?;
        state.given[self.rank] = Some(Arc::new(own));
        if state.given.iter().all(Option::is_some) {
            state.left = self.size;
            self.shared.changed.notify_all();
        }
        let mut state = self.wait_until(state, |state| state.left > 0)?;
        let given: Vec<_> = state.given.iter().flatten().cloned().collect();
        state.left -= 1;
        if state.left == 0 {
            state.given.fill(None);
            self.shared.changed.notify_all();
        }
        drop(state);
        let taken = given.into_iter().map(Arc::unwrap_or_clone);
        Ok(taken.collect())
    }
}

impl Drop for ThreadCommunicator {
    fn drop(&mut self) {
        self.state().is_lost = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn all_ranks_receive_what_every_rank_gave() {
        for size in 1..5 {
            let ranks = ThreadCommunicator::group(size);
            thread::scope(|scope| {
                for rank in ranks {
                    scope.spawn(move || {
                        for turn in 0..200 {
                            let own = vec![rank.rank() as u8; turn % 7];
                            let all = rank.all_gather(own).unwrap();
                            assert_eq!(all.len(), size);
                            for (other, bytes) in all.into_iter().enumerate() {
                                assert_eq!(bytes, vec![other as u8; turn % 7]);
                            }
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_rank_that_is_gone_is_an_error_for_those_who_wait() {
        let mut ranks = ThreadCommunicator::group(3);
        let gone = ranks.pop();
        thread::scope(|scope| {
            for rank in ranks {
                scope.spawn(move || {
                    assert_eq!(rank.all_gather(vec![1]), Err(CommunicationError::Lost));
                    assert_eq!(rank.all_gather(vec![1]), Err(CommunicationError::Lost));
                });
            }
            drop(gone);
        });
    }
}
