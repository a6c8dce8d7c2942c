//! The files that a command reads and writes. Before work begins, each that would be written is
//! compared with all others, so that none destroys another.
//!
//! Files are compared by what they are, not by how they are spelled: links, `a/../b`, and names that
//! differ only in ways that the file system ignores all lead to the same file.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use file_id::{FileId, get_file_id};
use impasto::picture::check_folder;

use super::args::{CheckpointArgs, DeviceArgs, ReportArgs, StyleArgs};
use super::encoder::Encoder;
use super::failure::Failure;
use super::reports::numbered;

/// Links that are followed from one to the next, as in Linux.
const MOST_LINKS: usize = 40;

/// The files of a command.
#[derive(Default)]
pub struct Files {
    uses: Vec<FileUse>,
    intermediate: Vec<Intermediate>,
}

/// A file and what a command does with it.
struct FileUse {
    path: PathBuf,
    /// What it is for the user, with the option that names it.
    what: &'static str,
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
    /// The state of a run, which the run that goes on from it writes anew.
    Continue,
}

/// Pictures whose numbers are known only when they are written.
struct Intermediate {
    output: PathBuf,
    every: usize,
}

const INTERMEDIATE: &str = "an intermediate picture (--save-every)";
const CHECKPOINT: &str = "the checkpoint (--checkpoint)";

impl Files {
    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn add<P: AsRef<Path>>(
        mut self,
        what: &'static str,
        purpose: Purpose,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let file = |path: P| FileUse {
            path: path.as_ref().to_path_buf(),
            what,
            purpose,
        };
        self.uses.extend(paths.into_iter().map(file));
        self
    }

    /// Adds files that are read.
    pub fn read<P: AsRef<Path>>(
        self,
        what: &'static str,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        self.add(what, Purpose::Read, paths)
    }

    /// Adds files that are written.
    pub fn write<P: AsRef<Path>>(
        self,
        what: &'static str,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        self.add(what, Purpose::Write, paths)
    }

    /// Adds the pictures and the recipe that the options of a painting name.
    pub fn read_style(self, args: &StyleArgs) -> Self {
        let init = args.init.iter().filter(|init| init.exists());
        let recipe = Some(&args.recipe).filter(|recipe| recipe.extension().is_some());
        self.read("a mask (--mask)", &args.mask)
            .read("a mask of a style (--style-mask)", &args.style_mask)
            .read("the map of regions (--regions)", &args.regions)
            .read("a map of a style (--style-regions)", &args.style_regions)
            .read("the picture to start from (--init)", init)
            .read("the recipe (--recipe)", recipe)
    }

    /// Adds the file of the network's weights.
    pub fn read_weights(self, args: &DeviceArgs, encoder: &Encoder) -> Self {
        let what = "the file of weights (--weights)";
        let found = match encoder {
            Encoder::Vgg19(file) => Some(file),
            Encoder::Builtin => None,
        };
        // One that is named and not needed must not be lost either.
        self.read(what, &args.weights).read(what, found)
    }

    /// Adds a result and the reports on its run.
    pub fn write_result(self, output: &Path, reports: &ReportArgs) -> Self {
        let mut files = self
            .write("the result (--output)", [output])
            .write("the log (--log)", &reports.log)
            .write("the evolution (--evolution)", &reports.evolution)
            .write("the curves (--plot)", &reports.plot);
        files
            .intermediate
            .extend(reports.save_every.map(|every| Intermediate {
                output: output.to_path_buf(),
                every: every as usize,
            }));
        files
    }

    /// Adds the file of a run's state, and the one that the run goes on from.
    pub fn keep_checkpoint(self, args: &CheckpointArgs, resumed: Option<&Path>) -> Self {
        self.add("the checkpoint", Purpose::Continue, resumed)
            .write(CHECKPOINT, &args.checkpoint)
    }

