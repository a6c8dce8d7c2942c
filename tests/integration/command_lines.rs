//! Command lines that nobody would write, made at random: whatever they say, the program answers
//! soon and in plain words, and destroys nothing.
//!
//! Each case has a number, from which everything in it follows. `COMMAND_LINES=10000 cargo test
//! --release --features cli --test integration command_lines` tries as many; with
//! `COMMAND_LINES_FROM=123 COMMAND_LINES=1` it is case 123 alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use impasto::Picture;
use impasto::picture::{Depth, SaveOptions};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

/// After this a command hangs. Most take well under a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// KiB of addresses that a command may have; those here need a tenth.
const ADDRESS_SPACE: &str = "6000000";

#[test]
fn command_lines_made_at_random_do_no_harm() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let from: u64 = number("COMMAND_LINES_FROM").unwrap_or(0);
    let to = from + number("COMMAND_LINES").unwrap_or(200);
    let pictures = pictures();
    let next = AtomicU64::new(from);
    let failures = Mutex::new(Vec::new());
    let statuses = Mutex::new(BTreeMap::<i32, u32>::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= to {
                        break;
                    }
                    match run_case(case, &pictures) {
                        Ok(status) => *statuses.lock().unwrap().entry(status).or_default() += 1,
                        Err(problem) => failures.lock().unwrap().push((case, problem)),
                    }
                }
            });
        }
    });
    let (mut failures, statuses) = (
        failures.into_inner().unwrap(),
        statuses.into_inner().unwrap(),
    );
    failures.sort();
    eprintln!("exit statuses and how often: {statuses:?}");
    let report: Vec<String> = failures
        .iter()
        .map(|(case, problem)| format!("case {case}: {problem}"))
        .collect();
    assert!(report.is_empty(), "{}", report.join("\n\n"));
    // Commands that are all refused would show little.
    if to - from >= 200 {
        let done = statuses.get(&0).copied().unwrap_or(0);
        let refused = statuses.get(&2).copied().unwrap_or(0);
        let all = (to - from) as u32;
        assert!(done > all / 10 && refused > all / 10, "{statuses:?}");
    }
}

