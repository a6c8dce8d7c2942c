//! What the program does to files: it destroys none that it was given to read, and leaves links, modes
//! and devices as they are.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use impasto::Picture;

use crate::cli::{Files, impasto, run, stderr};

/// Files with a content and a style of their own, which a careless program could destroy.
fn files() -> Files {
    let files = Files::new();
    fs::copy(&files.scene, files.path("content.jpg")).unwrap();
    fs::copy(&files.style, files.path("style.jpg")).unwrap();
    files
}

/// A painting in the folder of the files, with paths as the user of a shell there would type them.
fn stylize_here(files: &Files, options: &[&str]) -> Command {
    let mut command = impasto(&["stylize", "content.jpg", "style.jpg"]);
    command.args(["--weights", &files.weights, "--size", "32"]);
    command.args(["--iterations", "2"]).args(options);
    command.current_dir(files.folder.path());
    command
}

#[test]
fn nothing_is_written_over_what_is_read_or_written_besides() {
    let files = files();
    let path = |name: &str| files.path(name);
    fs::create_dir(path("inner")).unwrap();
    fs::hard_link(path("style.jpg"), path("hard.png")).unwrap();
    symlink("content.jpg", path("link.png")).unwrap();
    symlink("inner", path("shortcut")).unwrap();
    symlink("style.jpg", path("out-0002.png")).unwrap();
    fs::write(path("my.json"), "{}").unwrap();
    fs::copy(&files.weights, path("w.safetensors")).unwrap();
    let before = files.listing();
    let bytes = |name: &str| fs::read(path(name)).unwrap();
    let originals = [
        bytes("content.jpg"),
        bytes("style.jpg"),
        bytes("w.safetensors"),
    ];
    for (options, words) in [
        (&["-o", "content.jpg"][..], "overwrite the content"),
        (&["-o", "./inner/../content.jpg"], "overwrite the content"),
        (&["-o", "link.png"], "overwrite the content content.jpg"),
        (&["-o", "hard.png"], "overwrite a style"),
        (
            &["-o", "o.png", "--log", "style.jpg"],
            "the log (--log) would overwrite a style",
        ),
        (
            &["-o", "o.png", "--log", "shortcut/../style.jpg"],
            "overwrite a style",
        ),
        (
            &["-o", "o.png", "--checkpoint", "link.png"],
            "the checkpoint (--checkpoint) would",
        ),
        (
            &["-o", "o.png", "--log", "my.json", "--recipe", "my.json"],
            "overwrite the recipe",
        ),
        (
            &[
                "-o",
                "o.png",
                "--log",
                "w.safetensors",
                "--weights",
                "w.safetensors",
            ],
            "overwrite the file of weights",
        ),
        (
            &["-o", "o.png", "--evolution", "o.png"],
            "would be written to one file",
        ),
        (
            &["-o", "inner/o.png", "--evolution", "shortcut/o.png"],
            "written to one file",
        ),
        (
            &["-o", "o.png", "--log", "l", "--checkpoint", "inner/../l"],
            "written to one file",
        ),
        (
            &["-o", "out.png", "--save-every", "1"],
            "an intermediate picture (--save-every) would",
        ),
        (
            &[
                "-o",
                "o.png",
                "--save-every",
                "2",
                "--evolution",
                "o-0002.png",
            ],
            "an intermediate picture (--save-every) and the evolution",
        ),
        (
            &["-o", "o.png", "--mask", "link.png", "--log", "content.jpg"],
            "overwrite the content",
        ),
        (&["-o", "inner"], "a folder of this name"),
        (
            &["-o", "o.png", "--log", "inner"],
            "the log (--log) cannot be written",
        ),
    ] {
        for dry_run in [&[][..], &["--dry-run"]] {
            let all = [options, dry_run].concat();
            // The last of two weights counts, so that a case can name others.
            let refused = stylize_here(&files, &all).output().unwrap();
            let message = stderr(&refused);
            assert_eq!(refused.status.code(), Some(2), "{options:?}: {message}");
            assert!(message.contains(words), "{options:?}: {message}");
        }
    }
    assert_eq!(files.listing(), before);
    assert!(fs::read_dir(path("inner")).unwrap().next().is_none());
    let now = [
        bytes("content.jpg"),
        bytes("style.jpg"),
        bytes("w.safetensors"),
    ];
    assert!(now == originals);
}