    /// Checks that no file would be written over another that is read or written, and that all can be
    /// written.
    pub fn check(&self) -> Result<(), Failure> {
        let mut uses: Vec<&FileUse> = self.uses.iter().collect();
        // What is read comes first, so that every conflict is found with the file that is written.
        uses.sort_by_key(|file| file.purpose == Purpose::Write);
        let places: Vec<Option<Place>> = uses.iter().map(|file| place(file)).collect();
        let intermediate = self.intermediate(places.iter().flatten());
        let mut places: Vec<(Place, &FileUse)> = places
            .into_iter()
            .zip(uses)
            .filter_map(|(place, file)| Some((place?, file)))
            .collect();
        places.extend(
            intermediate
                .iter()
                .filter_map(|file| Some((place(file)?, file))),
        );
        unite_names_of_same_file(&mut places);

        let mut owners: HashMap<&Place, Vec<&FileUse>> = HashMap::new();
        for (place, file) in &places {
            let others = owners.entry(place).or_default();
            if file.purpose == Purpose::Write
                && let Some(other) = others.iter().find(|other| conflict(other, file))
            {
                return Err(other.refuse(file));
            }
            others.push(file);
        }
        self.check_writable()
    }

    fn check_writable(&self) -> Result<(), Failure> {
        let written = self.uses.iter().filter(|f| f.purpose == Purpose::Write);
        let written = written.map(|file| (file.path.clone(), file.what));
        // One of the intermediate pictures stands for all.
        let intermediate = self.intermediate.iter();
        let intermediate =
            intermediate.map(|series| (numbered(&series.output, series.every), INTERMEDIATE));
        for (path, what) in written.chain(intermediate) {
            check_folder(&path).map_err(|error| {
                let cause = error.source().map_or_else(String::new, ToString::to_string);
                let path = path.display();
                Failure::usage(format!("{path}: {what} cannot be written: {cause}"))
            })?;
        }
        Ok(())
    }

    /// The intermediate pictures whose names are in use already, on the disk or in this command.
    fn intermediate<'a>(&'a self, places: impl Iterator<Item = &'a Place>) -> Vec<FileUse> {
        if self.intermediate.is_empty() {
            return Vec::new();
        }
        let mut numbers: HashMap<String, Vec<usize>> = HashMap::new();
        let mut note = |name: &OsStr| {
            if let Some((series, number)) = series_and_number(name) {
                numbers.entry(series).or_default().push(number);
            }
        };
        for place in places {
            if let Place::New { name, .. } = place {
                note(name);
            }
        }
        let mut folders: Vec<&Path> = self
            .intermediate
            .iter()
            .map(|s| folder(&s.output))
            .collect();
        folders.sort();
        folders.dedup();
        for folder in folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.for_each(|entry| note(&entry.file_name()));
        }
        let mut files = Vec::new();
        for series in &self.intermediate {
            let found = numbers.get(&series_of(&series.output)).cloned();
            let mut found = found.unwrap_or_default();
            found.retain(|&number| number > 0 && number.is_multiple_of(series.every));
            found.sort_unstable();
            found.dedup();
            files.extend(found.into_iter().map(|number| FileUse {
                path: numbered(&series.output, number),
                what: INTERMEDIATE,
                purpose: Purpose::Write,
            }));
        }
        files
    }
}

impl FileUse {
    /// The error for a file that is used already, as this one, and would be written as another.
    fn refuse(&self, written: &FileUse) -> Failure {
        let spelled = match self.path == written.path {
            true => String::new(),
            false => format!(" {}", self.path.display()),
        };
        let (path, what) = (written.path.display(), written.what);
        let taken = self.what;
        Failure::usage(match self.purpose {
            Purpose::Write => format!(
                "{path}: {what} and {taken}{spelled} would be written to one file; choose another \
                 name for one of them"
            ),
            _ => format!(
                "{path}: {what} would overwrite {taken}{spelled}, which is read; choose another name"
            ),
        })
    }
}

/// Whether a file that is used already must not be written as another.
fn conflict(used: &FileUse, written: &FileUse) -> bool {
    used.purpose != Purpose::Continue || written.what != CHECKPOINT
}

/// What makes two names lead to one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// A file that exists.
    Existing(FileId),
    /// A file that will be made.
    New { folder: FileId, name: OsString },
}

