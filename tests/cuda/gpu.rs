//! The device under test, a case on it, and what the virtual GPU counts meanwhile.

use lseg_fast::device::Executor;
use lseg_fast::device::cuda::{Cuda, last_fault};
use serde::Deserialize;

use crate::cases::{Case, Prepared, run};

/// The first GPU; `None`, and a message, where there is none or no kernels were built.
pub fn device() -> Option<Cuda> {
    match Cuda::new(0) {
        Ok(cuda) => Some(cuda),
        Err(reason) => {
            // Where everything is there, as `cargo xtask test` says, nothing may be skipped.
            let all_there = ["VGPU_LIB", "LSEG_NVCC"].iter().all(|name| std::env::var_os(name).is_some());
            assert!(!all_there, "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// As [`device`], the virtual GPU alone.
pub fn virtual_device() -> Option<Cuda> {
    let mut cuda = device()?;
    if !cuda.info().is_virtual {
        eprintln!("skipped: {} counts nothing", cuda.info().name);
        return None;
    }
    cuda.record_counts();
    Some(cuda)
}

/// The output's numbers, or what went wrong: the virtual GPU's report where it has one. A fault kills the device.
pub fn run_case(device: &mut Cuda, case: &Case, prepared: &Prepared) -> Result<Vec<f32>, String> {
    match run::run(device, &case.op, prepared) {
        Ok(bytes) => Ok(run::numbers(&bytes, prepared.out_element, device.activation_bytes())),
        Err(reason) => Err(last_fault().filter(|report| !report.is_empty()).unwrap_or_else(|| reason.to_string())),
    }
}

/// One launch as the virtual GPU counted it.
#[derive(Clone, Debug, Deserialize)]
pub struct Launch {
    pub kernel: String,
    pub counts: Counts,
}

/// What the tests look at; vgpu/src/counts.rs says what each is.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counts {
    pub mma_flop: u64,
    pub shared_wavefronts: u64,
    pub shared_conflicts: u64,
    pub global_load_sectors: u64,
    pub global_load_least_sectors: u64,
    pub unique_load_sectors: u64,
    pub unique_store_sectors: u64,
    pub local_bytes: u64,
}

/// The launches since the last call, on a [`virtual_device`].
pub fn launches(device: &mut Cuda) -> Vec<Launch> {
    let parse = |text: &String| serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    device.take_counts().iter().map(parse).collect()
}
