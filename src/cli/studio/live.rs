//! What a running command shows: `--live`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use burn::tensor::backend::Backend;
use impasto::transfer::{End, Plan};
use impasto::{Outcome, Step};

use super::guard::Guard;
use super::job::{Job, Status};
use super::jobs::Jobs;
use super::routes::Studio;
use super::server::{Server, Serving};
use super::watched::Watched;
use crate::cli::console::say;
use crate::cli::failure::Failure;

/// A page that shows the jobs of this command.
pub struct Live {
    jobs: Arc<Jobs>,
    _serving: Serving,
}

impl Live {
    /// Serves the page on this machine, at a free port if it is 0, and says where.
    pub fn start(port: u16) -> Result<Self, Failure> {
        let jobs = Arc::new(Jobs::shown_only());
        let server = Server::bind(IpAddr::V4(Ipv4Addr::LOCALHOST), port)?;
        let guard = Guard::new(server.address())?;
        say(&format!("Live at {}", guard.url()));
        let studio = Studio {
            jobs: Arc::clone(&jobs),
            common: None,
            store: None,
            title: "impasto --live".to_string(),
        };
        Ok(Self {
            jobs,
            _serving: server.start(studio, guard)?,
        })
    }

    /// Begins to show a job, with the time that is left where its plan is known.
    pub fn job(&self, title: String, plan: Option<&Plan>) -> LiveJob {
        let id = self.jobs.reserve();
        let mut job = Job::new(id, None, title, String::new());
        job.facts.status = Status::Painting;
        // Nothing is kept, so that nothing fails.
        let _ = self.jobs.add(job);
        LiveJob {
            watched: Watched::new(Arc::clone(&self.jobs), id, plan),
            jobs: Arc::clone(&self.jobs),
            id,
            status: Status::Stopped,
        }
    }
}

/// A job that is shown.
pub struct LiveJob {
    jobs: Arc<Jobs>,
    id: u64,
    watched: Watched,
    /// How it has ended when it is dropped.
    status: Status,
}

impl LiveJob {
    /// Shows an evaluation.
    pub fn record<B: Backend>(&mut self, step: &Step<'_, B>) {
        self.watched.record(step);
    }

    /// Shows the result.
    pub fn finish(mut self, outcome: &Outcome) {
        self.watched.show(&outcome.picture);
        if outcome.end == End::Finished {
            self.status = Status::Done;
        }
    }

    /// Ends a job that has come to its end, with the picture that was shown last.
    pub fn done(mut self) {
        self.status = Status::Done;
    }
}

impl Drop for LiveJob {
    /// It ends, with the picture that was shown last.
    fn drop(&mut self) {
        let _ = self.jobs.leave(self.id, self.status, None);
    }
}
