//! What is written about a run besides its result: log, intermediate pictures, evolution, curves.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use impasto::picture::SaveOptions;
use impasto::transfer::Provenance;
use impasto::view::{Curves, Evolution};
use impasto::{Outcome, Step};

use super::args::ReportArgs;
use super::failure::{Failure, describe_error};
use super::log::Log;

/// The reports of a run, as far as they are asked for.
pub struct Reports<'a> {
    log: Option<Log>,
    evolution: Option<(&'a Path, Evolution)>,
    curves: Option<(&'a Path, Curves)>,
    pictures: Option<Pictures<'a>>,
}

/// Pictures that are written every few evaluations.
struct Pictures<'a> {
    every: usize,
    output: &'a Path,
    save: SaveOptions,
    provenance: Option<Provenance>,
}

/// Checks that the names of reports tell formats that they can be written in.
pub fn check(args: &ReportArgs) -> Result<(), Failure> {
    if let Some(path) = &args.evolution {
        Evolution::check(path).map_err(Failure::usage)?;
    }
    if let Some(path) = &args.plot {
        Curves::check(path).map_err(Failure::usage)?;
    }
    Ok(())
}

impl<'a> Reports<'a> {
    /// Opens the log, replacing an old one, or continuing it where an interrupted run has made
    /// `evaluations` already. Intermediate pictures are written with `provenance`.
    pub fn open(
        args: &'a ReportArgs,
        output: &'a Path,
        save: SaveOptions,
        provenance: Option<Provenance>,
        evaluations: Option<usize>,
    ) -> Result<Self, Failure> {
        let open_log = |path: &PathBuf| match evaluations {
            None => Log::create(path),
            Some(evaluations) => Log::resume(path, evaluations),
        };
        let log = args.log.as_ref().map(open_log).transpose();
        let evolution = args.evolution.as_deref();
        let curves = args.plot.as_deref();
        Ok(Self {
            log: log.map_err(Failure::usage)?,
            evolution: evolution.map(|path| (path, Evolution::new())),
            curves: curves.map(|path| (path, Curves::new())),
            pictures: args.save_every.map(|every| Pictures {
                every: every as usize,
                output,
                save,
                provenance,
            }),
        })
    }

    /// Records an evaluation. What fails is told to `warn`: a full disk must not cost the run.
    pub fn record<B: Backend>(&mut self, step: &Step<'_, B>, warn: impl Fn(&str)) {
        if let Some((_, curves)) = &mut self.curves {
            curves.record(step);
        }
        if let Some((_, evolution)) = &mut self.evolution
            && let Err(error) = evolution.record(step)
        {
            warn(&describe_error(&error));
        }
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(step)
        {
            warn(&format!("impasto: the log ends here: {error}"));
            self.log = None;
        }
        if let Some(pictures) = &self.pictures
            && step.evaluation.is_multiple_of(pictures.every)
        {
            let path = numbered(pictures.output, step.evaluation);
            let saved = step.picture().and_then(|picture| {
                let picture = match &pictures.provenance {
                    Some(run) => picture.with_metadata(run.at_step(step).to_metadata()),
                    None => picture,
                };
                picture.save_with(&path, pictures.save)
            });
            if let Err(error) = saved {
                warn(&describe_error(&error));
            }
        }
    }

    /// Writes what is written at the end of a run. If one fails, the other is written all the same.
    pub fn finish(self, outcome: &Outcome) -> Result<(), Failure> {
        let evolution = self.evolution.map_or(Ok(()), |(path, mut evolution)| {
            evolution.finish(outcome.evaluations, &outcome.picture);
            evolution.save(path)
        });
        let curves = self
            .curves
            .map_or(Ok(()), |(path, curves)| curves.save(path));
        evolution.and(curves).map_err(Failure::other)
    }
}

/// The name of an intermediate picture: `out.png` → `out-0050.png`.
pub fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{number:04}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intermediate_pictures_are_numbered() {
        assert_eq!(
            numbered(Path::new("a/b.c.png"), 50),
            Path::new("a/b.c-0050.png")
        );
        assert_eq!(numbered(Path::new("b"), 12345), Path::new("b-12345"));
    }
}
