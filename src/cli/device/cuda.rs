//! NVIDIA GPUs: which there are, and whether kernels can be compiled for them.
//!
//! Three things are needed on the machine: the driver, NVRTC (the library that compiles kernels) and
//! CUDA's headers, which NVRTC does not bring. Burn panics where one is missing, so each is looked for
//! here first, in the places in which Burn will look.

use std::ffi::{CStr, c_int};
use std::path::Path;

use cubecl::cuda::install::cuda_path;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute};
use cudarc::nvrtc::sys as nvrtc;

use super::Device;
use super::adapters::{Adapter, Memory, Survey, no_such_adapter};

/// All GPUs, and why they cannot be used if they cannot.
pub fn survey() -> Survey {
    match adapters() {
        Ok(mut adapters) => {
            for (index, gpu) in (0..).zip(&mut adapters) {
                if let Some(memory) = &mut gpu.memory {
                    memory.free = free_memory(index).ok();
                }
            }
            let reason = adapters.first().and_then(|gpu| check_compiler(gpu).err());
            (adapters, reason)
        }
        Err(reason) => (Vec::new(), Some(reason)),
    }
}

/// The GPU of that number, if everything is there to compute on it; else what to do about it.
pub fn check(index: usize) -> Result<Adapter, String> {
    let mut adapters = adapters()?;
    if index >= adapters.len() {
        return Err(no_such_adapter(Device::Cuda(index), &adapters));
    }
    let adapter = adapters.swap_remove(index);
    check_compiler(&adapter)?;
    Ok(adapter)
}

fn adapters() -> Result<Vec<Adapter>, String> {
    // SAFETY: loads the driver's library, as its first use would.
    if !unsafe { sys::is_culib_present() } {
        let library = match cfg!(windows) {
            true => "nvcuda.dll",
            false => "libcuda.so.1",
        };
        return Err(format!(
            "found no NVIDIA driver ({library}): install the one for the GPU, or take another --device"
        ));
    }
    let count = result::init().and_then(|()| result::device::get_count());
    let count = match count {
        Ok(0) | Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => {
            return Err(
                "the NVIDIA driver finds no GPU: see what `nvidia-smi` lists, and whether \
                        CUDA_VISIBLE_DEVICES hides it"
                    .into(),
            );
        }
        Ok(count) => count,
        Err(error) => {
            return Err(format!(
                "the NVIDIA driver does not start: {}; see what `nvidia-smi` says",
                describe(error)
            ));
        }
    };
    (0..count)
        .map(|index| adapter(index).map_err(describe))
        .collect()
}

fn adapter(index: c_int) -> Result<Adapter, DriverError> {
    let device = result::device::get(index)?;
    // SAFETY: `device` is one of the driver's; so below.
    let attribute = |name| unsafe { result::device::get_attribute(device, name) };
    let capability = (
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let integrated = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0;
    let driver = driver_version()?;
    Ok(Adapter {
        device: format!("cuda:{index}"),
        name: result::device::get_name(device)?,
        kind: if integrated {
            "integrated GPU"
        } else {
            "discrete GPU"
        },
        api: "CUDA",
        driver: format!("for CUDA {}.{}", driver.0, driver.1),
        memory: Some(Memory {
            total: unsafe { result::device::total_mem(device)? } as u64,
            free: None,
        }),
        largest_tensor: None,
        compute_capability: Some(format!("{}.{}", capability.0, capability.1)),
        abilities: abilities(capability),
        default: index == 0,
    })
}

/// The newest version of CUDA that the driver knows.
fn driver_version() -> Result<(c_int, c_int), DriverError> {
    let mut version = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
    Ok((version / 1000, version % 1000 / 10))
}

/// What other programs leave of a GPU's memory. Takes longer than all the rest.
fn free_memory(index: c_int) -> Result<u64, DriverError> {
    let device = result::device::get(index)?;
    // SAFETY: `device` is one of the driver's, and its context is given back as often as it is taken.
    unsafe {
        let context = result::primary_ctx::retain(device)?;
        let memory = result::ctx::set_current(context).and_then(|()| result::mem_get_info());
        let released = result::primary_ctx::release(device);
        let (free, _) = memory?;
        released.map(|()| free as u64)
    }
}

/// What GPUs of a compute capability can do.
fn abilities(capability: (c_int, c_int)) -> Vec<&'static str> {
    let all = [
        ((5, 3), "f16"),
        ((8, 0), "bf16"),
        ((7, 0), "f16 tensor cores"),
        ((8, 0), "bf16 tensor cores"),
        ((8, 0), "TF32 tensor cores"),
        ((3, 0), "subgroups"),
    ];
    let able = all.iter().filter(|(least, _)| capability >= *least);
    able.map(|(_, ability)| *ability).collect()
}

/// Checks that kernels can be compiled for a GPU.
fn check_compiler(gpu: &Adapter) -> Result<(), String> {
    check_nvrtc(gpu)?;
    check_headers(cuda_path().as_deref())
}

