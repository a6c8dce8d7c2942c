//! The list of jobs, which the page reads and the painter works on.
//!
//! Whatever changes a job is decided, done and told under one lock, so that the page and the painter cannot
//! contradict each other.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use impasto::page::{Point, Progress};
use serde::Serialize;
use tokio::sync::broadcast;

use super::ids::JobId;
use super::job::{Facts, Job, Leave, Order, Status, Wishes};
use super::store::Store;

/// Events that wait for a page that is slow to take them. One that falls behind is told everything anew.
const EVENTS: usize = 256;

/// The most previews that are kept.
const PREVIEWS: usize = 16;

/// How long the painter sleeps before it looks again whether it shall end.
const LOOK: Duration = Duration::from_millis(200);

/// Why an order is not followed.
#[derive(Debug)]
pub enum Refused {
    /// There is no such job.
    Missing,
    /// It cannot be done with the job as it stands.
    Conflict,
    /// It is done, but cannot be kept.
    Io(io::Error),
}

/// What a page is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event<'a> {
    Job {
        job: View<'a>,
    },
    Removed {
        id: JobId,
    },
    Step {
        id: JobId,
        progress: &'a Option<Progress>,
        points: &'a [Point],
        preview: u64,
    },
}

/// A job as a page sees it.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    preview: u64,
}

impl View<'_> {
    fn of(job: &Job) -> View<'_> {
        View {
            facts: &job.facts,
            preview: job.version,
        }
    }
}

struct State {
    jobs: BTreeMap<JobId, Job>,
    next: JobId,
}

impl State {
    /// Before all others in the queue.
    fn first_place(&self) -> i64 {
        let places = self.jobs.values().map(|job| job.facts.place);
        places.min().unwrap_or(0) - 1
    }
}

/// The list.
pub struct Jobs {
    state: Mutex<State>,
    changed: Condvar,
    events: broadcast::Sender<Arc<str>>,
    /// Where they are kept.
    store: Option<Arc<Store>>,
    /// Held while a job is written or deleted.
    keeping: Mutex<()>,
}

impl Jobs {
    /// No jobs, and none is kept.
    pub fn shown_only() -> Self {
        Self {
            state: Mutex::new(State {
                jobs: BTreeMap::new(),
                next: 1,
            }),
            changed: Condvar::new(),
            events: broadcast::Sender::new(EVENTS),
            store: None,
            keeping: Mutex::new(()),
        }
    }