/// The same rule holds for the other commands.
#[test]
fn every_command_keeps_what_it_reads() {
    let files = files();
    let scene = files.write("scene.png", &[]);
    fs::copy(&files.scene, &scene).unwrap();
    let weights = files.path("w.safetensors");
    fs::copy(&files.weights, &weights).unwrap();
    let before: Vec<_> = [&scene, &weights]
        .map(|path| fs::read(path).unwrap())
        .into();
    let link = files.path("link.png");
    symlink(&scene, &link).unwrap();
    for arguments in [
        &["reconstruct", "content", &scene, "-o", &link][..],
        &["reconstruct", "style", &scene, "-o", &scene],
        &["features", &scene, "-o", &link],
        &["figure", &files.style, &scene, "-o", &link],
        &["batch", &scene, "--style", &files.style, "-o", &link],
        &["weights", "import", &weights, "-o", &weights],
    ] {
        let refused = run(arguments);
        let message = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(
            message.contains("would overwrite"),
            "{arguments:?}: {message}"
        );
    }
    let after: Vec<_> = [&scene, &weights]
        .map(|path| fs::read(path).unwrap())
        .into();
    assert!(before == after);
}

/// A checkpoint may be written by the run that goes on from it, but not over its pictures, even where
/// they have changed places since.
#[test]
fn a_resumed_run_keeps_its_inputs_too() {
    let files = files();
    let options = [
        "-o",
        "out.png",
        "--checkpoint",
        "state",
        "--checkpoint-every",
        "0",
    ];
    let begun = stylize_here(&files, &options).output().unwrap();
    assert!(begun.status.success(), "{}", stderr(&begun));
    let resume = |state: &str| {
        let mut command = impasto(&["resume", state]);
        command.current_dir(files.folder.path()).output().unwrap()
    };
    let resumed = resume("state");
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    fs::copy(files.path("state"), files.path("copy")).unwrap();
    assert!(resume("copy").status.success());

    fs::remove_file(files.path("out.png")).unwrap();
    fs::hard_link(files.path("content.jpg"), files.path("out.png")).unwrap();
    let refused = resume("state");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("overwrite the content"));
    fs::remove_file(files.path("out.png")).unwrap();
    symlink("state", files.path("out.png")).unwrap();
    let refused = resume("state");
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("overwrite the checkpoint"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn links_stay_links_and_files_keep_their_modes() {
    let files = files();
    let path = |name: &str| files.path(name);
    fs::create_dir(path("inner")).unwrap();
    fs::write(path("inner/old.png"), "old").unwrap();
    fs::set_permissions(path("inner/old.png"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("inner/old.png", path("out.png")).unwrap();
    symlink("inner/strip.png", path("dangling.png")).unwrap();
    let options = [
        "-o",
        "out.png",
        "--evolution",
        "dangling.png",
        "--save-every",
        "1",
    ];
    let done = stylize_here(&files, &options).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    for (link, target) in [
        ("out.png", "inner/old.png"),
        ("dangling.png", "inner/strip.png"),
    ] {
        assert!(Path::new(&path(link)).is_symlink(), "{link}");
        Picture::open(path(target)).unwrap();
    }
    let mode = fs::metadata(path("inner/old.png"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // Intermediate pictures stand beside the name that was given.
    assert!(files.listing().contains(&"out-0001.png".to_string()));
}

#[test]
fn a_write_protected_file_is_refused_before_the_run() {
    let files = files();
    let old = files.write("old.png", b"old");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o444)).unwrap();
    for options in [&["-o", "old.png"][..], &["-o", "o.png", "--log", "old.png"]] {
        let refused = stylize_here(&files, options).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let message = stderr(&refused);
        assert!(
            message.contains("write-protected; choose another name"),
            "{message}"
        );
    }
    assert_eq!(fs::read(&old).unwrap(), b"old");
    assert_eq!(files.listing(), ["content.jpg", "old.png", "style.jpg"]);
}

/// A file that can be written to, in a folder that accepts no new ones.
#[test]
fn a_file_in_a_closed_folder_is_written_in_place() {
    let files = files();
    let closed = files.path("closed");
    fs::create_dir(&closed).unwrap();
    let old = files.path("closed/old.png");
    // Longer than what takes its place.
    fs::write(&old, vec![0; 1 << 20]).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o666)).unwrap();
    let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    // Nothing is closed to root, who becomes nobody for this; what nobody needs is made open.
    let program = files.path("impasto");
    fs::copy(env!("CARGO_BIN_EXE_impasto"), &program).unwrap();
    fs::copy(&files.weights, files.path("w.safetensors")).unwrap();
    fs::set_permissions(files.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.args([
        "stylize",
        "content.jpg",
        "style.jpg",
        "--size",
        "32",
        "--iterations",
        "2",
    ]);
    command.args(["-o", "closed/old.png", "--weights", "w.safetensors"]);
    command.current_dir(files.folder.path());
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if is_root {
        command.uid(65534).gid(65534);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    Picture::open(&old).unwrap();
    assert!(fs::metadata(&old).unwrap().len() < 1 << 20);
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 1);

    let new = command.args(["-o", "closed/new.png"]).output().unwrap();
    assert_eq!(new.status.code(), Some(2));
    assert!(
        stderr(&new).contains("closed cannot be written to"),
        "{}",
        stderr(&new)
    );
    mode(0o755);
}

/// A disk that is full when the picture is done: the picture is written elsewhere under a new name,
/// and what can be written besides is.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_does_not_cost_the_picture() {
    let files = files();
    let refuge = files.path("refuge");
    fs::create_dir(&refuge).unwrap();
    fs::write(files.path("refuge/full.png"), "an older file").unwrap();
    symlink("/dev/full", files.path("full.png")).unwrap();
    let options = [
        "-o",
        "full.png",
        "--plot",
        "curves.svg",
        "--log",
        "/dev/full",
    ];
    let mut command = stylize_here(&files, &options);
    let failed = command.env("TMPDIR", &refuge).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let message = stderr(&failed);
    assert!(message.contains("the log ends here"), "{message}");
    let rescued = message.lines().find_map(|line| {
        let line = line.strip_prefix("The picture is written to ")?;
        line.strip_suffix(" instead.")
    });
    Picture::open(rescued.unwrap()).unwrap();
    assert!(rescued.unwrap().starts_with(&refuge), "{message}");
    assert!(Path::new(&files.path("curves.svg")).exists());
    assert!(Path::new(&files.path("full.png")).is_symlink());
    assert_eq!(
        fs::read(files.path("refuge/full.png")).unwrap(),
        b"an older file"
    );
    assert_eq!(fs::read_dir(&refuge).unwrap().count(), 2);

    let sheet = files.path("full.png");
    let arguments = [
        "features",
        &files.scene,
        "-o",
        &sheet,
        "--size",
        "32",
        "--cell",
        "16",
    ];
    let mut command = impasto(&arguments);
    command.args(["--weights", &files.weights, "--channels", "2"]);
    let failed = command.env("TMPDIR", &refuge).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("instead."), "{}", stderr(&failed));
    assert_eq!(fs::read_dir(&refuge).unwrap().count(), 3);
}

