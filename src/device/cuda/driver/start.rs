//! Finding the driver, starting it, and its devices by number.

#![allow(unsafe_code)]

use std::sync::OnceLock;

use super::explain::{Explain, explain};
use super::out_param;
use crate::device::cuda::codes::Code;
use crate::device::cuda::sys;
use crate::error::{Error, Result};

/// The oldest driver, as drivers count: CUDA 11.4, which is 470.
const OLDEST_DRIVER: i32 = 11_040;

/// Whether the driver is installed.
pub fn is_present() -> bool {
    // SAFETY: only looks for the library.
    unsafe { sys::is_culib_present() }
}

/// The file that the driver was loaded from, where the system tells.
pub fn file() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let named = |path: &&str| path.rsplit('/').next().is_some_and(|name| name.starts_with("libcuda.so"));
    // "7f…-7f… r--p 00000000 08:01 1234   /usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06"
    maps.lines().filter_map(|line| Some(&line[line.find('/')?..])).find(named).map(str::to_owned)
}

/// Starts the driver, however often it is called; the number of GPUs.
///
/// # Errors
/// No driver, one that is too old, or one that finds no GPU.
pub fn count() -> Result<usize> {
    start().map_err(|error| unusable(&error.to_string()))
}

/// What a whole machine, or a build, lacks.
pub fn unusable(reason: &str) -> Error {
    Error::Device(format!("no CUDA device can be used: {reason}"))
}

/// The process that started the driver.
static STARTED_IN: OnceLock<u32> = OnceLock::new();

fn start() -> Result<usize> {
    if !is_present() {
        return Err(Error::Device("there is no libcuda on this machine (install NVIDIA's driver)".to_owned()));
    }
    let this = std::process::id();
    // A child has the driver's memory, but nothing of what stands behind it.
    if *STARTED_IN.get_or_init(|| this) != this {
        let what = "the process that this one was forked from has begun to use CUDA, which a child cannot go on with: start \
                    processes by other means (Python: multiprocessing's start method spawn)";
        return Err(Error::Device(what.to_owned()));
    }
    if let Some(name) = sys::missing() {
        let found = format!("the driver ({}) has no {name}", file_or_unknown());
        return Err(Error::Device(format!("{found}, and one for CUDA 11.4 (470) or newer is needed")));
    }
    // SAFETY: a valid place for an int; this may be asked before the driver is started.
    let version = out_param(0, |version| unsafe { sys::cuDriverGetVersion(version) })
        .map_err(|code| unfit("asking for the driver's version", code))?;
    if version < OLDEST_DRIVER {
        let found = format!("the driver is for CUDA {}.{}", version / 1000, version % 1000 / 10);
        return Err(Error::Device(format!("{found}, and one for CUDA 11.4 (470) or newer is needed")));
    }
    // SAFETY: it takes no pointer, and may be called again.
    unsafe { sys::cuInit(0) }.map_err(|code| unfit("starting the CUDA driver", code))?;
    // SAFETY: a valid place for an int.
    let count = out_param(0, |count| unsafe { sys::cuDeviceGetCount(count) });
    usize::try_from(count.during(|| "counting the CUDA devices".to_owned())?)
        .ok()
        .filter(|count| *count > 0)
        .ok_or(Error::Device("the CUDA driver finds no device".to_owned()))
}

fn file_or_unknown() -> String {
    file().unwrap_or_else(|| "a file that is not known".to_owned())
}

/// A driver that does not even start: which file it is tells the most.
fn unfit(what: &str, code: Code) -> Error {
    let advice = if code == Code::STUB_LIBRARY {
        ", the toolkit's stub, which is for linking alone: take its folder out of LD_LIBRARY_PATH"
    } else {
        ""
    };
    code.error(format!("{} (libcuda was found as {}{advice})", explain(what, code), file_or_unknown()))
}

pub(super) fn device(ordinal: usize) -> Result<sys::CUdevice> {
    let count = count()?;
    if ordinal >= count {
        let s = if count == 1 { "" } else { "s" };
        return Err(Error::Device(format!("this machine has {count} CUDA device{s}, from 0: there is no {ordinal}")));
    }
    // SAFETY: a valid place for a device.
    out_param(0, |device| unsafe { sys::cuDeviceGet(device, ordinal as i32) })
        .during(|| format!("looking for CUDA device {ordinal}"))
}