/// Contents of picture files, good and bad.
struct Pictures {
    good: Vec<(&'static str, Vec<u8>)>,
    bad: Vec<Vec<u8>>,
}

fn pictures() -> Pictures {
    let folder = tempfile::tempdir().unwrap();
    let mut good = Vec::new();
    for (index, (width, height, extension)) in [
        (24, 18, "png"),
        (12, 24, "jpg"),
        (20, 20, "webp"),
        (9, 16, "tiff"),
        (24, 24, "png"),
        (1, 1, "png"),
        (1, 100, "png"),
        (100, 1, "jpg"),
        (2, 3, "png"),
    ]
    .into_iter()
    .enumerate()
    {
        let value = |i: usize| ((i * 2654435761) >> 7) as u8;
        let rgb = (0..3 * width * height).map(|i| f32::from(value(i)) / 255.0);
        let picture = Picture::from_rgb(width, height, rgb.collect()).unwrap();
        let path = folder.path().join(format!("{index}.{extension}"));
        let depth = (index == 4).then_some(Depth::Sixteen);
        let options = SaveOptions {
            depth,
            ..SaveOptions::default()
        };
        picture.save_with(&path, options).unwrap();
        good.push((extension, fs::read(path).unwrap()));
    }
    let whole = &good[0].1;
    let bad = vec![
        Vec::new(),
        b"Dear reader, this is no picture.".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        whole[..20].to_vec(),
        good[1].1[..30].to_vec(),
        crate::pictures::huge_png(60_000, 60_000),
        vec![0; 1000],
    ];
    Pictures { good, bad }
}

/// A case: its files, and the command line that grows.
struct Case {
    random: StdRng,
    folder: PathBuf,
    /// Files that exist, by the names that a command in the folder has for them.
    existing: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    /// Names of files to be made, so that several options can take the same.
    made: Vec<PathBuf>,
    arguments: Vec<OsString>,
    /// Whether little is wrong, so that most of such commands come to their end.
    tame: bool,
    /// Whole pictures of a useful size among the files.
    useful: Vec<PathBuf>,
    /// Files that the command reads.
    reads: Vec<PathBuf>,
    /// Files that the command writes, the result first.
    writes: Vec<PathBuf>,
    dry_run: bool,
    /// Whether a result is sure to exist if the command succeeds.
    has_result: bool,
}

/// Makes the files of a case, runs its command and looks at what has become of everything.
fn run_case(number: u64, pictures: &Pictures) -> Result<i32, String> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("here");
    for name in ["here", "temporary", "cache"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let mut case = Case {
        random: StdRng::seed_from_u64(number),
        folder: folder.clone(),
        existing: Vec::new(),
        folders: Vec::new(),
        made: Vec::new(),
        arguments: Vec::new(),
        tame: false,
        useful: Vec::new(),
        reads: Vec::new(),
        writes: Vec::new(),
        dry_run: false,
        has_result: false,
    };
    case.make_files(pictures);
    case.tame = case.chance(50) && !case.useful.is_empty();
    case.make_command(root.path());
    let before = snapshot(&folder);
    let read = case.contents_of_inputs();
    let output = execute(root.path(), &case.arguments)?;
    let problem = case.judge(root.path(), &before, &read, &output);
    problem.map_err(|problem| {
        let words: Vec<String> = case
            .arguments
            .iter()
            .map(|argument| format!("{argument:?}"))
            .collect();
        format!(
            "{problem}\n  impasto {}\n  {}\n{}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// Runs the program in the folder of a case, with little room and for a short time.
fn execute(root: &Path, arguments: &[OsString]) -> Result<Output, String> {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v $0; exec \"$@\"", ADDRESS_SPACE]);
    command.arg(env!("CARGO_BIN_EXE_impasto")).args(arguments);
    command.current_dir(root.join("here")).stdin(Stdio::null());
    command.env("TMPDIR", root.join("temporary"));
    command.env("IMPASTO_CACHE", root.join("cache"));
    // Set but empty is as if it were not set.
    command
        .env("IMPASTO_WEIGHTS", "")
        .env("RAYON_NUM_THREADS", "1");
    // Files take the output, since a full pipe would stop the program.
    let open = |name| fs::File::create_new(root.join(name)).unwrap();
    command.stdout(open("stdout")).stderr(open("stderr"));
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(format!("no end after {PATIENCE:?}: {arguments:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let taken = |name| {
        let contents = fs::read(root.join(name)).unwrap();
        fs::remove_file(root.join(name)).unwrap();
        contents
    };
    Ok(Output {
        status,
        stdout: taken("stdout"),
        stderr: taken("stderr"),
    })
}

/// What can be seen of a file: its kind and mode, and its contents or where it leads.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    mode: u32,
    contents: Vec<u8>,
}

/// Everything in a folder.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let contents = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_vec()
            } else if metadata.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let mode = metadata.mode();
            seen.insert(path, Seen { mode, contents });
        }
    }
    seen
}