/// The place of a file. None for devices and pipes, which nothing written destroys, for what is to be
/// read and does not exist, and for what cannot be written since its folder does not exist.
fn place(file: &FileUse) -> Option<Place> {
    let mut path = file.path.clone();
    for _ in 0..MOST_LINKS {
        if let Ok(metadata) = fs::metadata(&path) {
            let is_file = metadata.is_file();
            return is_file.then(|| get_file_id(&path).ok().map(Place::Existing))?;
        }
        match fs::read_link(&path) {
            Ok(link) => path = folder(&path).join(link),
            Err(_) if file.purpose != Purpose::Write => return None,
            Err(_) => {
                return Some(Place::New {
                    folder: get_file_id(folder(&path)).ok()?,
                    name: path.file_name()?.to_os_string(),
                });
            }
        }
    }
    None
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Gives one name to new files of a folder whose names are the same for its file system, which may
/// ignore case, or how accents are written. It is asked, in a folder of its own.
fn unite_names_of_same_file(places: &mut [(Place, &FileUse)]) {
    let mut groups: HashMap<(FileId, String), Vec<usize>> = HashMap::new();
    for (index, (place, _)) in places.iter().enumerate() {
        if let Place::New { folder, name } = place {
            // Names that a file system may take for one: accents are written in several ways.
            let mut common = name.to_string_lossy().to_lowercase();
            if !common.is_ascii() {
                common.clear();
            }
            groups.entry((*folder, common)).or_default().push(index);
        }
    }
    for group in groups.into_values() {
        let name = |index: usize| match &places[index].0 {
            Place::New { name, .. } => name.clone(),
            Place::Existing(_) => OsString::new(),
        };
        let names: Vec<OsString> = group.iter().map(|&index| name(index)).collect();
        if names.iter().all(|name| *name == names[0]) {
            continue;
        }
        let folder = folder(&places[group[0]].1.path);
        for (index, first) in group.into_iter().zip(first_names(folder, &names)) {
            if let Place::New { name, .. } = &mut places[index].0 {
                *name = first;
            }
        }
    }
}

/// For each name the first in the list that is the same file, in a folder like this one.
fn first_names(folder: &Path, names: &[OsString]) -> Vec<OsString> {
    let mut builder = tempfile::Builder::new();
    // A folder that accepts nothing has no new files either.
    let Ok(trial) = builder.prefix(".impasto-").tempdir_in(folder) else {
        return names.to_vec();
    };
    let mut known: HashMap<FileId, OsString> = HashMap::new();
    let first = |name: &OsString| {
        let path = trial.path().join(name);
        let made = fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|_| get_file_id(&path));
        match made {
            Ok(id) => known.entry(id).or_insert_with(|| name.clone()).clone(),
            Err(_) => name.clone(),
        }
    };
    names.iter().map(first).collect()
}

/// `Out-0050.png` → (`out.png`, 50): the series of an intermediate picture, in small letters, and its
/// number.
fn series_and_number(name: &OsStr) -> Option<(String, usize)> {
    let path = Path::new(name);
    let stem = path.file_stem()?.to_string_lossy();
    let (base, digits) = stem.rsplit_once('-')?;
    let long = digits.len() >= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = long.then(|| digits.parse().ok())??;
    Some((series(base, path), number))
}

/// The series of the intermediate pictures of a result.
fn series_of(output: &Path) -> String {
    let stem = output.file_stem().unwrap_or_default();
    series(&stem.to_string_lossy(), output)
}

