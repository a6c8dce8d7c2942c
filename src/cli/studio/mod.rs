//! `impasto studio`: a page in the browser on which pictures are painted, and `--live`: the same page for a
//! command that is running.
//!
//! | file | what is there |
//! |---|---|
//! | `ids` | what jobs and pictures are called |
//! | `settings` | what a picture is painted from, as the page says it |
//! | `job` | a job: what is known of it, and what it was told |
//! | `store` | the folder in which pictures, jobs and results are kept |
//! | `command_line` | the command line that a job is |
//! | `jobs` | the list of jobs, shared by the page and the painter |
//! | `watched` | a run that is watched: its curves and previews |
//! | `painter` | the loop that paints one job after another |
//! | `live` | what a running command shows |
//! | `guard` | which requests are answered |
//! | `routes` | what the page asks for, and what it is told |
//! | `server` | connections, and their limits |
//!
//! The page (`page/`) knows its engine only through the functions of `page/engine.js`.

mod command_line;
mod guard;
mod ids;
mod job;
mod jobs;
mod live;
mod painter;
mod routes;
mod server;
mod settings;
mod store;
mod watched;

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;

use impasto::kernel::AutodiffStyleBackend;

use self::command_line::CommonOptions;
use self::guard::Guard;
use self::jobs::Jobs;
use self::painter::Painter;
use self::routes::Studio;
use self::server::Server;
use self::store::Store;
use super::args::StudioArgs;
use super::console::say;
use super::device::{BackendTask, run_on};
use super::failure::Failure;
use super::interrupt::Interrupt;

pub use self::live::{Live, LiveJob};

/// `impasto studio`.
pub fn run(args: &StudioArgs) -> Result<ExitCode, Failure> {
    let common = CommonOptions::new(args)?;
    let store = Arc::new(Store::open(args.folder.as_deref())?);
    let jobs = Jobs::open(Arc::clone(&store)).map_err(Failure::usage)?;
    let jobs = Arc::new(jobs);
    let address = args.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let server = Server::bind(address, args.port)?;
    let guard = Guard::new(server.address())?;
    let url = guard.url();
    let studio = Studio {
        jobs: Arc::clone(&jobs),
        common: Some(common.clone()),
        store: Some(Arc::clone(&store)),
        title: "impasto studio".to_string(),
    };
    let _serving = server.start(studio, guard)?;
    let interrupt = Interrupt::watch()?;
    say(&format!("The studio is at {url}"));
    say(&format!(
        "Pictures and results are kept in {}. Ctrl-C ends the studio; what it paints goes on next time.",
        store.folder().display()
    ));
    if args.open && open::that_detached(&url).is_err() {
        say("No browser could be opened; open the address yourself.");
    }
    let task = Paint {
        common,
        store,
        jobs,
        interrupt,
    };
    run_on(&args.device, false, task)?;
    Ok(ExitCode::SUCCESS)
}

/// The painter, on whatever backend.
struct Paint {
    common: CommonOptions,
    store: Arc<Store>,
    jobs: Arc<Jobs>,
    interrupt: Interrupt,
}

impl BackendTask for Paint {
    type Output = ();

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<(), Failure> {
        Painter::<B>::new(self.common, self.store, self.jobs, self.interrupt, device).run()
    }
}