#[test]
fn names_need_not_be_unicode_anywhere() {
    let files = files();
    let odd = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    let folder = files.folder.path().join(odd(b"\xff"));
    fs::create_dir(&folder).unwrap();
    fs::copy(&files.scene, folder.join(odd(b"-caf\xe9.jpg"))).unwrap();
    fs::copy(&files.style, folder.join(odd(b"style\xe9"))).unwrap();
    fs::copy(&files.weights, folder.join(odd(b"w\xe9.safetensors"))).unwrap();
    fs::write(
        folder.join(odd(b"r\xe9.json")),
        "{\"iterations\": 2, \"size\": 32}",
    )
    .unwrap();
    let mut command = impasto(&["batch", "-q", "--style"]);
    command.arg(odd(b"style\xe9"));
    command.arg("--init").arg(odd(b"style\xe9"));
    command.arg("--weights").arg(odd(b"w\xe9.safetensors"));
    command.arg("--recipe").arg(odd(b"r\xe9.json"));
    command.arg("-o").arg(odd(b"\xe9{name}.png"));
    command.arg("--log").arg(odd(b"{name}.log\xe9"));
    command.arg("--").arg(odd(b"-caf\xe9.jpg"));
    let done = command.current_dir(&folder).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    Picture::open(folder.join(odd(b"\xe9-caf\xe9.png"))).unwrap();
    assert!(folder.join(odd(b"-caf\xe9.log\xe9")).exists());
}