    /// The jobs in a folder. What was being painted waits to go on.
    pub fn open(store: Arc<Store>) -> io::Result<Self> {
        let (jobs, next) = store.load_jobs()?;
        let mut jobs: BTreeMap<JobId, Job> =
            jobs.into_iter().map(|job| (job.facts.id, job)).collect();
        for job in jobs.values_mut() {
            if job.facts.status == Status::Painting {
                job.facts.status = Status::Queued;
            }
        }
        Ok(Self {
            state: Mutex::new(State { jobs, next }),
            store: Some(store),
            ..Self::shown_only()
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another thread left at worst an event unsent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all pages. Under the lock, so that events come in the order of what they tell.
    fn send(&self, event: &Event<'_>) {
        // Nobody may be listening.
        if let Ok(text) = serde_json::to_string(event) {
            let _ = self.events.send(text.into());
        }
    }

    /// The events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.events.subscribe()
    }

    /// Whether somebody looks.
    pub fn is_watched(&self) -> bool {
        self.events.receiver_count() > 0
    }

    /// All jobs as JSON, oldest first.
    pub fn list(&self) -> serde_json::Value {
        let state = self.lock();
        let views: Vec<View> = state.jobs.values().map(View::of).collect();
        serde_json::to_value(views).unwrap_or_default()
    }

    /// What is made of a job, if it is there.
    pub fn read<T>(&self, id: JobId, read: impl FnOnce(&Job) -> T) -> Option<T> {
        self.lock().jobs.get(&id).map(read)
    }

    /// A number for a new job.
    pub fn reserve(&self) -> JobId {
        let mut state = self.lock();
        state.next += 1;
        state.next - 1
    }

    /// Adds a job, and keeps it.
    pub fn add(&self, job: Job) -> io::Result<()> {
        let id = job.facts.id;
        let mut state = self.lock();
        self.send(&Event::Job {
            job: View::of(&job),
        });
        state.jobs.insert(id, job);
        drop(state);
        self.keep(id)?;
        self.changed.notify_all();
        Ok(())
    }

    /// Writes a job as it is now, unless it is gone.
    pub fn keep(&self, id: JobId) -> io::Result<()> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let _keeping = self.keeping.lock();
        match self.read(id, Clone::clone) {
            Some(job) => store.save_job(&job),
            None => Ok(()),
        }
    }

    /// Removes a job from the list, with what is kept of it.
    pub fn remove(&self, id: JobId) -> io::Result<()> {
        let _keeping = self.keeping.lock();
        let mut state = self.lock();
        state.jobs.remove(&id);
        self.send(&Event::Removed { id });
        drop(state);
        match &self.store {
            Some(store) => store.remove_job(id),
            None => Ok(()),
        }
    }

    /// Changes what is known of a job, and keeps it.
    pub fn update(&self, id: JobId, change: impl FnOnce(&mut Facts)) -> io::Result<()> {
        if let Some(job) = self.lock().jobs.get_mut(&id) {
            change(&mut job.facts);
            self.send(&Event::Job { job: View::of(job) });
        }
        self.keep(id)
    }

    /// How many jobs wait or are painted.
    pub fn unfinished(&self) -> usize {
        let waits = [Status::Queued, Status::Painting, Status::Paused];
        let state = self.lock();
        let statuses = state.jobs.values().map(|job| job.facts.status);
        statuses.filter(|status| waits.contains(status)).count()
    }

    /// Tells a job something.
    pub fn order(&self, id: JobId, order: Order) -> Result<(), Refused> {
        let mut state = self.lock();
        let first = state.first_place();
        let job = state.jobs.get_mut(&id).ok_or(Refused::Missing)?;
        let facts = &mut job.facts;
        let leave = match order {
            Order::Pause => Some(Leave::Pause),
            Order::Finish => Some(Leave::Finish),
            Order::Remove => Some(Leave::Remove),
            _ => None,
        };
        match (order, facts.status) {
            (Order::Steer(settings), Status::Painting) => {
                job.wishes.steer = Some(*settings);
                return Ok(());
            }
            (_, Status::Painting) if leave.is_some() => {
                job.wishes.leave = job.wishes.leave.max(leave);
                return Ok(());
            }
            (Order::Remove, _) => {
                drop(state);
                return self.remove(id).map_err(Refused::Io);
            }
            (Order::Steer(settings), Status::Queued | Status::Paused) => job.steer(*settings),
            (Order::Pause, Status::Queued) => facts.status = Status::Paused,
            (Order::Continue, Status::Paused | Status::Failed) => {
                (facts.status, facts.place) = (Status::Queued, first);
            }
            (Order::Finish, Status::Queued | Status::Paused) if facts.progress.is_some() => {
                (facts.status, facts.place) = (Status::Queued, first);
                facts.finish = true;
            }
            _ => return Err(Refused::Conflict),
        }
        self.send(&Event::Job { job: View::of(job) });
        drop(state);
        self.changed.notify_all();
        self.keep(id).map_err(Refused::Io)
    }

    /// Waits for the next job to paint, which is then painted; `None` as soon as `ends` says so.
    pub fn next(&self, ends: impl Fn() -> bool) -> Option<JobId> {
        let mut state = self.lock();
        loop {
            if ends() {
                return None;
            }
            let queued = state.jobs.values_mut();
            let queued = queued.filter(|job| job.facts.status == Status::Queued);
            if let Some(job) = queued.min_by_key(|job| (job.facts.place, job.facts.id)) {
                job.facts.status = Status::Painting;
                job.facts.message = None;
                self.send(&Event::Job { job: View::of(job) });
                return Some(job.facts.id);
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What the job that is painted was told since the last time.
    pub fn take_wishes(&self, id: JobId) -> Wishes {
        let mut state = self.lock();
        let job = state.jobs.get_mut(&id);
        job.map(|job| std::mem::take(&mut job.wishes))
            .unwrap_or_default()
    }

    /// Leaves a job that was painted, with what there is to say. What it was told meanwhile is not lost.
    pub fn leave(&self, id: JobId, status: Status, message: Option<String>) -> io::Result<()> {
        let mut state = self.lock();
        let Some(job) = state.jobs.get_mut(&id) else {
            return Ok(());
        };
        let wishes = std::mem::take(&mut job.wishes);
        job.facts.status = status;
        job.facts.message = message.or(job.facts.message.take());
        job.facts.finish = false;
        if wishes.leave == Some(Leave::Remove) {
            drop(state);
            return self.remove(id);
        }
        if let (Some(settings), Status::Queued | Status::Paused) = (wishes.steer, status) {
            job.steer(settings);
        }
        match (wishes.leave, status) {
            (Some(Leave::Finish), Status::Paused | Status::Queued) => {
                job.facts.status = Status::Queued;
                job.facts.finish = true;
            }
            (Some(Leave::Pause), Status::Queued) => job.facts.status = Status::Paused,
            _ => {}
        }
        self.send(&Event::Job { job: View::of(job) });
        drop(state);
        self.keep(id)
    }

    /// Forgets the points of evaluations that will be made again.
    pub fn rewind(&self, id: JobId, evaluations: usize) {
        if let Some(job) = self.lock().jobs.get_mut(&id) {
            job.curves.retain(|point| point.evaluation <= evaluations);
        }
    }

    /// Takes note of steps, and of a new preview, a JPEG, if there is one.
    pub fn step(
        &self,
        id: JobId,
        progress: Option<Progress>,
        points: &[Point],
        preview: Option<Vec<u8>>,
    ) {
        let mut state = self.lock();
        if preview.is_some() {
            let with_preview = state.jobs.values_mut().filter(|job| job.preview.is_some());
            let mut with_preview: Vec<&mut Job> = with_preview.collect();
            let more = with_preview.len().saturating_sub(PREVIEWS - 1);
            for job in with_preview.iter_mut().take(more) {
                job.preview = None;
            }
        }
        let Some(job) = state.jobs.get_mut(&id) else {
            return;
        };
        job.add_points(points);
        if progress.is_some() {
            job.facts.progress.clone_from(&progress);
        }
        if let Some(preview) = preview {
            job.preview = Some(preview.into());
            job.version += 1;
        }
        self.send(&Event::Step {
            id,
            progress: &progress,
            points,
            preview: job.version,
        });
    }

    /// The latest preview of a job.
    pub fn preview(&self, id: JobId) -> Option<Arc<[u8]>> {
        self.lock().jobs.get(&id)?.preview.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::studio::job::POINTS;

    fn jobs(count: u64) -> Jobs {
        let jobs = Jobs::shown_only();
        for _ in 0..count {
            let id = jobs.reserve();
            let job = Job::new(id, None, id.to_string(), String::new());
            jobs.add(job).unwrap();
        }
        jobs
    }

    fn status(jobs: &Jobs, id: JobId) -> Status {
        jobs.read(id, |job| job.facts.status).unwrap()
    }

    #[test]
    fn orders_do_what_the_status_allows() {
        let jobs = jobs(2);
        assert_eq!(jobs.next(|| false), Some(1));
        // A painted job is told, and does it at its next step; the strongest wins.
        jobs.order(1, Order::Finish).unwrap();
        jobs.order(1, Order::Pause).unwrap();
        assert_eq!(status(&jobs, 1), Status::Painting);
        assert_eq!(jobs.take_wishes(1).leave, Some(Leave::Finish));
        assert_eq!(jobs.take_wishes(1).leave, None);
        jobs.order(1, Order::Pause).unwrap();
        jobs.take_wishes(1);
        jobs.leave(1, Status::Paused, None).unwrap();
        assert!(matches!(
            jobs.order(1, Order::Pause),
            Err(Refused::Conflict)
        ));
        assert!(matches!(jobs.order(9, Order::Pause), Err(Refused::Missing)));
        // It goes on before those that wait.
        jobs.order(1, Order::Continue).unwrap();
        assert_eq!(jobs.next(|| false), Some(1));
        // What it was told while it was being left.
        jobs.order(1, Order::Finish).unwrap();
        jobs.leave(1, Status::Paused, None).unwrap();
        assert_eq!(status(&jobs, 1), Status::Queued);
        assert!(jobs.read(1, |job| job.facts.finish).unwrap());
        assert_eq!(jobs.next(|| false), Some(1));
        jobs.order(1, Order::Remove).unwrap();
        jobs.leave(1, Status::Done, None).unwrap();
        assert!(jobs.read(1, |_| ()).is_none());
        assert_eq!(jobs.next(|| false), Some(2));
        jobs.leave(2, Status::Failed, Some("why".into())).unwrap();
        // Of one that was never painted there is nothing to finish.
        assert!(matches!(
            jobs.order(2, Order::Finish),
            Err(Refused::Conflict)
        ));
        jobs.order(2, Order::Continue).unwrap();
        jobs.order(2, Order::Remove).unwrap();
        assert_eq!(jobs.next(|| true), None);
        assert_eq!(jobs.reserve(), 3);
    }

    #[test]
    fn no_more_is_kept_than_is_shown() {
        let jobs = jobs(40);
        let point = |evaluation| Point {
            evaluation,
            scale: 1,
            total: 1.0,
            terms: BTreeMap::new(),
        };
        for id in 1..=40 {
            jobs.step(id, None, &[point(1)], Some(vec![id as u8]));
        }
        let kept: Vec<_> = (1..=40).filter(|&id| jobs.preview(id).is_some()).collect();
        assert_eq!(kept, (25..=40).collect::<Vec<_>>());
        for evaluation in 0..10_000 {
            jobs.step(1, None, &[point(evaluation)], None);
        }
        let evaluations = |jobs: &Jobs| {
            let read = |job: &Job| job.curves.iter().map(|p| p.evaluation).collect::<Vec<_>>();
            jobs.read(1, read).unwrap()
        };
        let curves = evaluations(&jobs);
        assert!(curves.len() <= POINTS && curves.len() > POINTS / 3);
        assert_eq!(curves.last(), Some(&9999));
        jobs.rewind(1, 500);
        assert!(
            evaluations(&jobs)
                .into_iter()
                .all(|evaluation| evaluation <= 500)
        );
    }

    #[test]
    fn events_come_in_order() {
        let jobs = jobs(1);
        let mut events = jobs.subscribe();
        assert!(jobs.is_watched());
        jobs.order(1, Order::Pause).unwrap();
        jobs.order(1, Order::Continue).unwrap();
        jobs.next(|| false);
        let statuses = std::iter::from_fn(|| events.try_recv().ok()).map(|text| {
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            event["job"]["status"].as_str().unwrap().to_string()
        });
        let statuses: Vec<_> = statuses.collect();
        assert_eq!(statuses, ["paused", "queued", "painting"]);
        drop(events);
        assert!(!jobs.is_watched());
    }
}
