//! Names with `*`, `?` or `[…]`, where the shell has not replaced them by the files that they stand for,
//! and `{name}` in the names of results.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap_lex::OsStrExt;
use globset::GlobBuilder;

use super::failure::Failure;

/// What stands for the content picture's name in the name of a result.
pub const NAME: &str = "{name}";

/// Replaces each path that does not exist and has `*`, `?` or `[` in it by the files that it stands
/// for, in the order of their names.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut expanded = Vec::new();
    for path in paths {
        match path.to_str().filter(|text| is_pattern(text)) {
            Some(pattern) if !path.exists() => expanded.extend(files(pattern)?),
            _ => expanded.push(path.clone()),
        }
    }
    Ok(expanded)
}

/// The files that a pattern stands for, as shells understand it: folder by folder, since names need not
/// be Unicode.
fn files(pattern: &str) -> Result<Vec<PathBuf>, Failure> {
    let failed = |problem: &str| Failure::usage(format!("{pattern}: {problem}"));
    let mut paths = vec![PathBuf::new()];
    for part in Path::new(pattern).components() {
        let name = part.as_os_str();
        let Some(glob) = name.to_str().filter(|name| is_pattern(name)) else {
            paths.iter_mut().for_each(|path| path.push(name));
            continue;
        };
        let matcher = GlobBuilder::new(glob)
            .case_insensitive(cfg!(windows))
            .build()
            .map_err(|error| failed(&error.kind().to_string()))?
            .compile_matcher();
        let mut found = Vec::new();
        for folder in paths {
            let listed = match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => &folder,
            };
            // What is no folder, or closed, has no files of this name.
            for entry in fs::read_dir(listed).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let hidden = name.as_encoded_bytes().starts_with(b".");
                if (!hidden || glob.starts_with('.')) && matcher.is_match(&name) {
                    found.push(folder.join(name));
                }
            }
        }
        paths = found;
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    match paths.is_empty() {
        true => Err(failed("no file has a name like this")),
        false => Ok(paths),
    }
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The name of a result: a pattern with `{name}` replaced by the name of the content picture without
/// its extension, whatever bytes it consists of.
pub fn fill_in(pattern: &Path, content: &Path) -> PathBuf {
    let name = content.file_stem().unwrap_or_default();
    let mut parts = pattern.as_os_str().split(NAME);
    let mut filled = parts.next().unwrap_or_default().to_os_string();
    for part in parts {
        filled.push(name);
        filled.push(part);
    }
    OsString::into(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("c.png")).unwrap();
        for name in ["b.png", "a.png", "[x].png", ".hidden.png", "b.jpg"] {
            fs::write(path(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = expand(&[path(pattern)]).unwrap();
            let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            found.iter().map(name).collect()
        };
        assert_eq!(names("*.png"), ["[x].png", "a.png", "b.png"]);
        assert_eq!(names("b.[jp]*g"), ["b.jpg", "b.png"]);
        assert_eq!(names("?.png"), ["a.png", "b.png"]);
        // Names that exist are taken as they are, and so is what is no pattern.
        assert_eq!(names("[x].png"), ["[x].png"]);
        assert_eq!(names("missing.png"), ["missing.png"]);
        for (pattern, words) in [("*.gif", "no file"), ("[", "*.gif: "), ("c*", "no file")] {
            let problem = expand(&[path(pattern)]).unwrap_err().to_string();
            let words = words.strip_prefix("*.gif").unwrap_or(words);
            assert!(
                problem.contains(pattern) && problem.contains(words),
                "{problem}"
            );
        }
    }

    #[test]
    fn results_are_named_after_contents() {
        let fill_in = |pattern: &str, content: &str| fill_in(pattern.as_ref(), content.as_ref());
        assert_eq!(fill_in("p/{name}.png", "a/b.c.jpg"), Path::new("p/b.c.png"));
        assert_eq!(
            fill_in("{name}-{name}", "{name}.jpg"),
            Path::new("{name}-{name}")
        );
        assert_eq!(fill_in("plain.png", "a.jpg"), Path::new("plain.png"));
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_unicode_survive() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let odd = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
        let filled = fill_in(odd(b"\xff-{name}.png"), odd(b"caf\xe9.jpg"));
        assert_eq!(filled, odd(b"\xff-caf\xe9.png"));
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join(odd(b"\xfe"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join(odd(b"\xff.png")), "").unwrap();
        let found = expand(&[folder.path().join("?/*.png")]).unwrap();
        assert_eq!(found, [inner.join(odd(b"\xff.png"))]);
    }
}