#[test]
fn patterns_that_the_shell_has_left_are_replaced_by_files() {
    let files = files();
    for name in ["b.jpg", "a.jpg"] {
        fs::copy(&files.scene, files.path(name)).unwrap();
    }
    fs::create_dir(files.path("folder")).unwrap();
    let batch = |arguments: &[&str]| {
        let mut command = impasto(&["batch", "--weights", &files.weights, "--size", "32"]);
        command
            .args(["--iterations", "1", "--style", "st*.jpg"])
            .args(arguments);
        command.current_dir(files.folder.path()).output().unwrap()
    };
    let done = batch(&["[ab].jpg", "-o", "folder/{name}.png"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let message = stderr(&done);
    let order = ["1 of 2: a.jpg", "2 of 2: b.jpg"].map(|words| message.find(words));
    assert!(order[0].is_some() && order[0] < order[1], "{message}");
    for (arguments, words) in [
        (
            &["*.gif", "-o", "{name}.png"][..],
            "*.gif: no file has a name like this",
        ),
        (
            &["folder", "-o", "{name}.png"],
            "folder: this is a folder; name the pictures in it",
        ),
        (&["*.jpg", "-o", "folder/../{name}.jpg"], "would overwrite"),
    ] {
        let refused = batch(arguments);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
}

#[test]
fn an_empty_environment_variable_counts_as_none() {
    let files = files();
    let mut command = stylize_here(&files, &["-o", "out.png", "--dry-run"]);
    let planned = command.env("IMPASTO_WEIGHTS", "").output().unwrap();
    assert!(planned.status.success(), "{}", stderr(&planned));
    let mut command = impasto(&["weights", "path"]);
    let missing = command.env("IMPASTO_WEIGHTS", "").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("impasto weights download"));
}

#[test]
fn optimisers_have_options_of_their_own() {
    let files = files();
    let plan = |options: &[&str]| {
        let mut command = stylize_here(&files, &["-o", "out.png", "--dry-run"]);
        command.args(options).output().unwrap()
    };
    for (options, words) in [
        (
            &["--optimizer", "adam", "--learning-rate", "0.125"][..],
            "0.125",
        ),
        (&["--optimizer", "lbfgs", "--history", "37"], "37"),
    ] {
        let planned = plan(options);
        assert!(planned.status.success(), "{}", stderr(&planned));
        let text = String::from_utf8(planned.stdout).unwrap();
        assert!(text.contains(words), "{text}");
    }
    for (options, words) in [
        (
            &["--optimizer", "lbfgs", "--learning-rate", "0.1"][..],
            "--learning-rate works with Adam only",
        ),
        (
            &["--optimizer", "adam", "--history", "5"],
            "--history works with L-BFGS only",
        ),
        (
            &["--optimizer", "adam", "--learning-rate=-1"],
            "learning_rate` is -1",
        ),
        (
            &["--optimizer", "adam", "--learning-rate", "nan"],
            "learning_rate` is not a number",
        ),
        (
            &["--optimizer", "lbfgs", "--history", "100000"],
            "history` is 100000",
        ),
    ] {
        let refused = plan(options);
        assert_eq!(refused.status.code(), Some(2), "{options:?}");
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
}
