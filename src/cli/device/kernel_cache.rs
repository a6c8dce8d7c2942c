//! A place for what is compiled for a GPU, kept between runs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use impasto::pretrained::Cache;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use super::Adapter;
use crate::cli::console::say;

/// How long the kernels of a build that is no longer used are kept.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Written anew by each run that uses the folder beside it.
const LAST_USE: &str = "last-use";

/// Has the kernels for a GPU kept, with what Burn's autotuner measures where it is built in, and says so
/// on the first run on it. Can be called once in the life of the program, before anything is computed.
/// Where they cannot be kept they are in a folder that goes when the result is dropped.
pub fn open(gpu: &Adapter, quiet: bool) -> Option<TempDir> {
    let kept = Cache::open()
        .map_err(io::Error::other)
        .and_then(|cache| prepare(&cache.folder().join("kernels"), gpu));
    let place = match &kept {
        Ok(kept) if !kept.new => None,
        Ok(kept) => Some(format!("the results are kept in {}", kept.folder.display())),
        Err(error) => Some(format!("the results cannot be kept ({error})")),
    };
    if let Some(place) = place.filter(|_| !quiet) {
        say(&format!(
            "First run on {}: kernels are compiled for it, which takes a while; {place}.",
            gpu.name
        ));
    }
    let (folder, temporary) = match kept {
        Ok(kept) => (Some(kept.folder), None),
        Err(_) => {
            let temporary = tempfile::tempdir().ok();
            (
                temporary.as_ref().map(|folder| folder.path().into()),
                temporary,
            )
        }
    };
    let mut config = CubeClRuntimeConfig::default();
    if let Some(folder) = folder {
        config.autotune.cache = CacheConfig::File(folder.clone());
        config.compilation.cache = Some(CacheConfig::File(folder));
    }
    CubeClRuntimeConfig::set(config.override_from_env());
    temporary
}

/// A folder for a GPU and this build of the program.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    folder: PathBuf,
    new: bool,
}

/// Makes the folder if it is not there.
fn prepare(kernels: &Path, gpu: &Adapter) -> io::Result<Kept> {
    let build = kernels.join(this_build()?);
    let first_of_build = !build.is_dir();
    let folder = build.join(file_name(gpu));
    let new = !folder.is_dir();
    fs::create_dir_all(&folder)?;
    // Burn waits half a minute for the lock of a file in a folder that is not writable.
    File::create(folder.join(LAST_USE))?;
    File::create(build.join(LAST_USE))?;
    if first_of_build {
        remove_unused(kernels);
    }
    Ok(Kept { folder, new })
}

/// Names the build of the program: kernels are kept by their names, and those of another build may
/// do something else under the same name.
fn this_build() -> io::Result<String> {
    let facts = fs::metadata(std::env::current_exe()?)?;
    let built = facts.modified()?.duration_since(UNIX_EPOCH);
    let built = built.unwrap_or_default().as_nanos();
    let sum = xxh3_64(format!("{} {built}", facts.len()).as_bytes());
    Ok(format!("{}-{sum:016x}", env!("CARGO_PKG_VERSION")))
}

/// Names a GPU: kernels are compiled for its architecture, and how fast they are depends on its driver.
fn file_name(gpu: &Adapter) -> String {
    let sum = xxh3_64(format!("{} {}", gpu.api, gpu.driver).as_bytes());
    let name: String = gpu
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(48)
        .collect();
    format!("{name}-{sum:016x}")
}

/// Removes the folders of builds that have not run for long.
fn remove_unused(kernels: &Path) {
    for entry in fs::read_dir(kernels).into_iter().flatten().flatten() {
        let used = fs::metadata(entry.path().join(LAST_USE)).and_then(|facts| facts.modified());
        let age = used.ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > UNUSED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn gpu(name: &str, driver: &str) -> Adapter {
        Adapter {
            device: "wgpu:0".into(),
            name: name.into(),
            kind: "discrete GPU",
            api: "Vulkan",
            driver: driver.into(),
            memory: None,
            largest_tensor: None,
            compute_capability: None,
            abilities: Vec::new(),
            default: true,
        }
    }

    #[test]
    fn each_gpu_and_driver_has_a_folder_which_is_new_once() {
        let kernels = tempfile::tempdir().unwrap();
        let open = |name, driver| prepare(kernels.path(), &gpu(name, driver)).unwrap();
        let first = open("A/B: 100%", "1");
        assert!(first.new && first.folder.is_dir());
        let again = open("A/B: 100%", "1");
        assert!(!again.new && again.folder == first.folder);
        let other = open("A/B: 100%", "2");
        assert!(other.new && other.folder != first.folder);
        assert_eq!(other.folder.parent(), first.folder.parent());
        assert!(open("C", "1").new);
    }

    #[test]
    fn folders_of_builds_that_no_longer_run_are_removed() {
        let kernels = tempfile::tempdir().unwrap();
        let make = |name: &str, age: Duration| {
            let folder = kernels.path().join(name);
            fs::create_dir(&folder).unwrap();
            let file = File::create(folder.join(LAST_USE)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
            folder
        };
        let (old, recent) = (make("old", 2 * UNUSED), make("recent", UNUSED / 2));
        prepare(kernels.path(), &gpu("A", "1")).unwrap();
        assert!(!old.exists() && recent.exists());
    }
}