fn series(stem: &str, path: &Path) -> String {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    format!("{stem}.{extension}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(paths: &[&Path]) -> Result<(), Failure> {
        Files::new().write("a file", paths).check()
    }

    fn problem(files: &Files) -> String {
        files.check().unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_the_same_however_it_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("old"), "").unwrap();
        fs::hard_link(path("old"), path("hard")).unwrap();
        for (one, other) in [
            ("old", "a/../old"),
            ("old", "hard"),
            ("new", "a/../new"),
            ("a/b/new", "a/./b/../b/new"),
        ] {
            let (one, other) = (path(one), path(other));
            assert!(written(&[&one, &other]).is_err(), "{one:?} {other:?}");
            assert!(written(&[&one]).is_ok() && written(&[&other]).is_ok());
        }
        assert!(written(&[&path("new"), &path("a/new"), &path("old")]).is_ok());
        // Read twice is no harm.
        assert!(
            Files::new()
                .read("", [path("old"), path("hard")])
                .check()
                .is_ok()
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_to_the_file_itself() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("a")).unwrap();
        fs::write(path("old"), "").unwrap();
        symlink("a", path("folder")).unwrap();
        symlink("../old", path("a/to-old")).unwrap();
        symlink("a/new", path("to-new")).unwrap();
        symlink("/dev/null", path("null")).unwrap();
        for (one, other) in [
            ("old", "a/to-old"),
            ("folder/new", "a/new"),
            ("to-new", "folder/new"),
        ] {
            let (one, other) = (path(one), path(other));
            assert!(written(&[&one, &other]).is_err(), "{one:?} {other:?}");
        }
        // Nothing is lost in a device.
        assert!(written(&[&path("null"), Path::new("/dev/null")]).is_ok());
    }

    #[test]
    fn messages_name_both_files_and_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("style.png"), "").unwrap();
        let files = Files::new()
            .read("the style", [path("style.png")])
            .write("the log (--log)", [path("./style.png")]);
        let message = problem(&files);
        assert!(
            message.contains("the log (--log) would overwrite the style"),
            "{message}"
        );
        let files = Files::new()
            .write("the result", [path("a.png")])
            .write("the evolution", [path("a.png")]);
        let message = problem(&files);
        assert!(
            message.contains("the evolution and the result would be written"),
            "{message}"
        );
        let files = Files::new().write("the log", [path("missing/log")]);
        assert!(problem(&files).contains("the log cannot be written: the folder"));
    }

    #[test]
    fn a_run_may_write_the_checkpoint_that_it_goes_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let (state, copy) = (folder.path().join("state"), folder.path().join("copy"));
        fs::write(&state, "").unwrap();
        fs::write(&copy, "").unwrap();
        let args = CheckpointArgs {
            checkpoint: Some(state.clone()),
            checkpoint_every: 60,
        };
        let resumed = |from: &Path| Files::new().keep_checkpoint(&args, Some(from));
        assert!(resumed(&state).check().is_ok());
        assert!(resumed(&copy).check().is_ok());
        assert!(resumed(&copy).write("the log", [&copy]).check().is_err());
        assert!(resumed(&state).write("the log", [&state]).check().is_err());
        assert!(resumed(&copy).write("the log", [&state]).check().is_err());
    }

    #[test]
    fn intermediate_pictures_overwrite_nothing_either() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["out-0050.png", "out-0060.png", "out-9.png"] {
            fs::write(path(name), "").unwrap();
        }
        let files = |every: usize| {
            let mut files = Files::new().write("the result", [path("out.png")]);
            files.intermediate.push(Intermediate {
                output: path("out.png"),
                every,
            });
            files
        };
        // Old ones are replaced, but not what is read.
        assert!(files(25).check().is_ok());
        let read = |every, name| files(every).read("the content", [path(name)]).check();
        assert!(read(25, "out-0050.png").is_err());
        assert!(read(25, "out-0060.png").is_ok());
        assert!(read(20, "out-0060.png").is_err());
        assert!(read(1, "out-9.png").is_ok());
        // Nor what is written besides.
        let log = |name| files(25).write("the log", [path(name)]).check();
        assert!(log("out-0075.png").is_err());
        assert!(log("out-12500.png").is_err());
        assert!(log("out-0080.png").is_ok() && log("out-00075.png").is_ok());
        #[cfg(unix)]
        {
            fs::write(path("content.png"), "").unwrap();
            std::os::unix::fs::symlink("content.png", path("out-0025.png")).unwrap();
            assert!(read(25, "content.png").is_err());
        }
    }

    #[test]
    fn nothing_is_left_of_the_question_which_names_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "A", "b"].map(OsString::from);
        let first = first_names(folder.path(), &names);
        // By the file system that the test runs on.
        fs::write(folder.path().join("a"), "").unwrap();
        let same = folder.path().join("A").exists();
        assert_eq!(first[1], if same { "a" } else { "A" });
        assert_eq!((&first[0], &first[2]), (&names[0], &names[2]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