fn check_nvrtc(gpu: &Adapter) -> Result<(), String> {
    // SAFETY: loads the library, as its first use would.
    if !unsafe { nvrtc::is_culib_present() } {
        let names = cudarc::get_lib_name_candidates("nvrtc");
        // The names of the other platforms are tried as well, in vain.
        let usual = |name: &&String| name.contains("64") == cfg!(windows);
        let names: Vec<&str> = names.iter().filter(usual).map(String::as_str).collect();
        return Err(format!(
            "found no NVRTC, the library that compiles CUDA kernels ({}): install CUDA's toolkit or \
             its package cuda-nvrtc, or `pip install nvidia-cuda-nvrtc-cu12` and name the folder of \
             the library in {}",
            names.join(", "),
            if cfg!(windows) {
                "PATH"
            } else {
                "LD_LIBRARY_PATH"
            }
        ));
    }
    let (version, architectures) = nvrtc_support();
    let (major, minor) = version;
    // Within a major version some are understood and some are not.
    if let Ok(driver) = driver_version()
        && major > driver.0
    {
        return Err(format!(
            "NVRTC {major}.{minor} is newer than the NVIDIA driver, which knows CUDA {}.{} and none of \
             its kernels: update the driver, or install NVRTC {}",
            driver.0, driver.1, driver.0
        ));
    }
    let capability = gpu.compute_capability.as_deref().unwrap_or_default();
    let architecture = capability.replace('.', "").parse().unwrap_or(0);
    match architectures.is_empty() || architectures.contains(&architecture) {
        true => Ok(()),
        false => Err(format!(
            "NVRTC {major}.{minor} cannot compile for the {}, whose compute capability is \
             {capability}: install another version of CUDA",
            gpu.name
        )),
    }
}

/// The version of NVRTC, and the architectures that it compiles for; empty if it does not tell.
fn nvrtc_support() -> ((c_int, c_int), Vec<c_int>) {
    let (mut major, mut minor, mut count) = (0, 0, 0);
    let done = |code: nvrtc::nvrtcResult| code.result().is_ok();
    // SAFETY: each call writes as many numbers as there is room for.
    unsafe {
        done(nvrtc::nvrtcVersion(&mut major, &mut minor));
        let known = done(nvrtc::nvrtcGetNumSupportedArchs(&mut count));
        let mut architectures = vec![0; if known { count.max(0) as usize } else { 0 }];
        if !architectures.is_empty()
            && !done(nvrtc::nvrtcGetSupportedArchs(architectures.as_mut_ptr()))
        {
            architectures.clear();
        }
        ((major, minor), architectures)
    }
}

fn check_headers(cuda: Option<&Path>) -> Result<(), String> {
    let header = "include/cuda_runtime.h";
    match cuda {
        Some(folder) if folder.join(header).is_file() => Ok(()),
        found => {
            let place = match found {
                Some(folder) => format!("there is no {}", folder.join(header).display()),
                None => format!(
                    "there is no {header} in /usr/local/cuda or /opt/cuda, and CUDA_PATH is not set"
                ),
            };
            Err(format!(
                "found no CUDA headers, which kernels are compiled with ({place}): install CUDA's \
                 toolkit or its packages cuda-cudart-dev and cuda-crt (before CUDA 13: cuda-nvcc), \
                 and name the folder that holds `include` in CUDA_PATH if it is another"
            ))
        }
    }
}

/// An error in the driver's own words.
fn describe(error: DriverError) -> String {
    let text = |text: Result<&CStr, DriverError>| {
        text.map_or("unknown error".into(), |text| {
            text.to_string_lossy().into_owned()
        })
    };
    format!(
        "{} ({})",
        text(error.error_string()),
        text(error.error_name())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_looked_for_where_they_are_compiled_with() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_headers(Some(folder.path())).unwrap_err();
        assert!(
            error.contains("CUDA_PATH") && error.contains("cuda_runtime.h"),
            "{error}"
        );
        std::fs::create_dir(folder.path().join("include")).unwrap();
        std::fs::write(folder.path().join("include/cuda_runtime.h"), "").unwrap();
        assert_eq!(check_headers(Some(folder.path())), Ok(()));
        assert!(check_headers(None).unwrap_err().contains("/usr/local/cuda"));
    }

    #[test]
    fn abilities_follow_the_compute_capability() {
        assert_eq!(abilities((3, 5)), ["subgroups"]);
        let turing = abilities((7, 5));
        assert!(turing.contains(&"f16 tensor cores") && !turing.contains(&"bf16"));
        assert!(abilities((9, 0)).contains(&"TF32 tensor cores"));
    }

    /// Also where there is neither a driver nor a GPU.
    #[test]
    fn a_survey_never_panics_and_a_missing_gpu_is_named() {
        let (adapters, reason) = survey();
        assert!(!adapters.is_empty() || reason.is_some());
        assert!(check(9999).is_err());
    }
}
