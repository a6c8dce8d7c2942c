//! `impasto bench`: whether a device computes what the CPU does, and how fast.
//!
//! The pictures ([`pictures`]) and the loss ([`objective`]) are the same for both questions; the answers
//! ([`check`], [`timing`]) make up the [`report`].

mod check;
mod machine;
mod objective;
mod pictures;
mod report;
mod timing;

use std::process::ExitCode;

use impasto::kernel::AutodiffStyleBackend;
use impasto::{Vgg19, Vgg19Weights};

use self::check::{Check, Limits};
use self::pictures::Pictures;
use self::report::Report;
use super::args::BenchArgs;
use super::console::say;
use super::device::{BackendTask, Device, run_on};
use super::encoder::{Encoder, build};
use super::failure::Failure;
use super::files::Files;
use super::interrupt::Interrupt;

/// Measures, prints and writes what was found. A device that does not compute what the CPU does is a
/// failure, after its result is written.
pub fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let encoder = Encoder::choose(&args.device)?;
    Files::new()
        .read("the content picture (--content)", &args.content)
        .read("the style picture (--style)", &args.style)
        .read_weights(&args.device, &encoder)
        .write("the result (--json)", args.json_file())
        .check()?;
    let interrupt = Interrupt::watch()?;
    let bench = Bench {
        pictures: Pictures::open(args)?,
        weights: encoder.load(&args.device, args.quiet)?,
        args,
        interrupt,
    };
    let report = run_on(&args.device, args.quiet, bench)?;
    report.write(args)?;
    match &report.check {
        Some(check) => check.verdict(args.device.device()),
        None => Ok(ExitCode::SUCCESS),
    }
}

struct Bench<'a> {
    args: &'a BenchArgs,
    pictures: Pictures,
    weights: Vgg19Weights,
    interrupt: Interrupt,
}

impl BackendTask for Bench<'_> {
    type Output = Report;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Report, Failure> {
        let args = self.args;
        let encoder = build::<B>(self.weights.clone(), &args.device, &device);
        let precision = B::precision(&device, encoder.precision());
        let sizes = args.size.iter().map(|&size| [size.into(); 2]);
        let sizes: Vec<[usize; 2]> = sizes.collect();
        for [width, height] in sizes.iter().copied() {
            let checked = encoder.check(width, height, &objective::layers());
            checked.map_err(Failure::usage)?;
        }
        // Before the check, which would compile most of what the first evaluation needs.
        let times = sizes.into_iter().map(|size| {
            self.progress(format!("timing {}×{}", size[0], size[1]));
            let pictures = self.pictures.at(size);
            timing::measure(&encoder, &pictures, args.repeats, &self.interrupt)
        });
        let times = times.collect::<Result<Vec<_>, _>>()?;
        let (check, check_skipped) = match self.check(&encoder)? {
            Ok(check) => (Some(check), None),
            Err(reason) => (None, Some(reason)),
        };
        Ok(Report {
            impasto: env!("CARGO_PKG_VERSION"),
            device: args.device.device().to_string(),
            device_name: machine::name(args.device.device()),
            precision,
            weights: encoder.name(),
            checksum: format!("{:032x}", encoder.checksum()),
            threads: rayon::current_num_threads(),
            check,
            check_skipped,
            times,
        })
    }
}

impl Bench<'_> {
    fn progress(&self, text: String) {
        if !self.args.quiet {
            say(&text);
        }
    }

    /// What the device computes beside what the CPU does, or why that is not known.
    fn check<B: AutodiffStyleBackend>(
        &self,
        encoder: &Vgg19<B>,
    ) -> Result<Result<Check, &'static str>, Failure> {
        if self.args.no_check {
            return Ok(Err("left out (--no-check)"));
        }
        self.progress("comparing with the CPU".to_string());
        let expected = check::Reference {
            weights: self.weights.clone(),
            args: &self.args.device,
            pictures: &self.pictures,
            interrupt: &self.interrupt,
        };
        if !Device::Cpu.is_built_in() {
            return Ok(Err(
                "not possible: this build has no CPU engine to compare with (feature `flex`)",
            ));
        }
        let expected = Device::Cpu.run(true, expected)?;
        let found = check::observe(encoder, &self.pictures, &self.interrupt)?;
        let precision = B::precision(&encoder.device(), encoder.precision());
        Ok(Ok(check::compare(&expected, &found, Limits::of(precision))))
    }
}