impl Case {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())].clone()
    }

    /// A name without an extension, mostly an odd one.
    fn name(&mut self) -> OsString {
        let odd: &[&[u8]] = &[
            b"a",
            b"b",
            b"B",
            b"picture",
            b"with space",
            b"-dash",
            b"--output",
            b"-",
            b"quo'te",
            b"dou\"ble",
            b"new\nline",
            b"tab\t",
            b"star*",
            b"what?",
            b"[x]",
            b"[",
            b"{name}",
            b"{",
            b"$HOME",
            b"~",
            b"%s%n",
            b";ls",
            b"back\\slash",
            b".hidden",
            b"a.b.c",
            b"=",
            b"a=b",
            b"1",
            b"a-0001",
            b"a-0002",
            "\u{fc}n\u{ef}".as_bytes(),
            "u\u{308}n".as_bytes(),
            "\u{65e5}\u{672c}\u{8a9e}".as_bytes(),
            "\u{1f3a8}".as_bytes(),
            b"caf\xe9",
            b"\xff\xfe",
            b"content",
            b"noise",
            b"gram",
            b"con",
        ];
        match self.random.random_range(0..20) {
            0 => OsString::from("long".repeat(50)),
            1 => OsString::from("x".repeat(251)),
            _ => OsStr::from_bytes(self.pick(odd)).to_os_string(),
        }
    }

    fn make_files(&mut self, pictures: &Pictures) {
        for name in ["inner", "inner/deep"] {
            fs::create_dir(self.folder.join(name)).unwrap();
            self.folders.push(name.into());
        }
        symlink("inner", self.folder.join("shortcut")).unwrap();
        self.folders.push("shortcut".into());
        for _ in 0..self.random.random_range(2..6) {
            // The first few are of a useful size.
            let useful = self.chance(60);
            let (extension, contents) = match (useful, self.chance(70)) {
                (true, _) => self.pick(&pictures.good[..5]),
                (false, true) => self.pick(&pictures.good[5..]),
                (false, false) => ("png", self.pick(&pictures.bad)),
            };
            let mut name = self.name();
            name.push(".");
            name.push(if self.chance(90) { extension } else { "dat" });
            let inside = self.chance(20);
            let path = if inside {
                Path::new("inner").join(name)
            } else {
                name.into()
            };
            if fs::write(self.folder.join(&path), contents).is_ok() {
                if useful {
                    self.useful.push(path.clone());
                }
                self.existing.push(path);
            }
        }
        let first = self.existing.first().cloned();
        if let Some(first) = first {
            let absolute = self.folder.join(&first);
            if self.chance(40) {
                symlink(&absolute, self.folder.join("link.png")).unwrap();
                self.existing.push("link.png".into());
            }
            if self.chance(40) {
                fs::hard_link(&absolute, self.folder.join("hard.png")).unwrap();
                self.existing.push("hard.png".into());
            }
            if self.chance(10) {
                let _ = symlink(&absolute, self.folder.join("a-0001.png"));
            }
        }
        if self.chance(20) {
            fs::create_dir(self.folder.join("folder.png")).unwrap();
            self.folders.push("folder.png".into());
        }
        if self.chance(20) {
            symlink("inner/absent.png", self.folder.join("dangling.png")).unwrap();
            self.made.push("dangling.png".into());
            self.made.push("inner/absent.png".into());
        }
        if self.chance(10) {
            symlink("circle.png", self.folder.join("circle.png")).unwrap();
            self.made.push("circle.png".into());
        }
        if self.chance(10) {
            symlink("/dev/null", self.folder.join("null.png")).unwrap();
            self.made.push("null.png".into());
        }
        if self.chance(15) {
            let protected = self.folder.join("protected.png");
            fs::write(&protected, &pictures.good[0].1).unwrap();
            fs::set_permissions(&protected, fs::Permissions::from_mode(0o444)).unwrap();
            self.existing.push("protected.png".into());
        }
        if self.chance(30) {
            let text = self.pick(&[
                "{}",
                "{\"iterations\": 1, \"size\": 16}",
                "{\"iterations\": 0}",
                "{\"size\": -1}",
                "{\"no-such-setting\": 1}",
                "{\"content_weight\": 1e999}",
                "[[[[",
                "",
                "null",
                "size = 16\n",
                "iterations = \"many\"\n",
            ]);
            let name = self.pick(&["recipe.json", "recipe.toml"]);
            fs::write(self.folder.join(name), text).unwrap();
            self.existing.push(name.into());
        }
    }

    /// Another way to write a path.
    fn respell(&mut self, path: &Path) -> PathBuf {
        match self.random.random_range(0..8) {
            0 => Path::new(".").join(path),
            1 => Path::new("inner/..").join(path),
            2 => self.folder.join(path),
            3 => Path::new("shortcut/../").join(path),
            4 => match path.strip_prefix("inner") {
                Ok(rest) => Path::new("shortcut").join(rest),
                Err(_) => Path::new("inner/deep/../..").join(path),
            },
            _ => path.to_path_buf(),
        }
    }

    /// A file to read, mostly one that exists.
    fn input(&mut self) -> PathBuf {
        if self.tame {
            let path = self.pick(&self.useful.clone());
            self.reads.push(path.clone());
            return path;
        }
        let path = match self.random.random_range(0..30) {
            0 => PathBuf::from("missing.png"),
            1 => self.pick(&self.folders.clone()),
            2 => PathBuf::from("*.png"),
            3 => PathBuf::from(self.name()),
            4 => PathBuf::from("/dev/null"),
            _ if self.existing.is_empty() => PathBuf::from("missing.png"),
            _ => self.pick(&self.existing.clone()),
        };
        let path = self.respell(&path);
        self.reads.push(path.clone());
        path
    }

    /// A file to write with one of these extensions, mostly a new one.
    fn output(&mut self, extensions: &[&str]) -> PathBuf {
        if self.tame {
            let number = self.writes.len();
            let path = PathBuf::from(format!("new-{number}.{}", extensions[0]));
            self.writes.push(path.clone());
            return path;
        }
        let path = match self.random.random_range(0..20) {
            0 => self.pick(&self.folders.clone()),
            1 => PathBuf::from("missing/out.png"),
            2 | 3 if !self.existing.is_empty() => self.pick(&self.existing.clone()),
            4..8 if !self.made.is_empty() => self.pick(&self.made.clone()),
            8 => PathBuf::from(self.pick(&[
                "/dev/null",
                "/dev/stdout",
                "/dev/full",
                "",
                "/",
                "out.png/",
            ])),
            9 => PathBuf::from("y".repeat(300) + ".png"),
            _ => {
                let mut name = self.name();
                if self.chance(95) {
                    name.push(".");
                    name.push(self.pick(extensions));
                }
                let path = PathBuf::from(name);
                if self.chance(15) {
                    Path::new("inner").join(path)
                } else {
                    path
                }
            }
        };
        self.made.push(path.clone());
        let path = self.respell(&path);
        self.writes.push(path.clone());
        path
    }

    /// Adds an option in one of the ways in which it can be written.
    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        let value = value.into();
        // A value that begins with a dash would be taken for an option.
        let joined = value.as_bytes().starts_with(b"-") || self.chance(30);
        if joined {
            let mut argument = OsString::from(name);
            argument.push("=");
            argument.push(value);
            self.arguments.push(argument);
        } else {
            self.arguments.extend([name.into(), value]);
        }
    }

    /// A number that an option may not be ready for; large ones are only planned with, since they
    /// mean what they say.
    fn number(&mut self) -> &'static str {
        let (number, large) = self.pick(&[
            ("0", false),
            ("1", false),
            ("2", false),
            ("0.5", false),
            ("-1", false),
            ("-0", false),
            ("nan", false),
            ("NaN", false),
            ("inf", false),
            ("-inf", false),
            ("1e-300", false),
            ("", false),
            ("x", false),
            ("1,2", false),
            (",", false),
            ("1,,2", false),
            ("0x10", false),
            ("1e308", true),
            ("1e999", true),
            ("65536", true),
            ("65537", true),
            ("4294967296", true),
            ("18446744073709551615", true),
            ("18446744073709551616", true),
            ("\u{664}", false),
            ("3 ", false),
        ]);
        if large && !self.dry_run {
            self.arguments.push("--dry-run".into());
            self.dry_run = true;
        }
        number
    }

    fn make_command(&mut self, root: &Path) {
        match self.random.random_range(0..100) {
            0..48 => self.stylize(),
            48..64 => self.batch(),
            64..76 => self.reconstruct(),
            76..83 => self.features(),
            83..85 => self.figure(),
            85..91 => self.resume(root),
            91..94 => self.weights(),
            _ => self.other(),
        }
        if self.chance(2) {
            let place = self.random.random_range(0..self.arguments.len());
            let name = self.name();
            self.arguments.insert(place, name);
            // Nothing is known of what this means.
            self.has_result = false;
            self.dry_run = false;
        }
    }

    fn stylize(&mut self) {
        self.arguments.push("stylize".into());
        self.has_result = true;
        let mut pictures = vec![self.input(), self.input()];
        if self.chance(20) {
            pictures.push(self.input());
        }
        let output = self.output(&[
            "png", "png", "png", "jpg", "webp", "tiff", "PNG", "gif", "txt",
        ]);
        self.option("-o", output);
        self.computation();
        self.painting();
        self.reports();
        self.positional(&pictures);
    }

    fn batch(&mut self) {
        self.arguments.push("batch".into());
        let contents: Vec<PathBuf> = (0..self.random.random_range(1..4))
            .map(|_| self.input())
            .collect();
        let style = self.input();
        self.option("--style", style);
        let pattern = self.pick(&[
            "{name}-out.png",
            "inner/{name}.png",
            "{name}.jpg",
            "{name}",
            "out.png",
            "{name}.png",
            "missing/{name}.png",
            "{name}{name}.webp",
            "shortcut/../{name}-0001.png",
        ]);
        self.option("-o", pattern);
        for content in &contents {
            let name = content.file_stem().unwrap_or_default();
            let mut filled = OsString::new();
            for (index, part) in pattern.split("{name}").enumerate() {
                if index > 0 {
                    filled.push(name);
                }
                filled.push(part);
            }
            self.writes.push(filled.into());
        }
        if self.chance(20) {
            let pattern = self.pick(&["{name}.jsonl", "inner/{name}-out.png", "log"]);
            self.option("--log", pattern);
            let names = contents
                .iter()
                .map(|content| content.file_stem().unwrap_or_default());
            let filled = names.map(|name| {
                let parts: Vec<&OsStr> = pattern.split("{name}").map(OsStr::new).collect();
                PathBuf::from(parts.join(name))
            });
            self.writes.extend(filled);
        }
        if self.chance(20) {
            self.arguments.push("--skip-existing".into());
        }
        self.computation();
        self.painting();
        self.positional(&contents);
    }

    fn reconstruct(&mut self) {
        self.arguments.push("reconstruct".into());
        self.has_result = true;
        let kind = self.pick(&["content", "style"]);
        self.arguments.push(kind.into());
        let image = self.input();
        let output = self.output(&["png", "jpg", "webp", "tiff", "bmp"]);
        self.option("-o", output);
        self.computation();
        if kind == "style" && self.chance(30) {
            let canvas = self.pick(&["16x8", "0x0", "1x1", "x", "-1x5", "24x24", "8", "9x70000"]);
            self.option("--canvas", canvas);
        }
        if kind == "content" && self.chance(40) {
            let layer = self.pick(&["relu1_1", "conv2_1", "pool1", "relu9_9", "", "relu5_1"]);
            self.option("--layer", layer);
        }
        self.reports();
        self.positional(&[image]);
    }

    fn features(&mut self) {
        self.arguments.push("features".into());
        self.has_result = true;
        let image = self.input();
        let output = self.output(&["png", "jpg", "webp", "tiff", "bmp"]);
        self.option("-o", output);
        let size = self.pick(&["24", "16", "8", "1", "0", "65537"]);
        self.option("--size", size);
        if self.chance(50) {
            let channels = self.pick(&["1", "2", "7", "64", "512", "65535", "0", "-1"]);
            self.option("--channels", channels);
        }
        if self.chance(50) {
            let cell = self.pick(&["8", "9", "16", "7", "2049", "x"]);
            self.option("--cell", cell);
        }
        match self.random.random_range(0..3) {
            0 => self.arguments.push("--all".into()),
            1 => {
                let layer = self.pick(&["relu1_1", "conv2_2", "pool1", "relu3_1", "pool5", "data"]);
                self.option("--layer", layer);
            }
            _ => {}
        }
        self.option("--encoder", "builtin");
        self.positional(&[image]);
    }

    fn figure(&mut self) {
        self.arguments.push("figure".into());
        self.has_result = true;
        let pictures = [self.input(), self.input()];
        let output = self.output(&["png", "jpg"]);
        self.option("-o", output);
        let size = self.pick(&["16", "32", "1", "0"]);
        self.option("--size", size);
        let iterations = self.pick(&["1", "1", "0"]);
        self.option("--iterations", iterations);
        self.option("--encoder", "builtin");
        self.positional(&pictures);
    }

    /// Goes on from a checkpoint, to which or to whose pictures something may have happened since.
    fn resume(&mut self, root: &Path) {
        let (Some(content), Some(style)) = (
            self.existing.first().cloned(),
            self.existing.last().cloned(),
        ) else {
            return self.other();
        };
        let begin = [
            "stylize",
            "-o",
            "resumed.png",
            "--checkpoint",
            "state",
            "-q",
        ];
        let small = [
            "--checkpoint-every",
            "0",
            "--size",
            "16",
            "--iterations",
            "2",
        ];
        let mut arguments: Vec<OsString> = begin.iter().chain(&small).map(OsString::from).collect();
        arguments.extend(["--encoder", "builtin", "--"].map(OsString::from));
        arguments.extend([content.clone().into(), style.clone().into()]);
        let begun = execute(root, &arguments).is_ok_and(|output| output.status.success());
        let state = self.folder.join("state");
        let mut checkpoint = PathBuf::from("state");
        if begun {
            match self.random.random_range(0..8) {
                0 => {
                    let whole = fs::read(&state).unwrap();
                    let length = self.random.random_range(0..whole.len());
                    fs::write(&state, &whole[..length]).unwrap();
                }
                1 => {
                    let mut whole = fs::read(&state).unwrap();
                    let place = self.random.random_range(0..whole.len().min(4000));
                    whole[place] ^= 1 << self.random.random_range(0..8u32);
                    fs::write(&state, whole).unwrap();
                }
                2 => {
                    fs::rename(&state, self.folder.join("inner/state")).unwrap();
                    checkpoint = "shortcut/state".into();
                }
                3 => fs::remove_file(self.folder.join(&style)).unwrap(),
                4 => {
                    // The result is now another name of the content.
                    fs::remove_file(self.folder.join("resumed.png")).unwrap();
                    fs::hard_link(self.folder.join(&content), self.folder.join("resumed.png"))
                        .unwrap();
                }
                5 => checkpoint = self.input(),
                _ => {}
            }
        }
        self.reads.extend([content, style]);
        self.writes.push("resumed.png".into());
        self.arguments.push("resume".into());
        self.positional(&[checkpoint]);
    }

    fn weights(&mut self) {
        self.arguments.push("weights".into());
        match self.random.random_range(0..4) {
            0 => self.arguments.push("path".into()),
            1 => self.arguments.push("list".into()),
            2 => {
                self.arguments.push("verify".into());
                let file = self.input();
                self.positional(&[file]);
            }
            _ => {
                self.arguments.push("import".into());
                self.has_result = true;
                let file = match self.chance(50) {
                    true => {
                        fs::copy(crate::data("small.safetensors"), self.folder.join("w")).unwrap();
                        self.existing.push("w".into());
                        self.made.push("w".into());
                        self.reads.push("w".into());
                        "w".into()
                    }
                    false => self.input(),
                };
                let output = self.output(&["safetensors"]);
                self.option("-o", output);
                self.positional(&[file]);
            }
        }
    }

    fn other(&mut self) {
        let command = self.pick(&[
            "recipes",
            "devices",
            "layers",
            "completions",
            "help",
            "--version",
            "--help",
            "",
            "styl",
            "stylize",
            "resume",
        ]);
        self.arguments.push(command.into());
        match command {
            "recipes" => {
                let recipe = self.pick(&["gram", "impasto", "", "no-such"]);
                self.arguments.push(recipe.into());
                if self.chance(50) {
                    self.arguments.push("--json".into());
                }
            }
            "layers" => {
                let size = self.pick(&["1", "0", "65535", "-1", "nan"]);
                self.option("--size", size);
            }
            "completions" => {
                let shell = self.pick(&["bash", "zsh", "fish", "powershell", "elvish", "tea"]);
                self.arguments.push(shell.into());
            }
            _ => {}
        }
    }

    /// Adds what makes a run short.
    fn computation(&mut self) {
        let size = self.pick(&["16", "24", "20", "17"]);
        self.option("--size", size);
        let iterations = self.pick(&["1", "2"]);
        self.option("--iterations", iterations);
        if self.chance(90) {
            self.option("--encoder", "builtin");
        }
        if self.chance(50) {
            self.arguments.push("--dry-run".into());
            self.dry_run = true;
        }
        if !self.tame && self.chance(4) {
            let weights = self.input();
            self.option("--weights", weights);
        }
        for (name, values) in [
            ("--pooling", &["max", "average", "none"][..]),
            ("--padding", &["zero", "reflect", "replicate", "7"]),
            (
                "--device",
                &["cpu", "tpu", "cuda:99", "wgpu:99", "", "cpu:1"],
            ),
            ("--threads", &["1", "0", "-1", "65536"]),
            (
                "--memory",
                &["1GB", "1", "0", "-1", "nan", "1TB", "GB", "infGB"],
            ),
            (
                "--tile",
                &["16", "64", "0", "1", "18446744073709551615", "-3"],
            ),
        ] {
            if !self.tame && self.chance(4) {
                let value = self.pick(values);
                self.option(name, value);
            }
        }
    }

    /// Adds options on what the result is to look like.
    fn painting(&mut self) {
        if self.tame {
            let recipe = self.pick(&[
                "impasto",
                "impasto",
                "gram",
                "nnst",
                "gatys",
                "neural-style",
            ]);
            return self.option("--recipe", recipe);
        }
        if self.chance(30) {
            let recipe = match self.chance(70) {
                true => self
                    .pick(&[
                        "gram",
                        "nnst",
                        "strotss",
                        "gatys",
                        "crowsonkb",
                        "neural-style",
                        "wasserstein",
                        "pystiche",
                        "impasto",
                        "imposto",
                        "",
                        "Gram",
                    ])
                    .into(),
                false => self
                    .pick(&["recipe.json", "recipe.toml", "missing.json", "inner"])
                    .into(),
            };
            let recipe: PathBuf = recipe;
            self.reads.push(recipe.clone());
            self.option("--recipe", recipe);
        }
        for name in [
            "--size",
            "--iterations",
            "--coarse-iterations",
            "--seed",
            "--strength",
            "--content-weight",
            "--style-weight",
            "--neighbors-weight",
            "--tv-weight",
            "--style-blend",
            "--style-size",
            "--style-scale",
            "--averaging",
            "--learning-rate",
            "--history",
            "--bits",
            "--carry-moments",
        ] {
            if self.chance(5) {
                let number = self.number();
                self.option(name, number);
            }
        }
        for (name, values) in [
            ("--init", &["content", "noise", "style", "nothing"][..]),
            (
                "--content-layers",
                &["relu1_1", "relu4_2,relu4_2", "", "relu", "pool5"],
            ),
            (
                "--style-layers",
                &[
                    "relu1_1:2",
                    "relu1_1:nan",
                    "relu1_1:",
                    ":",
                    "relu3_1,relu1_1:0",
                ],
            ),
            ("--style-loss", &["gram", "mean-std", "wasserstein", "l2"]),
            (
                "--colors",
                &[
                    "style",
                    "luminance-yuv",
                    "luminance-lab",
                    "cholesky",
                    "pca",
                    "symmetric",
                    "histogram",
                    "grey",
                ],
            ),
            ("--optimizer", &["adam", "lbfgs", "sgd"]),
            ("--bits", &["8", "16", "12"]),
        ] {
            if self.chance(7) {
                let value = self.pick(values);
                self.option(name, value);
            }
        }
        for name in [
            "--init",
            "--mask",
            "--style-mask",
            "--regions",
            "--style-regions",
        ] {
            if self.chance(4) {
                let file = self.input();
                self.option(name, file);
            }
        }
    }

    fn reports(&mut self) {
        for (name, extension, percent) in [
            ("--log", "jsonl", 25),
            ("--evolution", "png", 15),
            ("--evolution", "gif", 5),
            ("--plot", "svg", 15),
            ("--checkpoint", "state", 15),
        ] {
            if self.chance(percent) {
                let file = self.output(&[extension]);
                self.option(name, file);
                if name == "--checkpoint" && self.chance(60) {
                    self.option("--checkpoint-every", "0");
                }
            }
        }
        if self.chance(20) {
            let every = match self.tame {
                true => "1",
                false => self.pick(&["1", "2", "0", "-1", "4294967296"]),
            };
            self.option("--save-every", every);
        }
        if self.chance(30) {
            self.arguments.push("-q".into());
        }
    }

    fn positional(&mut self, paths: &[PathBuf]) {
        let dashed = paths
            .iter()
            .any(|path| path.as_os_str().as_bytes().starts_with(b"-"));
        if dashed || self.chance(30) {
            self.arguments.push("--".into());
        }
        self.arguments
            .extend(paths.iter().map(|path| path.clone().into_os_string()));
    }

    /// What is in the files that the command reads, if they exist, and in those that patterns among
    /// them stand for.
    fn contents_of_inputs(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut paths = Vec::new();
        for path in self.reads.iter().map(|path| self.folder.join(path)) {
            let pattern = !path.exists() && path.as_os_str().as_bytes().contains(&b'*');
            match path.parent().filter(|_| pattern) {
                None => paths.push(path),
                Some(folder) => {
                    let files = fs::read_dir(folder).into_iter().flatten().flatten();
                    paths.extend(files.map(|file| file.path()));
                }
            }
        }
        let files = paths.into_iter().filter(|path| path.is_file());
        files
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// Looks at what a command has said and done.
    fn judge(
        &self,
        root: &Path,
        before: &BTreeMap<PathBuf, Seen>,
        read: &[(PathBuf, Vec<u8>)],
        output: &Output,
    ) -> Result<i32, String> {
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let expect = |ok: bool, problem: &str| if ok { Ok(()) } else { Err(problem.to_string()) };
        if let Some(signal) = output.status.signal() {
            return Err(format!("ended by signal {signal}"));
        }
        let status = output.status.code().unwrap_or(-1);
        expect([0, 1, 2, 130].contains(&status), "an unknown exit status")?;
        expect(!said.contains("panicked at"), "a panic")?;
        expect(status == 0 || !said.is_empty(), "an error without a word")?;

        let after = snapshot(&self.folder);
        let changed: BTreeSet<&PathBuf> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path))
            .collect();
        for path in &changed {
            let path = path.as_path();
            let name = path.file_name().unwrap_or_default();
            expect(
                !name.as_bytes().starts_with(b".impasto-"),
                &format!("{path:?} is left over"),
            )?;
            expect(after.contains_key(path), &format!("{path:?} is gone"))?;
            // A log is begun before it has lines.
            let stopped_early = status == 1 && fs::metadata(path).is_ok_and(|file| file.len() == 0);
            if !stopped_early {
                self.check_contents(path)?;
            }
        }
        let refuges = fs::read_dir(root.join("temporary")).unwrap().count();
        let rescued = said.contains("instead.");
        expect(
            refuges == usize::from(rescued),
            "temporary files are left over",
        )?;
        if status == 2 || self.dry_run {
            expect(
                changed.is_empty(),
                &format!("changed without work: {changed:?}"),
            )?;
        }
        for (path, contents) in read {
            let same = fs::read(path).is_ok_and(|now| now == *contents);
            expect(same, &format!("{path:?} was read and has changed"))?;
        }
        let result = self.writes.first().filter(|_| self.has_result);
        if let Some(result) = result.filter(|_| status == 0 && !self.dry_run) {
            let result = self.folder.join(result);
            expect(result.exists(), &format!("{result:?} is not there"))?;
        }
        Ok(status)
    }

    /// Checks that a file that a command has written is whole.
    fn check_contents(&self, path: &Path) -> Result<(), String> {
        let Ok(contents) = fs::read(path) else {
            return Ok(());
        };
        // The length in front of a checkpoint or of weights may look like anything.
        if safetensors::SafeTensors::deserialize(&contents).is_ok() {
            return Ok(());
        }
        let whole = if contents.starts_with(b"{") {
            let text = String::from_utf8_lossy(&contents);
            let mut lines = text.lines().map(serde_json::from_str::<Value>);
            lines
                .try_for_each(|line| line.map(drop))
                .map_err(|error| error.to_string())
        } else if contents.starts_with(b"<svg") {
            let whole = contents.trim_ascii_end().ends_with(b"</svg>");
            whole.then_some(()).ok_or("an unfinished <svg>".to_string())
        } else {
            Picture::open(path)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        whole.map_err(|error| format!("{path:?} is damaged: {error}"))
    }
}
